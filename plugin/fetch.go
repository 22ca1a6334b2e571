package plugin

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// What was held and could not be restored, because its disk is absent or needs vCenter, is fetched in the background, as often as need be: dockerd asks
// once for each container, and whoever waits for a vCenter that was on the dead host too should not have to do it by hand.

const (
	firstFetchPause = time.Second
	lastFetchPause  = 30 * time.Second
)

// errand is a volume that is still to be fetched.
type errand struct {
	newBoot bool
	told    bool // its failure has been logged
}

func (d *Driver) toFetch(name mooring.Name, e errand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errands[name] = e
}

func (d *Driver) fetched(name mooring.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.errands, name)
}

// errandsLeft returns what is still to be fetched.
func (d *Driver) errandsLeft() []mooring.Name {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]mooring.Name, 0, len(d.errands))
	for name := range d.errands {
		names = append(names, name)
	}
	return names
}

// fetchLoop tries until nothing is left, ever more seldom, and is there for what comes later.
func (d *Driver) fetchLoop(ctx context.Context) {
	wait := firstFetchPause
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tick.Reset(wait)
		wait = min(2*wait, lastFetchPause)
		if d.fetchAll(ctx) {
			wait = firstFetchPause
		}
	}
}

// fetchAll tries once, all at the same time so that the disks are attached in one task, and reports whether nothing is left. It asks vCenter first who this machine is:
// a clone fetches nothing, and while vCenter is away no volume's name is held, so that a Mount that comes meanwhile finds that out by itself, and soon.
func (d *Driver) fetchAll(ctx context.Context) (none bool) {
	if d.fetchPresent(ctx); len(d.errandsLeft()) == 0 {
		return true
	}
	machine, err := d.Attacher.Machine(ctx)
	if err == nil {
		err = d.identify(ctx, machine)
	}
	if err != nil {
		for _, name := range d.errandsLeft() {
			d.failedErrand(name, false, d.heard(err))
		}
		return false
	}
	var all sync.WaitGroup
	for _, name := range d.errandsLeft() {
		all.Go(func() { d.fetch(ctx, name) })
	}
	all.Wait()
	return len(d.errandsLeft()) == 0
}

// fetchPresent restores what has appeared meanwhile, for which vCenter is not needed.
func (d *Driver) fetchPresent(ctx context.Context) {
	for _, name := range d.errandsLeft() {
		if rec, err := d.Ledger.Find(name); err == nil && d.Devices.Sees(rec.Volume.Disk) {
			d.fetch(ctx, name)
		}
	}
}

func (d *Driver) fetch(ctx context.Context, name mooring.Name) {
	unlock, err := d.names.lock(ctx, name)
	if err != nil {
		return
	}
	defer unlock()
	d.mu.Lock()
	e, wanted := d.errands[name]
	d.mu.Unlock()
	rec, err := d.Ledger.Find(name)
	if !wanted || err != nil || len(rec.Holders) == 0 { // mounted, let go or removed meanwhile
		d.fetched(name)
		return
	}
	d.restore(ctx, name, e.newBoot)
}

// failedErrand reports why a volume is not there. What may change by itself is tried again and logged once.
func (d *Driver) failedErrand(name mooring.Name, newBoot bool, err error) {
	again := errors.Is(err, mooring.ErrUnavailable) || errors.Is(err, mooring.ErrFenced)
	d.mu.Lock()
	e, known := d.errands[name]
	if !known {
		e.newBoot = newBoot
	}
	told := e.told
	e.told = true
	if again {
		d.errands[name] = e
	} else {
		delete(d.errands, name)
	}
	d.mu.Unlock()
	otherwise := followMessage
	if again {
		otherwise = "Mooring tries again by itself; containers that could not start meanwhile are to be started by hand"
	}
	d.setUnmounted(name, err, again, otherwise)
	if !told {
		d.Log.Error("restore", "volume", name, "err", err)
	}
}

// abandon gives up what earlier boots of this machine held, because another machine has the disk by now, or because this is not the machine that held it.
func (d *Driver) abandon(name mooring.Name) error {
	d.fetched(name)
	rec, err := d.Ledger.Find(name)
	if err != nil {
		return err
	}
	held := inBoot(rec.Holders, d.Boot)
	if sameHolders(held, rec.Holders) {
		return nil
	}
	rec.Holders = held
	return d.Ledger.Put(rec)
}

// abandonErrands gives up all that was to be fetched.
func (d *Driver) abandonErrands(ctx context.Context) error {
	var errs []error
	for _, name := range d.errandsLeft() {
		unlock, err := d.names.lock(ctx, name)
		if err != nil {
			return err
		}
		errs = append(errs, d.abandon(name))
		d.clearUnmounted(name)
		unlock()
	}
	return errors.Join(errs...)
}
