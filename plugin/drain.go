package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/internal/ledger"
)

// drainPatience is how long a drain waits for disks that somebody still has open: processes that are being ended have them for a moment.
const drainPatience = 10 * time.Second

// Drain detaches, in one batch, all disks that nobody holds, because the machine is about to be powered off: vSphere deletes the disks
// that are attached to a machine when the machine is deleted. It comes after Run has returned. dockerd was stopped before us: holders of one that no longer
// runs are as good as gone, and whether a container lived on the exclusive open of the device tells.
func (d *Driver) Drain(ctx context.Context) error {
	d.draining.Store(true)
	for _, rec := range d.Ledger.All() {
		if len(d.held(rec)) == 0 && rec.Volume.Disk != "" {
			d.setIdle(rec.Volume.Name, false)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := d.sweep(ctx, true); err != nil {
			return err
		}
		left := d.due(time.Now(), true)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
			continue
		case <-patience.C:
		case <-ctx.Done():
		}
		var names []string
		for name := range left {
			names = append(names, string(name))
		}
		slices.Sort(names)
		return errors.Join(ctx.Err(), fmt.Errorf("disks stay attached, because somebody has them open: %s", strings.Join(names, ", ")))
	}
}

// held returns those who hold the record's volume.
func (d *Driver) held(rec ledger.Record) []ledger.Holder {
	hs := inBoot(rec.Holders, d.Boot)
	if d.draining.Load() && !d.Alive(d.current()) { // one that lives answers for those whom nobody knows
		hs = slices.DeleteFunc(hs, func(h ledger.Holder) bool { return !d.Alive(h.Dockerd) })
	}
	return hs
}
