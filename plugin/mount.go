package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// Mount has the volume attached and mounted, records id as its holder, and returns the directory that Docker gets. When ctx
// ends first, the work goes on without a holder and the error says how far it has come; the next Mount joins it.
func (d *Driver) Mount(ctx context.Context, name mooring.Name, id mooring.MountID, from ledger.Instance) (dir string, err error) {
	err = d.finish(ctx, name, func(ctx context.Context, wanted func() bool) error {
		rec, err := d.Ledger.Find(name)
		if err != nil {
			return err
		}
		opened, rec, err := d.open(ctx, rec, d.Attacher.Attach)
		if err != nil {
			d.doubt(name)          // an unmount may follow, with the ID of a container that runs
			d.setIdle(name, false) // perhaps attached by now
			if isDamaged(err) {
				d.setUnmounted(name, err, false, followMessage)
			}
			return err
		}
		rec.Own = true
		if !wanted() {
			d.setIdle(name, false)
			return d.Ledger.Put(rec)
		}
		held := inBoot(rec.Holders, d.Boot)
		if slices.ContainsFunc(held, func(h ledger.Holder) bool { return h.ID == id && h.Dockerd != from }) {
			d.doubt(name) // with live restore, it may be a docker cp of a container that lived on
		}
		rec.Holders = hold(held, id, d.Boot, from)
		if err := d.Ledger.Put(rec); err != nil {
			d.setIdle(name, false)
			return err
		}
		d.setBusy(name)
		dir = opened.Dir
		return nil
	})
	return dir, err
}

// followMessage is the cure of what has none of its own.
const followMessage = "Follow what the message says, then start its containers again"

// setUnmounted reports a volume that cannot be mounted, with the error's own cure or another. Retried: it is tried again by itself.
func (d *Driver) setUnmounted(name mooring.Name, err error, retried bool, otherwise string) {
	code := condMount
	if errors.Is(err, mooring.ErrFenced) {
		code = condFenced
	}
	d.clearUnmounted(name)
	d.mu.Lock()
	d.damaged[name] = isDamaged(err)
	d.mu.Unlock()
	d.conditions.put(conditionKey{code, name}, admin.Condition{
		Text: "Volume " + string(name) + " is not mounted: " + err.Error(), Cure: cureOf(err, otherwise), Retried: retried,
	})
}

// isDamaged reports whether a person has to repair the volume's filesystem.
func isDamaged(err error) bool {
	_, is := errors.AsType[*guest.DamagedError](err)
	return is
}

func (d *Driver) clearUnmounted(name mooring.Name) {
	d.mu.Lock()
	delete(d.damaged, name)
	d.mu.Unlock()
	d.conditions.clear(condMount, name)
	d.conditions.clear(condFenced, name)
}

// setTaken reports a volume that was held here before this boot, and that another machine has now.
func (d *Driver) setTaken(name mooring.Name, err error) {
	d.clearUnmounted(name)
	d.conditions.set(condTaken, name, "Volume "+string(name)+" was taken over: "+err.Error(),
		cureOf(err, "Stop the containers that use it there, then start those here"))
}

func cureOf(err error, otherwise string) string {
	if hint, ok := errors.AsType[*mooring.HintError](err); ok {
		return hint.Hint
	}
	return otherwise
}

// open attaches, in one of the attacher's ways, checks and mounts the record's volume, and returns the record as it is from then on.
func (d *Driver) open(ctx context.Context, rec ledger.Record, attach attaching) (guest.Opened, ledger.Record, error) {
	name := rec.Volume.Name
	vol, err := d.whole(ctx, rec)
	if err != nil {
		return guest.Opened{}, rec, err
	}
	if err := d.distinct(vol); err != nil {
		return guest.Opened{}, rec, err
	}
	if !d.Devices.Sees(vol.Disk) {
		d.progress.set(name, "attaching the disk", -1)
		if rec, vol, err = d.attach(ctx, rec, vol, attach); err != nil {
			return guest.Opened{}, rec, d.heard(err)
		}
	}
	formatted := rec.Volume.Format == mooring.FormatDone
	vol, stale := d.fresh(ctx, vol)
	opened, err := d.Guest.Open(ctx, vol, formatted, journal{d, vol})
	if err != nil {
		if stale != nil { // what the sidecar says might have made the difference
			err = stale
		}
		return guest.Opened{}, rec, err
	}
	if rec.Root && !opened.Root {
		// An adopted volume's containers write where the mark would be. What they had was the root, and data would hide it.
		return guest.Opened{}, rec, errors.Join(fmt.Errorf("the volume's root was handed out before, and now has %s and %s in it: remove them by hand: %w",
			mooring.MarkFile, mooring.DataDir, mooring.ErrCorrupt), d.Guest.Close(vol))
	}
	if !opened.Root {
		vol.Format = mooring.FormatDone
	}
	rec.Volume, rec.Root = vol, opened.Root
	d.clearUnmounted(name)
	d.conditions.clear(condTaken, name)
	d.fetched(name)
	return opened, rec, nil
}

