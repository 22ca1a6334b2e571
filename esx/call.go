package esx

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

const (
	// readAttempts and readPause are for requests that change nothing.
	readAttempts = 3
	readPause    = 200 * time.Millisecond
	// A task is asked how it is, ever more seldom. Asking survives the loss of the session, which a property collector's
	// filter does not, and costs vCenter nothing to clean up.
	firstPoll = 10 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

// vim returns a client for vCenter's own API which logs in, and logs in again, by itself. The error wraps [mooring.ErrUnavailable].
func (s *Session) vim(ctx context.Context) (*vim25.Client, error) {
	l, err := s.after(ctx, 0)
	if err != nil {
		return nil, explain(err)
	}
	c := *l.vim
	c.RoundTripper = vimTrip{s}
	return &c, nil
}

// vimTrip sends a request over the newest login, and over a newer one if vCenter says that there is no session: such a request was
// refused, so that sending it again is safe even if it is not idempotent.
type vimTrip struct{ s *Session }

// RoundTrip implements [soap.RoundTripper].
func (t vimTrip) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return t.s.trip(ctx, res, func(ctx context.Context, l *link) error { return l.vim.Client.RoundTrip(ctx, req, res) })
}

// pbmTrip is vimTrip for the storage policy service, which has the session of vCenter.
type pbmTrip struct{ s *Session }

// RoundTrip implements [soap.RoundTripper].
func (t pbmTrip) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return t.s.trip(ctx, res, func(ctx context.Context, l *link) error {
		c := l.vim.NewServiceClient(pbm.Path, pbm.Namespace)
		c.Cookie = l.vim.SessionCookie
		return c.RoundTrip(ctx, req, res)
	})
}

func (s *Session) trip(ctx context.Context, res soap.HasFault, send func(context.Context, *link) error) error {
	l, err := s.after(ctx, 0)
	if err != nil {
		return explain(err)
	}
	err = limited(ctx, func(ctx context.Context) error { return send(ctx, l) })
	if !sessionLost(err, res) {
		return err
	}
	if l, err = s.after(ctx, l.number); err != nil {
		return explain(err)
	}
	reflect.ValueOf(res).Elem().SetZero() // or the old fault would stand beside the new answer
	return limited(ctx, func(ctx context.Context) error { return send(ctx, l) })
}

// limited gives vCenter answerLimit for what do asks.
func limited(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errStalled)
	defer cancel()
	return withCause(ctx, do(ctx))
}

// sessionLost tells whether vCenter has ended the session. It says so with a fault, or, where properties are read, in the place of each of them.
func sessionLost(err error, res soap.HasFault) bool {
	if err != nil {
		return classOf(err) == session
	}
	var content []types.ObjectContent
	switch r := res.(type) {
	case *methods.RetrievePropertiesBody:
		if r.Res != nil {
			content = r.Res.Returnval
		}
	case *methods.RetrievePropertiesExBody:
		if r.Res != nil && r.Res.Returnval != nil {
			content = r.Res.Returnval.Objects
		}
	}
	for _, o := range content {
		for _, m := range o.MissingSet {
			if fault.Is(&m.Fault, &types.NotAuthenticated{}) {
				return true
			}
		}
	}
	return false
}

// read does what changes nothing, again if vCenter was not understood; not if it cannot be reached or does not answer, because the caller is to know soon.
func read(ctx context.Context, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		if err == nil {
			return nil
		}
		c := classOf(err)
		again := (c == unknown && !errors.Is(err, errStalled)) || c == busy
		if !again || attempt == readAttempts || ctx.Err() != nil {
			return explain(err)
		}
		if err := pause(ctx, readPause); err != nil {
			return explain(err)
		}
	}
}

// pause waits, or returns why ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ping asks vCenter for its time.
func (s *Session) ping(ctx context.Context) error {
	c, err := s.vim(ctx)
	if err != nil {
		return err
	}
	_, err = methods.GetCurrentTime(ctx, c)
	return explain(err)
}

// properties reads properties of objects into dst, a pointer to a slice of one of govmomi's mo types.
func (s *Session) properties(ctx context.Context, c *vim25.Client, refs []types.ManagedObjectReference, names []string, dst any) error {
	return read(ctx, func() error {
		reflect.ValueOf(dst).Elem().SetZero()
		return property.DefaultCollector(c).Retrieve(ctx, refs, names, dst)
	})
}

// property1 reads properties of one object into dst, a pointer to one of govmomi's mo types.
func (s *Session) property1(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, names []string, dst any) error {
	return read(ctx, func() error { return property.DefaultCollector(c).RetrieveOne(ctx, ref, names, dst) })
}

// wait waits for a task to end and returns its result. An error of class unknown says that the task may have done its work, or may yet do it.
func (s *Session) wait(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (types.AnyType, error) {
	for delay := firstPoll; ; delay = min(2*delay, lastPoll) {
		var t mo.Task
		if err := s.property1(ctx, c, ref, []string{"info"}, &t); err != nil {
			if c := classOf(err); c == done || c == unforeseen {
				// vCenter was restarted and has forgotten the task, or ctx has ended.
				return nil, &vsphereError{text: fmt.Sprintf("lost sight of the task %s: %v", ref.Value, err), sentinel: mooring.ErrUnavailable, class: unknown, cause: err}
			}
			return nil, err
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return t.Info.Result, nil
		case types.TaskInfoStateError:
			return nil, explain(task.Error{LocalizedMethodFault: t.Info.Error, Description: t.Info.Description})
		case types.TaskInfoStateQueued, types.TaskInfoStateRunning:
		}
		if err := pause(ctx, delay); err != nil {
			return nil, &vsphereError{text: fmt.Sprintf("the task %s still runs: %v", ref.Value, err), sentinel: mooring.ErrUnavailable, class: unknown, cause: err}
		}
	}
}
