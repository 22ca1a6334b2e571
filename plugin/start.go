package plugin

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// A boot makes devices known one after the other. A held disk that is not there yet is waited for, so that it is not taken for one that only vCenter can bring.
const (
	appearEvery = 100 * time.Millisecond
	appearGrace = 3 * time.Second  // after udev has nothing left to do
	appearLimit = 30 * time.Second // whatever udev does
)

// restoreLimit is how long Start waits for checks and mounts before the driver serves all the same.
const restoreLimit = 5 * time.Minute

// Start reconciles the ledger with what the kernel says, once, before the driver serves. Disks that were held and are present are checked
// and mounted, whatever vCenter does; those that are absent are attached after it returns. What cannot be restored is a
// condition and keeps nothing else down.
func (d *Driver) Start(ctx context.Context) error {
	mounted, err := d.Devices.Mounted()
	if err != nil {
		return err
	}
	newBoot := d.Ledger.VM().Boot != d.Boot
	present, err := d.appeared(ctx, mounted, newBoot)
	if err != nil {
		return err
	}
	acts := plan(observation{
		Records: d.Ledger.All(), Mounted: mounted, Present: present, Boot: d.Boot, Moved: d.Moved, Behind: d.Behind,
	})
	if d.Behind {
		d.conditions.set(condBehind, "", "The newest generation of the ledger was damaged; the older one was taken, with what is mounted and listed",
			"Nothing, when vCenter can be reached: the next complete listing mends the ledger")
	}
	if d.Moved {
		d.setMoved()
	}
	d.restarted = newBoot && slices.ContainsFunc(acts, func(a action) bool { return a.Step == restore })
	d.inherit(ctx)
	var restoring sync.WaitGroup
	for _, a := range acts {
		d.Log.Log(ctx, a.Step.level(), "reconcile", "volume", a.Name, "op", a.Step)
		if err := d.apply(ctx, a, mounted, newBoot, &restoring); err != nil {
			return err
		}
	}
	if err := d.claim(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	d.work.Go(func() { restoring.Wait(); close(done) })
	limit := time.NewTimer(restoreLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// appeared returns the disks that are present, after a boot once those that were held have had time to appear.
func (d *Driver) appeared(ctx context.Context, mounted map[mooring.Name]guest.Mount, newBoot bool) ([]mooring.DiskID, error) {
	begun := time.Now()
	busy := begun // when devices were last seen to be on their way
	tick := time.NewTicker(appearEvery)
	defer tick.Stop()
	for {
		present, err := d.Devices.Present()
		if err != nil || d.Moved || !newBoot || !d.lacking(mounted, present) || time.Since(begun) > appearLimit {
			return present, err
		}
		if !d.Devices.Settled() {
			busy = time.Now()
		} else if time.Since(busy) >= appearGrace {
			return present, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lacking reports whether a volume is held whose disk is neither mounted nor present.
func (d *Driver) lacking(mounted map[mooring.Name]guest.Mount, present []mooring.DiskID) bool {
	return slices.ContainsFunc(d.Ledger.All(), func(r ledger.Record) bool {
		_, there := mounted[r.Volume.Name]
		return len(r.Holders) > 0 && r.Volume.Disk != "" && !there && !slices.Contains(present, r.Volume.Disk)
	})
}

// claim makes the ledger this machine's. It comes after the holders of another machine were voided: a plugin that is killed before begins again.
func (d *Driver) claim(ctx context.Context) error {
	return d.updateVM(ctx, func(id *ledger.Identity) {
		if d.BIOS != "" && (id.BIOS == "" || d.Moved) {
			*id = ledger.Identity{BIOS: d.BIOS} // vCenter tells the instance UUID later
		}
	})
}

// apply carries out one line of the plan. Restoring goes on in the background, holding the volume's name, so that a Mount joins it.
func (d *Driver) apply(ctx context.Context, a action, mounted map[mooring.Name]guest.Mount, newBoot bool, restoring *sync.WaitGroup) error {
	switch a.Step {
	case keep:
		return nil
	case adopt:
		return d.adopt(a, mounted[a.Name])
	case fetch:
		d.toFetch(a.Name, errand{newBoot: newBoot})
		return nil
	case restore:
		unlock, err := d.names.lock(ctx, a.Name)
		if err != nil {
			return err
		}
		restoring.Add(1)
		d.work.Go(func() {
			defer unlock()
			defer restoring.Done()
			d.restore(context.WithoutCancel(ctx), a.Name, newBoot)
		})
		return nil
	case idle:
		d.setIdle(a.Name, newBoot)
		return d.voidHolders(a.Name)
	case forget:
		return d.voidHolders(a.Name)
	case foreign:
		d.conditions.set(condForeign, a.Name, "Another disk than that of volume "+string(a.Name)+" is mounted at its directory",
			"See mooring volume inspect "+string(a.Name)+"; unmount what is there")
		return nil
	default:
		return errors.New("plan has an unknown step " + string(a.Step))
	}
}

// restore mounts what was held, as it was. Holders of other boots are void only once it is mounted: a plugin that is killed before
// begins again. A disk that another machine has by now is that machine's.
func (d *Driver) restore(ctx context.Context, name mooring.Name, newBoot bool) {
	begun := time.Now()
	rec, err := d.Ledger.Find(name)
	if err == nil {
		_, rec, err = d.open(ctx, rec, d.Attacher.Reattach)
	}
	d.progress.clear(name)
	if err == nil {
		rec.Holders = inBoot(rec.Holders, d.Boot)
		err = d.Ledger.Put(rec)
	}
	switch {
	case err == nil:
		d.fetched(name)
		d.Log.Info("restored", "volume", name, "took", time.Since(begun))
	case errors.Is(err, mooring.ErrInUse) && !d.Devices.Sees(rec.Volume.Disk):
		d.setTaken(name, err)
		d.Log.Error("restore", "volume", name, "err", errors.Join(err, d.abandon(name)))
	default:
		d.failedErrand(name, newBoot, err)
	}
	if len(inBoot(rec.Holders, d.Boot)) == 0 {
		d.setIdle(name, newBoot)
	}
}

func (d *Driver) voidHolders(name mooring.Name) error {
	rec, err := d.Ledger.Find(name)
	if err != nil {
		return err
	}
	held := inBoot(rec.Holders, d.Boot)
	if d.Moved {
		held = nil
	}
	if sameHolders(held, rec.Holders) {
		return nil
	}
	rec.Holders = held
	return d.Ledger.Put(rec)
}

// adopt records what is mounted and the ledger lost: held, by nobody knows whom, until Docker's API says otherwise.
func (d *Driver) adopt(a action, m guest.Mount) error {
	rec, err := d.Ledger.Find(a.Name)
	if errors.Is(err, mooring.ErrNotFound) {
		rec = ledger.Record{Volume: mooring.Volume{Spec: mooring.Spec{Name: a.Name}, Disk: m.Disk}, Root: rootHandedOut(m)}
	} else if err != nil {
		return err
	}
	rec.Own = true
	rec.Holders = hold(inBoot(rec.Holders, d.Boot), unknownHolder, d.Boot, ledger.Instance{})
	return d.Ledger.Put(rec)
}

func sameHolders(a, b []ledger.Holder) bool { return slices.Equal(a, b) }

// Run keeps the driver's clocks until ctx ends: idle disks are detached, held ones fetched, and the ledger learns what other hosts make. It returns when all
// work has ended.
func (d *Driver) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { d.lingerLoop(ctx) })
	loops.Go(func() { d.refreshLoop(ctx) })
	loops.Go(func() { d.fetchLoop(ctx) })
	loops.Wait()
	close(d.stopping)
	d.work.Done() // what New added
	d.work.Wait()
}
