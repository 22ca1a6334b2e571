package plugin

import (
	"context"
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

// recheck asks Docker's API again, for holders whose IDs are not known.
func (d *Driver) recheck(ctx context.Context) {
	d.mu.Lock()
	from := d.dockerd
	d.mu.Unlock()
	if d.Containers == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	d.work.Go(func() { d.settleWith(ctx, from) })
}

// settleWith waits until Docker's API answers, or another dockerd has come, or the driver stops.
func (d *Driver) settleWith(ctx context.Context, from ledger.Instance) {
	tick := time.NewTimer(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.stopping:
			return
		case <-tick.C:
		}
		d.mu.Lock()
		current := d.dockerd == from
		d.mu.Unlock()
		if !current {
			return
		}
		asking, cancel := context.WithTimeout(ctx, askLimit)
		running, err := d.Containers.Running(asking)
		cancel()
		if err == nil {
			d.settleHolders(ctx, from, running)
			d.endBoot()
			return
		}
		tick.Reset(askEvery)
	}
}

func (d *Driver) settleHolders(ctx context.Context, from ledger.Instance, running map[mooring.Name][]string) {
	for _, rec := range d.Ledger.All() {
		if len(rec.Holders) == 0 {
			continue
		}
		name := rec.Volume.Name
		unlock, err := d.names.lock(ctx, name)
		if err != nil {
			return
		}
		if err := d.settleOne(name, from, len(running[name]) > 0); err != nil {
			d.Log.Error("settle holders", "volume", name, "err", err)
		}
		unlock()
	}
}

func (d *Driver) settleOne(name mooring.Name, from ledger.Instance, running bool) error {
	rec, err := d.Ledger.Find(name)
	if err != nil {
		return err
	}
	before := inBoot(rec.Holders, d.Boot)
	after := settle(before, from, running)
	if sameHolders(rec.Holders, after) {
		return nil
	}
	rec.Holders = after
	if err := d.Ledger.Put(rec); err != nil {
		return err
	}
	if len(after) == 0 {
		d.Log.Info("holders of an older dockerd are gone", "volume", name, "holder", before)
		d.setIdle(name, false)
	}
	return nil
}

// endBoot starts the clock after which disks that the boot found idle are detached.
func (d *Driver) endBoot() {
	d.work.Go(func() {
		clock := time.NewTimer(d.BootLinger)
		defer clock.Stop()
		select {
		case <-d.stopping:
		case <-clock.C:
			d.mu.Lock()
			d.settled = true
			d.mu.Unlock()
		}
	})
}
