package plugin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	sweepEvery  = time.Second
	retryDetach = 10 * time.Second // after a sweep that could not detach
	busyLimit   = 5 * time.Minute  // after that a disk that cannot be let go is reported
)

// idleSince says when a volume's last holder let go.
type idleSince struct {
	at time.Time
	// boot: it was idle when this boot's first plugin looked. Docker may still be about to want it.
	boot bool
}

func (d *Driver) setIdle(name mooring.Name, boot bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.idle[name]; !ok {
		d.idle[name] = idleSince{at: time.Now(), boot: boot}
	}
}

func (d *Driver) setBusy(name mooring.Name) {
	d.mu.Lock()
	delete(d.idle, name)
	d.mu.Unlock()
	d.conditions.clear(condBusy, name)
}

// due returns the volumes that have lingered long enough. One that a person has to repair stays attached until it can be mounted, or the cure would name a device that is gone.
func (d *Driver) due(now time.Time, all bool) map[mooring.Name]idleSince {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := make(map[mooring.Name]idleSince)
	for name, since := range d.idle {
		if all || (now.Sub(since.at) >= d.Linger && (!since.boot || d.settled) && !d.damaged[name]) {
			due[name] = since
		}
	}
	return due
}

// lingerLoop detaches what has lingered long enough, until ctx ends.
func (d *Driver) lingerLoop(ctx context.Context) {
	tick := time.NewTimer(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next := sweepEvery
		if err := d.sweep(ctx, false); err != nil {
			d.Log.Warn("detach of idle disks", "err", err)
			next = retryDetach
		}
		tick.Reset(next)
	}
}

// candidate is a volume on its way out: unmounted, its name locked, and its device held so that nobody can mount it.
type candidate struct {
	vol    mooring.Volume
	held   io.Closer
	unlock func()
}

// sweep unmounts and detaches, in one batch, the volumes that have lingered long enough, or all that nobody holds. What somebody still
// has open stays attached and is tried again.
func (d *Driver) sweep(ctx context.Context, all bool) error {
	var (
		batch []candidate
		vols  []mooring.Volume
	)
	for name, since := range d.due(time.Now(), all) {
		c, err := d.release(name)
		switch {
		case err != nil:
			d.stillBusy(name, since, err)
		case c != nil:
			batch = append(batch, *c)
			vols = append(vols, c.vol)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	err := d.Attacher.Detach(ctx, vols...)
	for _, c := range batch {
		err = errors.Join(err, c.held.Close())
	}
	for _, c := range batch {
		if err == nil {
			d.setBusy(c.vol.Name)
		}
		c.unlock()
	}
	return err
}

// release unmounts a volume that nobody holds and takes its device, or returns nil when there is nothing to detach (now).
func (d *Driver) release(name mooring.Name) (_ *candidate, err error) {
	unlock, ok := d.names.try(name)
	if !ok {
		return nil, nil //nolint:nilnil // busy with a request: neither a candidate nor an error
	}
	keep := false
	defer func() {
		if !keep {
			unlock()
		}
	}()
	rec, err := d.Ledger.Find(name)
	if err != nil || len(d.held(rec)) > 0 {
		d.setBusy(name)
		return nil, nil //nolint:nilnil // somebody wants it again, or it was removed
	}
	if err := d.Guest.Close(rec.Volume); err != nil {
		return nil, err
	}
	if !d.Devices.Sees(rec.Volume.Disk) {
		d.setBusy(name)
		return nil, nil //nolint:nilnil // detached already
	}
	held, err := d.Devices.Hold(rec.Volume.Disk)
	if err != nil {
		return nil, err
	}
	keep = true
	return &candidate{vol: rec.Volume, held: held, unlock: unlock}, nil
}

func (d *Driver) stillBusy(name mooring.Name, since idleSince, err error) {
	if time.Since(since.at) < busyLimit {
		return
	}
	d.conditions.set(condBusy, name, "Volume "+string(name)+" cannot be let go: "+err.Error(),
		"End the processes that use it; mooring tries again by itself")
}
