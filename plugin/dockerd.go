package plugin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

const (
	askEvery = time.Second
	askLimit = 10 * time.Second
)

// Seen tells the driver which dockerd asks. A new one is asked in its turn, once its API answers, which of our volumes running
// containers use: only then do the holders of an older one go. It is never asked on the way to an answer of ours.
func (d *Driver) Seen(ctx context.Context, from ledger.Instance) {
	if from == (ledger.Instance{}) || d.Containers == nil {
		return
	}
	d.mu.Lock()
	known := d.dockerd == from
	d.dockerd = from
	d.mu.Unlock()
	if known {
		return
	}
	ctx = context.WithoutCancel(ctx)
	d.work.Go(func() { d.settleWith(ctx, from) })
}

// settleWith waits until Docker's API answers, or the dockerd has gone, or the driver stops.
func (d *Driver) settleWith(ctx context.Context, from ledger.Instance) {
	tick := time.NewTimer(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.stopping:
			return
		case <-tick.C:
		}
		if d.current() != from || !d.Alive(from) { // asking for a daemon that was stopped might start it
			return
		}
		asked := d.Ledger.All()
		if running, err := d.running(ctx); err == nil {
			d.apiAnswered()
			d.settleAll(ctx, asked, running, notOf(from))
			d.endBoot(ctx)
			return
		}
		tick.Reset(askEvery)
	}
}

// current returns the dockerd that asked last.
func (d *Driver) current() ledger.Instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dockerd
}

// running asks Docker's API once which of our volumes running containers use.
func (d *Driver) running(ctx context.Context) (map[mooring.Name][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return d.Containers.Running(ctx)
}

// settleAll settles the doubtful holders of every volume, as they were when Docker was asked: of what came since its answer says nothing.
func (d *Driver) settleAll(ctx context.Context, asked []ledger.Record, running map[mooring.Name][]string, doubtful func(ledger.Holder) bool) {
	for _, rec := range asked {
		if len(rec.Holders) == 0 {
			continue
		}
		known := func(h ledger.Holder) bool { return doubtful(h) && slices.Contains(rec.Holders, h) }
		if err := d.settleOne(ctx, rec.Volume.Name, len(running[rec.Volume.Name]), known); err != nil && !errors.Is(err, mooring.ErrNotFound) {
			d.Log.Error("settle holders", "volume", rec.Volume.Name, "err", err)
		}
	}
}

func (d *Driver) settleOne(ctx context.Context, name mooring.Name, running int, doubtful func(ledger.Holder) bool) error {
	unlock, err := d.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := d.Ledger.Find(name)
	if err != nil {
		return err
	}
	before := inBoot(rec.Holders, d.Boot)
	after := settle(before, d.current(), running, doubtful)
	if sameHolders(rec.Holders, after) {
		return nil
	}
	rec.Holders = after
	if err := d.Ledger.Put(rec); err != nil {
		return err
	}
	if len(after) == 0 {
		d.Log.Info("nobody holds the volume any more", "volume", name, "holder", before)
		d.setIdle(name, false)
	}
	return nil
}

// endBoot starts the clock after which disks that the boot found idle are detached, and by which the holders are looked over that the
// plugin found when it started.
func (d *Driver) endBoot(ctx context.Context) {
	d.work.Go(func() {
		clock := time.NewTicker(d.BootLinger)
		defer clock.Stop()
		for left := true; left; left = d.audit(ctx) {
			select {
			case <-d.stopping:
				return
			case <-clock.C:
			}
			if err := d.settleBoot(ctx); err != nil {
				d.Log.Error("record the boot", "err", err)
			}
		}
	})
}

// settleBoot lets disks go that the boot found idle, also after the next start of the plugin in it.
func (d *Driver) settleBoot(ctx context.Context) error {
	d.mu.Lock()
	d.settled = true
	d.mu.Unlock()
	return d.updateVM(ctx, func(id *ledger.Identity) { id.Boot = d.Boot })
}

// updateVM changes what the ledger says of its machine.
func (d *Driver) updateVM(ctx context.Context, change func(*ledger.Identity)) error {
	unlock, err := d.names.lock(ctx, everything)
	if err != nil {
		return err
	}
	defer unlock()
	id := d.Ledger.VM()
	before := id
	if change(&id); id == before {
		return nil
	}
	return d.Ledger.SetVM(id)
}
