package esx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// Release removes vol's disk from the configuration of the powered-off virtual machine of that name, so that this machine may take the volume over and that
// one can be powered on again. No file is touched. It reports whether there was anything to remove.
//
// A machine that may still write is refused, for its claim is then the only thing that keeps others away: [mooring.ErrInUse] while it is powered on or
// suspended, [mooring.ErrFenced] while its host does not answer, for it may run on there. A name that no machine in view has is
// [mooring.ErrNotFound]; where another machine than the named one has the disk, the error wraps [mooring.ErrInUse] and names that.
func (h *Host) Release(ctx context.Context, vol mooring.Volume, from string) (released bool, err error) {
	p, err := h.place(ctx)
	if err != nil {
		return false, err
	}
	patience := patience{pause: firstBusyPause}
	for {
		// The state is read anew before each try: whoever waits for a busy machine may be waiting for it to be powered on.
		all, err := h.machines(ctx, p)
		if err != nil {
			return released, fmt.Errorf("look which virtual machines have the disk: %w", err)
		}
		m, err := claimant(all, p.vm.Self, vol, from)
		if errors.Is(err, errNoClaim) {
			return released, nil
		}
		if err == nil {
			err = h.mayWrite(ctx, p, m, vol)
		}
		if err != nil {
			return released, err
		}
		there := *p
		there.vm.Self = m.ref
		claims := findDisks(m.disks, identity{vol.Disk, vol.Backing})
		err = h.reconfigure(ctx, &there, reconfigureSpec(m.version, claims, nil, nil))
		released = released || err == nil
		if err == nil {
			err = errUndone
		}
		wait, n := patience.after(err, m.version)
		if n != again || patience.races > maxRaces || wait > 0 && pause(ctx, wait) != nil {
			return released, fmt.Errorf("remove %s from the configuration of %s: %w", vol.Backing, m.name, err)
		}
	}
}

// errNoClaim says that no machine has the disk.
var errNoClaim = errors.New("no virtual machine has the disk")

// claimant returns the machine of that name that has the disk. It is pure.
func claimant(all []machine, self types.ManagedObjectReference, vol mooring.Volume, from string) (machine, error) {
	named := slices.DeleteFunc(slices.Clone(all), func(m machine) bool { return m.name != from })
	if len(named) == 0 {
		return machine{}, fmt.Errorf("virtual machine %q: the account sees none of that name: %w", from, mooring.ErrNotFound)
	}
	has := func(m machine) bool { return len(findDisks(m.disks, identity{vol.Disk, vol.Backing})) > 0 }
	var others []string
	for _, m := range all {
		if m.name != from && m.ref != self && has(m) {
			others = append(others, m.name)
		}
	}
	i := slices.IndexFunc(named, has)
	switch {
	case slices.ContainsFunc(named, func(m machine) bool { return m.ref == self }):
		return machine{}, &mooring.HintError{
			Err:  fmt.Errorf("%s is this virtual machine: %w", from, mooring.ErrInvalid),
			Hint: "a disk that nobody holds here is detached by itself",
		}
	case i >= 0:
		return unsnapped(named[i], vol)
	case len(others) > 0:
		return machine{}, &mooring.HintError{
			Err:  fmt.Errorf("%s is in the configuration of %s, not of %s: %w", vol.Backing, strings.Join(others, " and of "), from, mooring.ErrInUse),
			Hint: "mooring volume release " + word(string(vol.Name)) + " --from " + word(others[0]),
		}
	default:
		return machine{}, errNoClaim
	}
}

// unsnapped refuses a machine that has the disk below the delta file of a snapshot: what was written since lies in that file.
func unsnapped(m machine, vol mooring.Volume) (machine, error) {
	for _, d := range findDisks(m.disks, identity{vol.Disk, vol.Backing}) {
		if len(d.parents) > 0 {
			return machine{}, &mooring.HintError{
				Err:  fmt.Errorf("%s is part of a snapshot of %s: %w", vol.Backing, m.name, mooring.ErrInUse),
				Hint: "delete the snapshots of " + m.name + ", so that what was written since is in the disk itself",
			}
		}
	}
	return m, nil
}

// mayWrite refuses a machine that may still write to the disk.
func (h *Host) mayWrite(ctx context.Context, p *place, m machine, vol mooring.Volume) error {
	var host types.HostSystemConnectionState
	if m.host != nil {
		var system mo.HostSystem
		err := h.session.property1(ctx, p.client, *m.host, []string{"runtime.connectionState"}, &system)
		// An account that may not look at hosts is told by the machine's own connection state, which vCenter derives from the host's.
		if err != nil && !errors.Is(err, mooring.ErrInvalid) && !errors.Is(err, mooring.ErrNotFound) {
			return fmt.Errorf("ask whether the host of %s answers: %w", m.name, err)
		}
		host = system.Runtime.ConnectionState
	}
	return stillWrites(m, host, vol)
}

// stillWrites says why a machine may still write to the disk. The host comes first: while it does not answer, the power state is only what was last heard of. It is pure.
func stillWrites(m machine, host types.HostSystemConnectionState, vol mooring.Volume) error {
	refuse := func(sentinel error, why, hint string) error {
		return &mooring.HintError{Err: fmt.Errorf("%s may still write to %s: %s: %w", m.name, vol.Backing, why, sentinel), Hint: hint}
	}
	const wait = "wait until the host answers and power the machine off; a host that is dead for good is to be removed from vCenter, and its machines with it"
	switch {
	case m.connection != types.VirtualMachineConnectionStateConnected:
		return refuse(mooring.ErrFenced, fmt.Sprintf("its host does not answer (the machine is %q), and it may run on there", m.connection), wait)
	case host != "" && host != types.HostSystemConnectionStateConnected:
		return refuse(mooring.ErrFenced, fmt.Sprintf("its host is %q, and it may run on there", host), wait)
	case m.power == types.VirtualMachinePowerStatePoweredOn:
		return refuse(mooring.ErrInUse, "it is powered on",
			"stop the containers that use the volume on "+m.name+", and its disk is detached there; or power "+m.name+" off")
	case m.power == types.VirtualMachinePowerStateSuspended:
		return refuse(mooring.ErrInUse, "it is suspended, and goes on where it stopped", "resume "+m.name+" and stop its containers, or power it off")
	case m.power != types.VirtualMachinePowerStatePoweredOff:
		return refuse(mooring.ErrFenced, fmt.Sprintf("its power state is %q", m.power), wait)
	default:
		return nil
	}
}
