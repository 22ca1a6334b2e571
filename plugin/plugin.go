// Package plugin is Docker's volume driver: it answers dockerd from the ledger, has disks attached and mounted when a
// container wants them, and lets them go when nobody has them any more.
//
// It promises (the numbers are those of docs/ARCHITECTURE.md) that dockerd never hears "gone" for what it merely cannot
// see, that no disk is detached while any mount namespace has it open, that a volume is formatted once in its life, and that
// everything it answered survives its own death at any moment. It never breaks a lock, never waits for vCenter before it
// answers dockerd's questions, and never asks Docker's API on the way to an answer.
//
// How vCenter is reached is not known here: [Disks] and [Attacher] are handed in.
package plugin

import (
	"context"
	"io"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// Disks makes and removes the disks behind volumes, with their sidecars. Where vCenter cannot be reached the error wraps
// [mooring.ErrUnavailable], after 8 seconds at most.
type Disks interface {
	// Create makes the disk with its profile, or adopts the one that is there when the options that the user gave agree
	// with it; otherwise the error wraps [mooring.ErrExists] and names each difference. Nothing is attached or formatted.
	Create(ctx context.Context, spec mooring.Spec, given mooring.Given) (mooring.Volume, error)
	// Find returns the volume of that name as datastore and sidecar describe it, or [mooring.ErrNotFound].
	Find(ctx context.Context, name mooring.Name) (mooring.Volume, error)
	// Names lists the group's folder, completely or not at all.
	Names(ctx context.Context) ([]mooring.Name, error)
	// Delete removes the disk, then its sidecar; what is not there is removed. A disk that a virtual machine has is
	// refused with [mooring.ErrInUse], naming the machine.
	Delete(ctx context.Context, vol mooring.Volume) error
}

// Sidecars writes down, beside the disk, how far formatting has come.
type Sidecars interface {
	// SetFormat is durable when it returns. A sidecar that names another disk is refused with [mooring.ErrCorrupt].
	SetFormat(ctx context.Context, vol mooring.Volume, f mooring.Format) error
}

// Attacher changes the hardware of the virtual machine that we run in.
type Attacher interface {
	// Attach adds vol's disk, unless the machine has it. Calls that arrive together share one task. A disk that another
	// machine has is waited for while it may only linger there, then refused with [mooring.ErrInUse], naming the machine.
	Attach(ctx context.Context, vol mooring.Volume) error
	// Reattach adds the disk of a volume that was held before, for which nobody waits now: one that another machine has was taken over, and is refused at once.
	Reattach(ctx context.Context, vol mooring.Volume) error
	// Detach removes the disks, in one task; those that are not attached are removed. No file is touched.
	Detach(ctx context.Context, vols ...mooring.Volume) error
	// Machine describes the machine and its disks, with the profiles that vCenter reports for them.
	Machine(ctx context.Context) (mooring.Machine, error)
}

// Guest mounts and unmounts the filesystems of disks that are attached. Its work runs to its end whatever becomes of ctx,
// which bounds only the wait for the device.
type Guest interface {
	// Open formats what was never formatted, checks and mounts vol, and says which directory Docker gets.
	Open(ctx context.Context, vol mooring.Volume, formatted bool, j guest.Journal) (guest.Opened, error)
	// Close unmounts vol; what is not mounted is closed. Busy: [mooring.ErrInUse], naming the processes.
	Close(vol mooring.Volume) error
	// Forget removes the mount directory of a volume that is no more.
	Forget(name mooring.Name) error
}

// Devices is what the kernel says: the only truth about what is attached and mounted here.
type Devices interface {
	// Present lists the disks that are visible in this guest.
	Present() ([]mooring.DiskID, error)
	// Sees reports whether the disk is visible in this guest. What cannot be found out counts as not seen.
	Sees(disk mooring.DiskID) bool
	// Settled reports whether the kernel's devices have their links: at a boot they come one after the other.
	Settled() bool
	// Mounted lists what is mounted under the mount directory, by volume name: of these volumes, or of all if none is named.
	Mounted(names ...mooring.Name) (map[mooring.Name]guest.Mount, error)
	// Hold opens the disk's device exclusively; [mooring.ErrInUse] while any mount namespace has it.
	Hold(disk mooring.DiskID) (io.Closer, error)
}

// Containers answers, from Docker's API, which volumes running containers use.
type Containers interface {
	// Running returns the names of our volumes that running, paused or restarting containers use, with the container's name.
	Running(ctx context.Context) (map[mooring.Name][]string, error)
}

// Ledger is the durable record of volumes and holders; a write is durable when it returns.
type Ledger interface {
	Find(name mooring.Name) (ledger.Record, error)
	All() []ledger.Record
	Put(recs ...ledger.Record) error
	Drop(names ...mooring.Name) error
	// CaughtUp records that what a lost generation held was found again.
	CaughtUp() error
	// VM and SetVM are the virtual machine whose ledger it is.
	VM() ledger.Identity
	SetVM(id ledger.Identity) error
}

// Warning is something that vCenter refused and that was done without: a disk attached without its profile.
type Warning struct {
	Name       mooring.Name
	Text, Cure string
}
