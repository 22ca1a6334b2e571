package esx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-sh/mooring"
)

// defaultLimit is how long a batch may take of whose changes none has a deadline.
const defaultLimit = 2 * time.Minute

// change is one disk to be added or removed.
type change struct {
	vol     mooring.Volume
	remove  bool
	profile bool            // give the profile along
	refusal error           // why the profile was refused
	cleared bool            // no other machine has the disk
	sent    bool            // a task that adds the disk was sent
	wrong   error           // why what was added is removed again
	file    mooring.Backing // the disk's file by another name than vol's; empty: by that

	deadline time.Time
	gone     <-chan struct{} // closed when nobody waits any more
	done     chan struct{}   // closed when err stands
	err      error
}

func (c *change) identity() identity { return identity{c.vol.Disk, c.vol.Backing} }

// settle ends the change.
func (c *change) settle(err error) {
	c.err = err
	close(c.done)
}

func (c *change) settled() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// lingering says that another running machine has the disk, perhaps not for long.
type lingering struct{ error }

// Unwrap returns the error that is reported when it stays.
func (l lingering) Unwrap() error { return l.error }

// Attach adds vol's disk to our virtual machine, unless it is there already. Calls that arrive together share one task. A disk that another running machine
// has is waited for, as long as [Where] says; after that, and at once for a machine that is powered off, the error wraps [mooring.ErrInUse] and names the machine.
// A lock without an owner in view is [mooring.ErrFenced], no free unit is [mooring.ErrCapacity], two devices with the disk's UUID are [mooring.ErrCorrupt].
func (h *Host) Attach(ctx context.Context, vol mooring.Volume) error {
	for end := time.Now().Add(h.lingerLimit); ; {
		err := h.Reattach(ctx, vol)
		if l := (lingering{}); !errors.As(err, &l) || !time.Now().Before(end) {
			return err
		}
		if pause(ctx, h.lingerPoll) != nil {
			return err
		}
	}
}

// Reattach is Attach without the wait for a disk that another running machine has.
func (h *Host) Reattach(ctx context.Context, vol mooring.Volume) error {
	c := &change{vol: vol, profile: vol.Profile != ""}
	err := h.submit(ctx, []*change{c})
	if err == nil && c.refusal != nil {
		h.setCondition(vol.Name, fmt.Sprintf("attached without its storage policy %q, because vCenter refused that: %v", vol.Policy, c.refusal),
			"see whether the storage policy exists and vCenter's policy service runs; then detach and attach the volume")
	}
	return err
}

// Detach removes the volumes' disks from our virtual machine, in one task. A disk that is not there is detached. No file is touched.
func (h *Host) Detach(ctx context.Context, vols ...mooring.Volume) error {
	changes := make([]*change, len(vols))
	for i, vol := range vols {
		changes[i] = &change{vol: vol, remove: true}
	}
	err := h.submit(ctx, changes)
	for _, c := range changes {
		if c.settled() && c.err == nil {
			h.setCondition(c.vol.Name, "", "")
		}
	}
	return err
}

// submit queues the changes for the machine's next task and waits for them.
func (h *Host) submit(ctx context.Context, changes []*change) error {
	if len(changes) == 0 {
		return nil
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultLimit)
	}
	for _, c := range changes {
		c.deadline, c.gone, c.done = deadline, ctx.Done(), make(chan struct{})
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("change the hardware: this host is closed: %w", mooring.ErrUnavailable)
	}
	h.queue = append(h.queue, changes...)
	if !h.leading {
		h.leading = true
		h.work.Go(func() { h.lead(context.WithoutCancel(ctx)) })
	}
	h.mu.Unlock()
	var errs []error
	for _, c := range changes {
		select {
		case <-c.done:
			if c.err != nil {
				errs = append(errs, c.err)
			}
		case <-ctx.Done():
			return explain(ctx.Err())
		}
	}
	return errors.Join(errs...)
}

// lead works through the queue, one batch after the other, and ends when it is empty. A batch is what came in while the last one ran, or within a moment.
// No caller's context ends a batch: others may wait for it too. It ends with the latest of their deadlines.
func (h *Host) lead(ctx context.Context) {
	for {
		_ = pause(ctx, h.collect)
		h.mu.Lock()
		batch := h.queue
		h.queue = nil
		if len(batch) == 0 {
			h.leading = false
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		h.runBatch(ctx, batch)
	}
}

// runBatch carries out what somebody still waits for.
func (h *Host) runBatch(ctx context.Context, batch []*change) {
	var end time.Time
	live := batch[:0:0]
	for _, c := range batch {
		select {
		case <-c.gone:
			c.settle(context.Canceled)
			continue
		default:
		}
		live = append(live, c)
		if c.deadline.After(end) {
			end = c.deadline
		}
	}
	if len(live) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	p, err := h.place(ctx)
	if err == nil {
		err = h.carryOut(ctx, p, live)
	}
	for _, c := range live {
		if !c.settled() {
			c.settle(err)
		}
	}
}
