// Command mooring-supervisor brings a compose stack back after its machine was restarted, in order, proves that it answers, and says so; then it watches, and heals
// what falls over. It runs under systemd or by hand, as root.
//
// A bad configuration, no Docker, no compose or no plugin are never a reason not to start: it says what is wrong, and goes on as soon as it can. Without a stack in its
// configuration it is idle.
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

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == probeVerb {
		os.Exit(stack.ProbeMain(os.Args[2], os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "mooring-supervisor: %v\n", err)
	}
	os.Exit(mooring.ExitCode(err))
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("mooring-supervisor", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", config.SupervisorFile, "configuration file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, broken := config.LoadSupervisor(*file)
	log := newLog(stderr, cfg.LogLevel)
	if broken != nil {
		log.Error("configuration", "err", broken)
	}
	s, err := newService(cfg, broken, log)
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

// newLog writes to the journal, with fields of its own, where standard error leads there, and else lines to stderr.
func newLog(stderr io.Writer, level string) *slog.Logger {
	var least slog.Level // info
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	if ok, err := journal.StderrIsJournalStream(); ok && err == nil {
		return slog.New(&journald{least: least, send: journal.Send})
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: least}))
}
