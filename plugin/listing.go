package plugin

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// absentLimit is the number of complete listings without a volume after which it counts as gone.
const absentLimit = 2

// sightings is what vCenter last said. It informs people; nothing is decided by it but which of other hosts' volumes are
// still there. The zero value is ready.
type sightings struct {
	mu      sync.Mutex
	absent  map[mooring.Name]int
	machine mooring.Machine
	at      time.Time // when vCenter described the machine
	err     error     // why it could not, last
}

func (s *sightings) forget(name mooring.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.absent, name)
}

// count adds a complete listing and returns how many have lacked each of the known volumes in a row.
func (s *sightings) count(known, listed []mooring.Name) map[mooring.Name]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	absent := make(map[mooring.Name]int)
	for _, name := range known {
		if _, ok := slices.BinarySearch(listed, name); !ok {
			absent[name] = s.absent[name] + 1
		}
	}
	s.absent = absent
	return maps.Clone(absent)
}

// look records what vCenter said of the machine, or why it could not.
func (s *sightings) look(m mooring.Machine, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if err == nil {
		s.machine, s.at = m, time.Now()
	}
}

// attachment returns how vCenter last saw the disk, and when.
func (s *sightings) attachment(disk mooring.DiskID) (mooring.Attachment, time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.machine.Disks {
		if a.Disk == disk {
			return a, s.at, true
		}
	}
	return mooring.Attachment{}, time.Time{}, false
}

// startLimit is how long the first refresh waits for Docker's API to answer, where the machine has restarted with containers' volumes.
const startLimit = 2 * time.Minute

// refreshLoop asks vCenter, every Refresh, what there is. vSphere cannot watch a folder. While a machine starts its containers again it is busy enough, with all that its host
// had, and nobody waits for a listing.
func (d *Driver) refreshLoop(ctx context.Context) {
	if d.restarted {
		d.awaitDocker(ctx)
	}
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.idleUnheld()
		if err := d.refresh(ctx); err != nil && ctx.Err() == nil {
			d.Log.Debug("refresh", "err", err)
		}
		tick.Reset(d.Refresh)
	}
}

// awaitDocker waits until Docker's API has answered, which it does when the containers run.
func (d *Driver) awaitDocker(ctx context.Context) {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-ctx.Done():
	case <-d.answered:
	case <-limit.C:
	}
}

// idleUnheld starts the clock of disks that are attached though nobody holds them: a task that outlived the plugin that began it, say, or a link that udev
// made late in a boot, of a disk that Docker may still be about to want.
func (d *Driver) idleUnheld() {
	present, err := d.Devices.Present()
	if err != nil {
		return
	}
	for _, rec := range d.Ledger.All() {
		if len(rec.Holders) == 0 && slices.Contains(present, rec.Volume.Disk) {
			d.setIdle(rec.Volume.Name, d.Ledger.VM().Boot != d.Boot)
		}
	}
}

// refresh looks at the machine and lists the group's folder.
func (d *Driver) refresh(ctx context.Context) error {
	machine, err := d.Attacher.Machine(ctx)
	if errors.Is(err, mooring.ErrUnavailable) {
		return d.heard(err)
	}
	d.sightings.look(machine, err)
	d.conditions.clear(condVCenter, "")
	if err == nil {
		d.conditions.clear(condUnclear, "")
		err = d.identify(ctx, machine)
	} else if ctx.Err() == nil {
		d.conditions.set(condUnclear, "", err.Error(),
			"Check vm and datastore in the configuration, and the account's rights; where two machines that run have one BIOS UUID, give one of them another")
	}
	begun := time.Now()
	listed, err2 := d.Disks.Names(ctx)
	if err2 != nil {
		return errors.Join(err, err2)
	}
	slices.Sort(listed)
	err3 := d.compare(listed, begun)
	d.recognise(ctx, machine)
	if err3 != nil || !d.behind.Load() {
		return errors.Join(err, err3)
	}
	if err3 := d.Ledger.CaughtUp(); err3 != nil {
		return errors.Join(err, err3)
	}
	d.behind.Store(false)
	d.conditions.clear(condBehind, "")
	return err
}

// recognise records the volumes whose disks this machine has and of which the ledger knows no more than the name: a ledger that was put back to an earlier day lacks them, and
// they would stay attached without a holder.
func (d *Driver) recognise(ctx context.Context, m mooring.Machine) {
	for _, rec := range d.Ledger.All() {
		name := rec.Volume.Name
		same := func(a mooring.Attachment) bool {
			return a.Disk != "" && path.Base(a.Backing.File()) == string(name)+".vmdk"
		}
		if rec.Volume.Disk != "" || !slices.ContainsFunc(m.Disks, same) {
			continue
		}
		if err := d.learn(ctx, name, m); err != nil {
			d.Log.Debug("recognise a disk", "volume", name, "err", err)
		}
	}
}

