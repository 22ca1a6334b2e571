// Command mooring-plugin is Docker's volume driver vmdk for hosts on vSphere. It takes its sockets from systemd, or makes them
// when it is run by hand, and serves dockerd until it is told to stop.
//
// A bad configuration, a bad password or no vCenter are never a reason not to start: what Docker asks about volumes that
// exist is answered, and the rest says what is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "mooring-plugin: %v\n", err)
	}
	os.Exit(mooring.ExitCode(err))
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("mooring-plugin", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", config.DefaultFile, "configuration file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, broken := config.Load(*file)
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level(cfg.LogLevel)}))
	if broken != nil {
		log.Error("configuration", "err", broken)
	}
	s, err := newService(cfg, broken, log)
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

func level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
