package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/images"
	"github.com/mooring-sh/mooring/supervisor/images/harbor"
)

// runner runs commands in the stack's services. The error wraps [mooring.ErrUnavailable] if the service is not ready.
type runner interface {
	Exec(ctx context.Context, service supervisor.ServiceName, argv []string, out io.Writer) error
}

// inService runs commands in one service, and keeps whether it was ready when it was asked last.
type inService struct {
	stack   runner
	service supervisor.ServiceName

	mu    sync.Mutex
	ready bool
}

// Run implements [harbor.Runner].
func (r *inService) Run(ctx context.Context, argv []string, out io.Writer) error {
	err := r.stack.Exec(ctx, r.service, argv, out)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = !errors.Is(err, mooring.ErrUnavailable)
	return err
}

// tags asks the stack's database for its tags: it is the [images.Tags] and [images.Needs] of a prover. What the last question for all of them came to it keeps.
type tags struct {
	harbor.Database

	in *inService

	mu   sync.Mutex
	last error
}

func newTags(stack runner, service supervisor.ServiceName) *tags {
	in := &inService{stack: stack, service: service}
	return &tags{Database: harbor.Database{Run: in}, in: in}
}

// Rows implements [images.Tags].
func (t *tags) Rows(ctx context.Context) (*images.Rows, error) {
	rows, err := t.Database.Rows(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
	return rows, err
}

// told says whether the last question for all tags had an answer, and why not; Unknown if the service was not ready.
func (t *tags) told() (mooring.Fact, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		return mooring.Yes, ""
	}
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	if !t.in.ready {
		return mooring.Unknown, t.last.Error()
	}
	return mooring.No, t.last.Error()
}
