package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// ErrDontKnow is the error of a question whose true answer nobody here knows: the ledger lost its newest generation, and vCenter cannot be
// asked. dockerd would take any answer for "gone", so it must get none.
var ErrDontKnow = errors.New("nobody here knows")

// lookupLimit bounds the look-up of a name that the ledger never had. dockerd looks up before it creates, so that both together must be over
// within the ten seconds in which the product says that vCenter is away.
const lookupLimit = 1500 * time.Millisecond

// Parts is what a Driver is made of. All are required but Containers, without which holders of an older dockerd stay, Warnings, and what only the doctor asks.
type Parts struct {
	Disks      Disks
	Sidecars   Sidecars
	Attacher   Attacher
	Releaser   Releaser
	Resetter   Resetter
	Guest      Guest
	Devices    Devices
	Containers Containers
	Ledger     Ledger
	Alive      func(ledger.Instance) bool // whether that dockerd still runs
	Warnings   func() []Warning           // what vCenter refused and was done without, at present
	Inspector  Inspector
	Around     func(ctx context.Context, docker bool) Surroundings // docker: dockerd runs, and asking would not start it
	Log        *slog.Logger
}

// Settings are the driver's numbers and names.
type Settings struct {
	Boot mooring.BootID
	// BIOS is the machine's BIOS UUID, in lower case; empty if nobody knows it.
	BIOS string
	// Linger is how long a disk stays attached after its last holder has let go, so that a restart costs no vSphere task.
	Linger time.Duration
	// BootLinger is how long disks that a boot found attached stay so after Docker's API has answered.
	BootLinger time.Duration
	// Refresh is the time between two listings of the group's folder.
	Refresh time.Duration
	// Moved: the ledger was written on another virtual machine, so its holders are void.
	Moved bool
	// Behind: the ledger's newest generation was lost, and what it held has not been found again.
	Behind bool
}

// Driver does what Docker asks. Its methods may be called at the same time; those on one volume take turns.
type Driver struct {
	Parts
	Settings

	names      names
	conditions conditions
	progress   progress
	sightings  sightings
	work       sync.WaitGroup // what outlives the request that began it
	behind     atomic.Bool    // Settings.Behind, until a complete listing
	draining   atomic.Bool    // the machine is being powered off

	mu      sync.Mutex
	idle    map[mooring.Name]idleSince
	removed map[mooring.Name]time.Time // lately, so that a listing under way does not bring them back
	doubts  map[mooring.Name]time.Time // until when, see doubt.go
	dockerd ledger.Instance            // the latest that asked
	settled bool                       // BootLinger has passed since Docker's API answered
	errands map[mooring.Name]errand    // what is still to be fetched
	damaged map[mooring.Name]bool      // whose filesystem a person has to repair

	inherited map[mooring.Name][]ledger.Holder // recorded in this boot by another life of the plugin

	restarted bool          // the machine has: Start restored what containers of the boot before held
	answered  chan struct{} // closed by apiAnswered
	stopping  chan struct{} // closed when Run ends

	apiAnswered func() // Docker's API has answered
}

// New returns a driver. Call [Driver.Start] before it serves, and [Driver.Run] beside it.
func New(p Parts, s Settings) *Driver {
	d := &Driver{
		Parts:    p,
		Settings: s,
		idle:     make(map[mooring.Name]idleSince),
		removed:  make(map[mooring.Name]time.Time),
		doubts:   make(map[mooring.Name]time.Time),
		errands:  make(map[mooring.Name]errand),
		damaged:  make(map[mooring.Name]bool),

		inherited: make(map[mooring.Name][]ledger.Holder),
		answered:  make(chan struct{}),
		stopping:  make(chan struct{}),
	}
	d.apiAnswered = sync.OnceFunc(func() { close(d.answered) })
	d.behind.Store(s.Behind)
	d.work.Add(1) // until Run ends, so that no request begins work from nothing while that is waited for
	return d
}

