package plugin

import (
	"context"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// When a connection breaks, dockerd repeats the request without its body, and takes what comes back for the outcome: a look-up or mount that it believes failed
// is followed by an unmount with the mount's ID, which for docker cp is that of the running container; an unmount that it believes failed never comes again. So the ledger's
// holders may be too few or too many after the plugin was killed. Both are put right by Docker's API, in the background.

const (
	doubtFor   = 30 * time.Second // dockerd repeats a request for 15 s
	doubtEvery = 250 * time.Millisecond
	doubtAsks  = 40
	doubtLimit = 5 * time.Second // for a removal to wait
)

// everything stands for all volumes in the table of doubts, and for what is none's among the names that are locked.
const everything mooring.Name = ""

// doubt says that, for a while, an unmount of the volume may be for a mount that never succeeded.
func (d *Driver) doubt(name mooring.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubts[name] = time.Now().Add(doubtFor)
}

func (d *Driver) inDoubt(name mooring.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	return d.Containers != nil && (now.Before(d.doubts[name]) || now.Before(d.doubts[everything]))
}

// nobodys is a holder whose container is perhaps gone: no dockerd answers for it.
func nobodys(h ledger.Holder) bool { return h.Dockerd == ledger.Instance{} }

// recheck asks, for a while, whether a running container uses the volume, and lets nobody's holders go as soon as none does.
func (d *Driver) recheck(ctx context.Context, name mooring.Name) {
	if d.Containers == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	d.work.Go(func() {
		tick := time.NewTicker(doubtEvery)
		defer tick.Stop()
		used := 0
		for range doubtAsks {
			select {
			case <-d.stopping:
				return
			case <-tick.C:
			}
			running, err := d.running(ctx)
			if err != nil {
				used = max(used, 1) // nobody knows
				continue
			}
			if used = len(running[name]); used == 0 {
				break
			}
		}
		doubtful := func(h ledger.Holder) bool { return nobodys(h) || h.ID == unknownHolder }
		if err := d.settleOne(ctx, name, used, doubtful); err != nil {
			d.Log.Error("settle holders", "volume", name, "err", err)
		}
	})
}

// certain waits, not for long, until none of the volume's holders is nobody's.
func (d *Driver) certain(ctx context.Context, name mooring.Name) {
	ctx, cancel := context.WithTimeout(ctx, doubtLimit)
	defer cancel()
	tick := time.NewTicker(doubtEvery)
	defer tick.Stop()
	for {
		rec, err := d.Ledger.Find(name)
		if err != nil || !slices.ContainsFunc(inBoot(rec.Holders, d.Boot), nobodys) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// inherit remembers the holders of this boot that another life of the plugin recorded, and goes on with its dockerd.
func (d *Driver) inherit(ctx context.Context) {
	var from ledger.Instance
	d.mu.Lock()
	for _, rec := range d.Ledger.All() {
		for _, h := range inBoot(rec.Holders, d.Boot) {
			d.inherited[rec.Volume.Name] = append(d.inherited[rec.Volume.Name], h)
			if h.Dockerd != from && d.Alive(h.Dockerd) {
				from = h.Dockerd
			}
		}
	}
	some := len(d.inherited) > 0
	d.mu.Unlock()
	if some {
		d.doubt(everything)
	}
	d.Seen(ctx, from)
}

// audit puts right the inherited holders that nothing has touched since the last look: where no running container uses the volume their unmount was lost with
// the plugin that it was sent to, and where one does they count once. A container that is still starting is not among them, for dockerd has given up on
// it by now. It reports whether any were touched, and are looked at again.
func (d *Driver) audit(ctx context.Context) (again bool) {
	d.mu.Lock()
	inherited := d.inherited
	d.inherited = make(map[mooring.Name][]ledger.Holder)
	d.mu.Unlock()
	if len(inherited) == 0 {
		return false
	}
	running, err := d.running(ctx)
	if err != nil {
		d.Log.Warn("audit of holders", "err", err)
	}
	for name, hs := range inherited {
		rec, gone := d.Ledger.Find(name)
		if gone != nil {
			continue
		}
		now := inBoot(rec.Holders, d.Boot)
		if err != nil || !sameHolders(now, hs) {
			again = true
			d.mu.Lock()
			d.inherited[name] = now
			d.mu.Unlock()
			continue
		}
		untouched := func(h ledger.Holder) bool { return slices.Contains(hs, h) }
		if err := d.settleOne(ctx, name, len(running[name]), untouched); err != nil {
			d.Log.Error("audit of holders", "volume", name, "err", err)
		}
	}
	return again
}
