// Command mooring-demo shows the main job on this machine: a compose stack with a registry, a database and a job log keeps
// all that it acknowledged while the volume driver and dockerd are killed under it and its disks leave the machine and come back.
//
// It runs in the lab (`bin/mooring-lab run -- bin/mooring-demo`), says each command that a person would type, and ends with a table of what was proved;
// anything that was not makes it exit 1. It never trusts Mooring's own word where vCenter, Docker or the bytes themselves
// can be asked, it takes down what it made whatever happens, and it touches no container, image or volume but its own.
package main

import (
	"context"
	"flag"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

func main() {
	cache := flag.String("cache", filepath.Join(".cache", "demo"), "`directory` that keeps the images of the stack's services")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, *cache))
}

// run plays the story and returns the exit code of [play.Talk.Show].
func run(ctx context.Context, out io.Writer, cache string) int {
	t := play.New(out)
	s, err := newStory(ctx, t, cache)
	if err != nil {
		t.Line("mooring-demo: " + err.Error())
		return 1
	}
	defer s.forget()
	return t.Show(ctx, s.steps())
}