// finish runs work to its end while it holds the volume's name, and waits for it no longer than ctx. Who gives up gets an error that
// says what is going on, and wanted answers false from then on, so that work knows that nobody took its result.
func (d *Driver) finish(ctx context.Context, name mooring.Name, work func(ctx context.Context, wanted func() bool) error) error {
	unlock, err := d.names.lock(ctx, name)
	if err != nil {
		return d.stillWorking(name)
	}
	var (
		claimed atomic.Bool
		done    = make(chan error, 1)
		lasting = context.WithoutCancel(ctx)
	)
	d.work.Go(func() {
		defer unlock()
		defer d.progress.clear(name)
		done <- work(lasting, func() bool { return claimed.CompareAndSwap(false, true) })
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if claimed.CompareAndSwap(false, true) {
			return d.stillWorking(name)
		}
		return <-done
	}
}

func (d *Driver) stillWorking(name mooring.Name) error {
	return fmt.Errorf("%s, try again: %w", d.progress.text(name), mooring.ErrUnavailable)
}

// Create makes the volume that spec asks for, or agrees that it is there. Nothing is attached or formatted.
func (d *Driver) Create(ctx context.Context, spec mooring.Spec, given mooring.Given) error {
	return d.finish(ctx, spec.Name, func(ctx context.Context, _ func() bool) error {
		rec, err := d.Ledger.Find(spec.Name)
		switch {
		case err == nil && rec.Volume.Disk != "":
			if diffs := differences(rec.Volume, spec, given); len(diffs) > 0 {
				return fmt.Errorf("%s: %w", strings.Join(diffs, ", "), mooring.ErrExists)
			}
			return nil
		case err != nil && !errors.Is(err, mooring.ErrNotFound):
			return err
		}
		d.progress.set(spec.Name, "creating the disk", -1)
		vol, err := d.Disks.Create(ctx, spec, given)
		if err != nil {
			return d.heard(err)
		}
		if err := d.distinct(vol); err != nil {
			return err
		}
		return d.Ledger.Put(ledger.Record{Volume: vol, Own: true})
	})
}

// Get returns what the ledger has of the volume. A name that it never had is looked up, briefly. The errors are that the volume
// surely is not there, as far as anybody here was ever told, and [ErrDontKnow].
func (d *Driver) Get(ctx context.Context, name mooring.Name) (ledger.Record, error) {
	rec, err := d.Ledger.Find(name)
	if errors.Is(err, mooring.ErrNotFound) {
		return d.lookUp(ctx, name)
	}
	if err != nil || rec.Own {
		return rec, err
	}
	unlock, ok := d.names.try(name)
	if !ok { // who has the name writes the record, and makes it ours
		return rec, nil
	}
	defer unlock()
	if rec, err = d.Ledger.Find(name); err != nil {
		return rec, err
	}
	rec.Own = true
	d.note(rec)
	return rec, nil
}

// note records that dockerd asked for a volume. The volume is there whether or not that can be written, and saying otherwise would
// make dockerd forget it.
func (d *Driver) note(rec ledger.Record) {
	if err := d.Ledger.Put(rec); err != nil {
		d.Log.Error("note volume", "volume", rec.Volume.Name, "err", err)
	}
}

func (d *Driver) lookUp(ctx context.Context, name mooring.Name) (ledger.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	unlock, err := d.names.lock(ctx, name)
	if err != nil {
		return ledger.Record{}, fmt.Errorf("volume is being worked on: %w", mooring.ErrNotFound)
	}
	defer unlock()
	if rec, err := d.Ledger.Find(name); err == nil {
		return rec, nil
	}
	vol, err := d.Disks.Find(ctx, name)
	if err != nil && d.behind.Load() && !errors.Is(err, mooring.ErrNotFound) {
		return ledger.Record{}, fmt.Errorf("look up volume: %w: %w", ErrDontKnow, err)
	}
	if err != nil {
		return ledger.Record{}, fmt.Errorf("no such volume: %w", mooring.ErrNotFound)
	}
	if d.distinct(vol) != nil { // its mount says so; the ledger never has one UUID twice
		vol = mooring.Volume{Spec: mooring.Spec{Name: name}}
	}
	rec := ledger.Record{Volume: vol, Own: true}
	d.note(rec)
	return rec, nil
}

// List returns all that the ledger has.
func (d *Driver) List() []ledger.Record { return d.Ledger.All() }

// Remove deletes the volume's disk. A disk that only lingers here is detached first; a volume that somebody holds, or that is
// attached to another machine, is refused. One whose disk is gone already is forgotten.
func (d *Driver) Remove(ctx context.Context, name mooring.Name) error {
	d.certain(ctx, name)
	return d.finish(ctx, name, func(ctx context.Context, _ func() bool) error {
		rec, err := d.Ledger.Find(name)
		if err != nil {
			return err
		}
		if held := inBoot(rec.Holders, d.Boot); len(held) > 0 {
			return &mooring.HintError{
				Err:  fmt.Errorf("held by %d mount(s) of Docker: %w", len(held), mooring.ErrInUse),
				Hint: fmt.Sprintf("docker ps --filter volume=%s", name),
			}
		}
		vol, err := d.whole(ctx, rec)
		if err != nil && !errors.Is(err, mooring.ErrNotFound) {
			return err
		}
		if err == nil {
			if err := d.removeDisk(ctx, vol); err != nil {
				return err
			}
		}
		if err := d.Ledger.Drop(name); err != nil {
			return err
		}
		d.forget(name)
		if err := d.Guest.Forget(name); err != nil { // the volume is gone; an empty directory is no reason to say otherwise
			d.Log.Warn("remove mount directory", "volume", name, "err", err)
		}
		return nil
	})
}

func (d *Driver) removeDisk(ctx context.Context, vol mooring.Volume) error {
	if err := d.Guest.Close(vol); err != nil {
		return err
	}
	if d.Devices.Sees(vol.Disk) {
		free, err := d.Devices.Hold(vol.Disk)
		if err != nil {
			return err
		}
		err = errors.Join(d.Attacher.Detach(ctx, vol), free.Close())
		if err != nil {
			return err
		}
	}
	return d.heard(d.Disks.Delete(ctx, vol))
}

// whole returns the record's volume, looked up when the ledger knows only its name, or what was found mounted.
func (d *Driver) whole(ctx context.Context, rec ledger.Record) (mooring.Volume, error) {
	if rec.Volume.Backing != "" {
		return rec.Volume, nil
	}
	vol, err := d.Disks.Find(ctx, rec.Volume.Name)
	if err == nil && rec.Volume.Disk != "" && vol.Disk != rec.Volume.Disk {
		return rec.Volume, fmt.Errorf("the ledger names disk %s, and %s is disk %s: %w", rec.Volume.Disk, vol.Backing, vol.Disk, mooring.ErrCorrupt)
	}
	return vol, err
}

// Mountpoint returns the directory that Docker gets, or "" unless the kernel has the volume mounted.
func (d *Driver) Mountpoint(rec ledger.Record) string {
	mounted, err := d.Devices.Mounted(rec.Volume.Name)
	if err != nil {
		return ""
	}
	return mountpoint(mounted, rec)
}

func mountpoint(mounted map[mooring.Name]guest.Mount, rec ledger.Record) string {
	m, ok := mounted[rec.Volume.Name]
	switch {
	case !ok:
		return ""
	case rec.Root:
		return m.Dir
	default:
		return m.Dir + "/" + mooring.DataDir
	}
}