// attaching is [Attacher.Attach] or [Attacher.Reattach].
type attaching func(context.Context, mooring.Volume) error

// attach attaches the record's disk. One that is not what the ledger knows may have been made anew under its name by another machine, while this one had nothing of it,
// or since the backup that this machine was restored from: then the sidecar vouches for the new one.
func (d *Driver) attach(ctx context.Context, rec ledger.Record, vol mooring.Volume, attach attaching) (ledger.Record, mooring.Volume, error) {
	err := attach(ctx, vol)
	if !errors.Is(err, mooring.ErrCorrupt) && !errors.Is(err, mooring.ErrNotFound) || d.Mountpoint(rec) != "" {
		return rec, vol, err
	}
	found, findErr := d.Disks.Find(ctx, vol.Name)
	if findErr != nil || found.Disk == vol.Disk || found.Format == mooring.FormatUnknown || d.distinct(found) != nil {
		return rec, vol, err
	}
	d.Log.Warn("volume was made anew elsewhere", "volume", vol.Name, "disk", found.Disk, "backing", found.Backing)
	rec.Volume, rec.Root = found, false
	if d.Devices.Sees(found.Disk) {
		return rec, found, nil
	}
	return rec, found, attach(ctx, found)
}

// distinct refuses a volume whose disk has the UUID of another volume's, as a plain copy of its file has: the guest tells disks by that alone, and
// would give out the one for the other. The volume that was there first goes on.
func (d *Driver) distinct(vol mooring.Volume) error {
	for _, rec := range d.Ledger.All() {
		if rec.Volume.Name != vol.Name && rec.Volume.Disk == vol.Disk {
			return &mooring.HintError{
				Err: fmt.Errorf("its disk %s has the UUID %s, and so has that of volume %s: one is a copy of the other's file: %w",
					vol.Backing, vol.Disk, rec.Volume.Name, mooring.ErrCorrupt),
				Hint: "give the copy a UUID of its own (VirtualDiskManager.SetVirtualDiskUuid), then start again",
			}
		}
	}
	return nil
}

// fresh returns vol as its sidecar has it now, where that decides whether it may be formatted: another host may have done so.
// Without a sidecar that can be read, the volume is never formatted; the error says why it could not.
func (d *Driver) fresh(ctx context.Context, vol mooring.Volume) (mooring.Volume, error) {
	if vol.Format != mooring.FormatNone && vol.Format != mooring.Formatting {
		return vol, nil
	}
	found, err := d.Disks.Find(ctx, vol.Name)
	if err == nil && found.Disk == vol.Disk {
		return found, nil
	}
	vol.Format = mooring.FormatUnknown
	if err != nil {
		return vol, fmt.Errorf("read whether the volume was formatted: %w", err)
	}
	return vol, nil
}

// Unmount lets id go. With the last holder the filesystem is unmounted, and the disk lingers. An ID that is not known has
// been let go already.
func (d *Driver) Unmount(ctx context.Context, name mooring.Name, id mooring.MountID) error {
	return d.finish(ctx, name, func(ctx context.Context, _ func() bool) error {
		rec, err := d.Ledger.Find(name)
		if errors.Is(err, mooring.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		held := inBoot(rec.Holders, d.Boot)
		rest, known := letGo(held, id)
		if known && len(rest) == 0 && d.inDoubt(name) {
			rec.Holders = []ledger.Holder{{ID: id, Count: 1, Boot: d.Boot}}
			d.recheck(ctx, name)
			return d.Ledger.Put(rec)
		}
		if known || len(rest) != len(rec.Holders) {
			rec.Holders = rest
			if err := d.Ledger.Put(rec); err != nil {
				return err
			}
		}
		if len(rest) > 0 {
			if !known || slices.ContainsFunc(rest, func(h ledger.Holder) bool { return h.ID == unknownHolder }) { // it was perhaps this ID that the ledger lost
				d.recheck(ctx, name)
			}
			return nil
		}
		d.setIdle(name, false)
		d.progress.set(name, "unmounting", -1)
		return d.Guest.Close(rec.Volume)
	})
}

// journal writes down for the guest how far formatting has come.
type journal struct {
	d   *Driver
	vol mooring.Volume
}

// SetFormat writes the sidecar.
func (j journal) SetFormat(ctx context.Context, f mooring.Format) error {
	return j.d.Sidecars.SetFormat(ctx, j.vol, f)
}

// Progress is what a request that cannot wait longer tells.
func (j journal) Progress(what string, percent int) { j.d.progress.set(j.vol.Name, what, percent) }
