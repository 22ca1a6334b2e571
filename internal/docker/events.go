package docker

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/mooring-sh/mooring"
)

// Event is something that happened to a container.
type Event struct {
	At     time.Time
	Action string // create, start, kill, die, stop, pause, unpause, destroy, oom, rename, update, health_status: healthy …
	ID     string
	Labels map[string]string // the container's, among what else Docker tells of the event
	Signal syscall.Signal    // of a kill
}

// watched are the events that change what [Engine.Container] returns. Those of commands run in containers are not among them: a health
// check causes three each time.
func watched() []string {
	return []string{
		"create", "start", "restart", "kill", "die", "stop", "pause", "unpause", "destroy", "oom", "rename", "update", "health_status",
	}
}

// Events calls tell for what happens to containers that have the label, one at a time, until the daemon ends, or ctx. When the stream stands, opened is called
// first. The error says why it ended, and is never nil.
func (e *Engine) Events(ctx context.Context, label string, opened func(), tell func(Event)) error {
	api, err := e.begin(ctx)
	if err != nil {
		return fmt.Errorf("listen to Docker's events: %w", err)
	}
	defer e.renew()
	args := filters.NewArgs(filters.Arg("type", "container"), filters.Arg("label", label))
	for _, name := range watched() {
		args.Add("event", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, errs := api.Events(ctx, events.ListOptions{Filters: args})
	select {
	case err := <-errs:
		return fmt.Errorf("listen to Docker's events: %w: %w", err, mooring.ErrUnavailable)
	default:
	}
	opened()
	for {
		select {
		case m := <-messages:
			tell(event(m))
		case err := <-errs:
			return fmt.Errorf("listen to Docker's events: %w: %w", err, mooring.ErrUnavailable)
		}
	}
}

func event(m events.Message) Event {
	e := Event{At: time.Unix(0, m.TimeNano), Action: string(m.Action), ID: m.Actor.ID, Labels: m.Actor.Attributes}
	if n, err := strconv.Atoi(m.Actor.Attributes["signal"]); err == nil {
		e.Signal = syscall.Signal(n)
	}
	return e
}