// learn fills in the record of a volume that was only listed, if it is one of the machine's disks.
func (d *Driver) learn(ctx context.Context, name mooring.Name, m mooring.Machine) error {
	unlock, ok := d.names.try(name)
	if !ok {
		return nil // who has the name learns it
	}
	defer unlock()
	rec, err := d.Ledger.Find(name)
	if err != nil || rec.Volume.Disk != "" {
		return err
	}
	vol, err := d.Disks.Find(ctx, name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(m.Disks, func(a mooring.Attachment) bool { return a.Disk == vol.Disk }) || d.distinct(vol) != nil {
		return nil
	}
	d.Log.Info("recognised a disk that the ledger lacked", "volume", name, "disk", vol.Disk)
	rec.Volume, rec.Own = vol, true
	return d.Ledger.Put(rec)
}

// heard returns err, and notes that vCenter cannot be reached if that is what it says, until a refresh has found it again.
func (d *Driver) heard(err error) error {
	if errors.Is(err, mooring.ErrUnavailable) {
		d.sightings.look(mooring.Machine{}, err)
		d.conditions.set(condVCenter, "", err.Error(), "Volumes that are attached go on working. Check that vCenter is up, and the vcenter keys of the configuration")
	}
	return err
}

// identify records which virtual machine vCenter says this is. Another instance UUID than the ledger's is a clone's, or a restored copy's, even where
// the firmware tells the same BIOS UUID: nothing is fetched there. What was present and restored at start may be the original's, and a person must look.
func (d *Driver) identify(ctx context.Context, m mooring.Machine) error {
	if m.Instance == "" {
		return nil
	}
	if old := d.Ledger.VM().Instance; old != "" && old != m.Instance {
		d.setMoved()
		if err := d.abandonErrands(ctx); err != nil { // before it is recorded: a plugin that is killed between begins again
			return err
		}
	}
	return d.updateVM(ctx, func(id *ledger.Identity) { id.Instance = m.Instance })
}

func (d *Driver) setMoved() {
	d.conditions.set(condMoved, "", "The ledger was written on another virtual machine: the holders of earlier boots are void",
		"If this machine is a clone, remove the volumes' disks from its configuration")
}

// compare brings the ledger up to a complete listing that began at the time begun. It never drops a volume that is ours.
func (d *Driver) compare(listed []mooring.Name, begun time.Time) error {
	var (
		known []mooring.Name
		gone  []mooring.Name
		added []ledger.Record
		recs  = d.Ledger.All()
	)
	for _, rec := range recs {
		known = append(known, rec.Volume.Name)
	}
	slices.Sort(known)
	absent := d.sightings.count(known, listed)
	for _, rec := range recs {
		switch name := rec.Volume.Name; {
		case absent[name] == 0:
			d.conditions.clear(condMissing, name)
		case absent[name] < absentLimit:
		case rec.Own || len(rec.Holders) > 0:
			d.conditions.set(condMissing, name, "Volume "+string(name)+": its disk "+string(rec.Volume.Backing)+" is not on the datastore any more",
				"Bring the disk back, or forget the volume: docker volume rm "+string(name))
		default:
			gone = append(gone, name)
		}
	}
	for _, name := range listed {
		if _, ok := slices.BinarySearch(known, name); !ok && !d.removedSince(name, begun) {
			added = append(added, ledger.Record{Volume: mooring.Volume{Spec: mooring.Spec{Name: name}}})
		}
	}
	return errors.Join(d.addListed(added), d.dropGone(gone))
}

// addListed records other hosts' volumes by their names, unless a request has made them known meanwhile.
func (d *Driver) addListed(recs []ledger.Record) error {
	var fresh []ledger.Record
	for _, rec := range recs {
		unlock, ok := d.names.try(rec.Volume.Name)
		if !ok {
			continue
		}
		defer unlock()
		if _, err := d.Ledger.Find(rec.Volume.Name); errors.Is(err, mooring.ErrNotFound) {
			fresh = append(fresh, rec)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return d.Ledger.Put(fresh...)
}

func (d *Driver) dropGone(names []mooring.Name) error {
	var gone []mooring.Name
	for _, name := range names {
		unlock, ok := d.names.try(name)
		if !ok {
			continue
		}
		defer unlock()
		if rec, err := d.Ledger.Find(name); err == nil && !rec.Own && len(rec.Holders) == 0 {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return d.Ledger.Drop(gone...)
}

// removedSince says whether name was removed here after the listing began, and drops what no listing can be about any more.
func (d *Driver) removedSince(name mooring.Name, begun time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.removed[name]
	if ok && at.Before(begun) {
		delete(d.removed, name)
		return false
	}
	return ok
}
