// Command writer is what runs in the containers of the failover suite. It is static and needs nothing of its image.
//
//	writer write DIR STREAM [INTERVAL]   appends records to the files in DIR until it is ended. Each is told to the outside once it is on the disk
//	writer dump DIR...                   prints what the files hold, for the suite to judge
//	writer hold [STREAM]                 says that it is up, and does nothing until it is ended
//	writer knock SOCKET DURATION         connects all the time, and fails if one connection was refused
//	writer api METHOD PATH[ BODY]...     asks dockerd, or whoever serves $SOCKET, and prints each answer's status and body
//	writer must METHOD PATH[ BODY]...    asks dockerd, and fails with the first answer that is an error
//	writer listen ADDRESS FILE           keeps in FILE what is posted to it, a line for each
//	writer put FILE TEXT | get FILE | ls DIR
//
// It promises that a line "ack" is sent only after fsync of all that the record changed has returned, and that it never writes over a log that it
// cannot read: then it says "bad" and ends with status 3.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	verbs := map[string]struct {
		least int // arguments
		do    func(context.Context, []string) error
	}{
		"write": {2, func(ctx context.Context, args []string) error {
			interval, err := time.ParseDuration(append(args, "50ms")[2])
			if err != nil {
				return err
			}
			return write(ctx, args[0], args[1], interval)
		}},
		"dump": {1, func(_ context.Context, args []string) error {
			for _, dir := range args {
				if err := dump(dir, os.Stdout); err != nil {
					return fmt.Errorf("dump %s: %w", dir, err)
				}
			}
			return nil
		}},
		"hold": {0, func(ctx context.Context, args []string) error { return hold(ctx, strings.Join(args, "-")) }},
		"knock": {2, func(ctx context.Context, args []string) error {
			long, err := time.ParseDuration(args[1])
			if err != nil {
				return err
			}
			return knock(ctx, args[0], long)
		}},
		"api":    {2, func(ctx context.Context, args []string) error { return api(ctx, args, false, os.Stdout) }},
		"must":   {2, func(ctx context.Context, args []string) error { return api(ctx, args, true, os.Stdout) }},
		"listen": {2, func(ctx context.Context, args []string) error { return listen(ctx, args[0], args[1]) }},
		"put":    {2, func(_ context.Context, args []string) error { return put(args[0], args[1]) }},
		"get":    {1, func(_ context.Context, args []string) error { return get(args[0]) }},
		"ls":     {1, func(_ context.Context, args []string) error { return list(args[0]) }},
	}
	if len(args) == 0 {
		return errors.New("say what to do: write, dump, hold, knock, api, must, listen, put, get or ls")
	}
	verb, ok := verbs[args[0]]
	if !ok || len(args)-1 < verb.least {
		return fmt.Errorf("%s with %d arguments is not known", args[0], len(args)-1)
	}
	return verb.do(ctx, args[1:])
}

// hold is a service that needs its volume and does nothing with it.
func hold(ctx context.Context, stream string) error {
	if stream != "" {
		out := talk(stream)
		defer out.close()
		out.say(ctx, up())
	}
	<-ctx.Done()
	return nil
}

// knock connects to the socket again and again, as dockerd does: it must never find it closed.
func knock(ctx context.Context, socket string, long time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	tried, refused := 0, 0
	var last error
	for ctx.Err() == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			tried, refused, last = tried+1, refused+1, err
		default:
			tried++
			_ = conn.Close() // nothing was asked
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d connections to %s were refused: %w", refused, tried, socket, last)
	}
	_, err := fmt.Fprintf(os.Stdout, "connected %d times\n", tried)
	return err
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

func get(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
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
