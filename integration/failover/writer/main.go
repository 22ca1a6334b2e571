// Command writer is what runs in the containers of the failover suite. It is static and needs nothing of its image.
//
//	writer write DIR STREAM [INTERVAL]   appends records to the files in DIR until it is ended. Each is told to the outside once it is on the disk
//	writer dump DIR                      prints what the files hold, for the suite to judge
//	writer hold [STREAM]                 says that it is up, and does nothing until it is ended
//	writer put FILE TEXT | get FILE | ls DIR
//
// It promises that a line "ack" is sent only after fsync of all that the record changed has returned, and that it never writes over a log that it
// cannot read: then it says "bad" and ends with status 3.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// linesSocket is where the agent in the guest takes lines for the outside.
const linesSocket = "/run/mooring-lab/lines.sock"

// errBad is a log that has lost something.
var errBad = errors.New("the log is damaged")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, errBad):
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 1 {
		return errors.New("say what to do: write, dump, hold, put, get or ls")
	}
	switch verb, args := args[0], args[1:]; {
	case verb == "write" && len(args) >= 2:
		interval := 50 * time.Millisecond
		if len(args) > 2 {
			var err error
			if interval, err = time.ParseDuration(args[2]); err != nil {
				return err
			}
		}
		return write(ctx, args[0], args[1], interval)
	case verb == "dump" && len(args) == 1:
		return dump(args[0], os.Stdout)
	case verb == "hold":
		return hold(ctx, strings.Join(args, "-"))
	case verb == "put" && len(args) == 2:
		return put(args[0], args[1])
	case verb == "get" && len(args) == 1:
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(b)
		return err
	case verb == "ls" && len(args) == 1:
		return list(args[0])
	default:
		return fmt.Errorf("%s with %d arguments is not known", verb, len(args))
	}
}

// hold is a service that needs its volume and does nothing with it.
func hold(ctx context.Context, stream string) error {
	if stream != "" {
		out := talk(stream)
		defer out.close()
		out.say(ctx, "up")
	}
	<-ctx.Done()
	return nil
}

// put writes a small file, and returns when it is on the disk.
func put(name, text string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

func list(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := fmt.Fprintln(os.Stdout, e.Name()); err != nil {
			return err
		}
	}
	return nil
}
