package esx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

const (
	// maxRaces is how often a task is made anew from the hardware list after somebody else has changed the machine.
	maxRaces = 5
	// A machine that is busy with another task is asked again after a while, ever more seldom.
	firstBusyPause = 200 * time.Millisecond
	lastBusyPause  = 5 * time.Second
)

// errUndone says that vCenter reported success and the hardware list does not show it.
var errUndone = fmt.Errorf("vCenter reports success, but the hardware list does not show it: %w", mooring.ErrUnavailable)

// carryOut reads the hardware list, does in one task what is still to be done, and reads the list again, until every change is settled. It
// never believes a task: what the list shows is so, whoever did it and whatever the task's outcome was. A returned error goes for all that are not settled.
func (h *Host) carryOut(ctx context.Context, p *place, changes []*change) error {
	patience := patience{pause: firstBusyPause}
	last := errUndone
	for {
		hw, err := h.readHardware(ctx, p)
		if err != nil {
			return gone(changes, err)
		}
		todo := compare(hw, changes)
		if err := h.clear(ctx, p, todo); err != nil {
			return err
		}
		spec, todo := plan(hw, unsettled(todo))
		if len(todo) == 0 {
			return nil
		}
		if patience.races > maxRaces {
			return h.blame(ctx, p, todo, last)
		}
		err = h.reconfigure(ctx, p, spec)
		if err == nil {
			err = errUndone
		}
		last = err
		switch wait, n := patience.after(last, hw.version); n {
		case again:
			if wait > 0 && pause(ctx, wait) != nil {
				return last
			}
		case giveUp:
			return last
		case judge:
			return h.blame(ctx, p, todo, last)
		}
	}
}

// next is what to do after a task.
type next int

const (
	again  next = iota // read the hardware list and do what is left
	giveUp             // vCenter cannot be asked
	judge              // something in the task is wrong
)

// patience decides how often a task is tried again.
type patience struct {
	races   int           // tries that somebody else's change has spoiled
	version string        // of the hardware list before the last of them
	pause   time.Duration // the next one for a busy machine
}

// after returns what to do after a task that ended with err on that version of the hardware, and how long to wait before.
func (p *patience) after(err error, version string) (time.Duration, next) {
	c := classOf(err)
	switch {
	case errors.Is(err, errUndone):
		p.races++
		return 0, again
	case c == conflict:
		// Where nobody has changed anything it is not a race, or not for long.
		if p.races++; version == p.version {
			p.races += maxRaces / 2
		}
		p.version = version
		return 0, again
	case errors.Is(err, errStalled), c == unreachable, c == session, c == refused, errors.Is(err, context.Canceled):
		return 0, giveUp
	case c == busy, c == unknown:
		if c == unknown {
			p.races++
		}
		wait := p.pause
		p.pause = min(2*wait, lastBusyPause)
		return wait, again
	}
	return 0, judge
}

// blame finds out which of several changes made a task fail, by halves, so that one bad disk does not keep others away. A task changes everything or nothing;
// each half reads the hardware list again all the same.
func (h *Host) blame(ctx context.Context, p *place, todo []*change, cause error) error {
	if len(todo) == 1 {
		return h.blameOne(ctx, p, todo, cause)
	}
	half := len(todo) / 2
	for _, part := range [][]*change{todo[:half], todo[half:]} {
		err := h.carryOut(ctx, p, part)
		if c := classOf(err); c == unreachable || errors.Is(err, errStalled) {
			return err // for the other half too, which would only learn the same, later
		}
		for _, c := range unsettled(part) {
			c.settle(err)
		}
	}
	return nil
}

// blameOne tries a single change again without what may be the reason: its profile, or the name of its folder. Otherwise the cause stands, unless it is a
// machine in view that has the disk.
func (h *Host) blameOne(ctx context.Context, p *place, todo []*change, cause error) error {
	c := todo[0]
	if c.profile && mayBeProfile(cause) {
		c.profile, c.refusal = false, cause
		return h.carryOut(ctx, p, todo)
	}
	c.refusal = nil // without the profile it failed too: that was not the reason, or not the only one
	if !c.remove && c.file == "" && errors.Is(cause, mooring.ErrNotFound) {
		if c.file = h.byFolderID(ctx, p, c.vol.Backing); c.file != "" {
			return h.carryOut(ctx, p, todo)
		}
	}
	if !c.remove && classOf(cause) == ask {
		c.cleared = false
		if err := h.clear(ctx, p, todo); err != nil || c.settled() {
			return err
		}
	}
	verb := "attach"
	if c.remove {
		verb = "detach"
	}
	return fmt.Errorf("%s %s: %w", verb, c.vol.Backing, cause)
}

// compare settles what the hardware list shows to be so already, and returns the rest.
func compare(hw hardware, changes []*change) []*change {
	for _, c := range changes {
		if c.settled() {
			continue
		}
		if other, ok := hw.stranger(c.vol); ok && !c.remove {
			err := fmt.Errorf("%s holds the disk %s, not %s: %w", c.vol.Backing, other.disk, c.vol.Disk, mooring.ErrCorrupt)
			if !c.sent {
				c.settle(err)
				continue
			}
			c.remove, c.wrong, c.vol.Disk = true, err, other.disk
		}
		switch list := hw.find(c.identity()); {
		case len(list) > 1:
			c.settle(fmt.Errorf("the disk %s is %d times in the hardware of this virtual machine: %w", c.vol.Disk, len(list), mooring.ErrCorrupt))
		case (len(list) == 0) == c.remove:
			c.settle(c.wrong)
		}
	}
	return unsettled(changes)
}

func unsettled(changes []*change) []*change {
	left := make([]*change, 0, len(changes))
	for _, c := range changes {
		if !c.settled() {
			left = append(left, c)
		}
	}
	return left
}

// clear settles the additions of disks that another machine in view has, and that are not where the volume says.
func (h *Host) clear(ctx context.Context, p *place, changes []*change) error {
	var asked []*change
	var ids []identity
	for _, c := range changes {
		if !c.remove && !c.cleared {
			asked, ids = append(asked, c), append(ids, c.identity())
		}
	}
	found, err := h.owners(ctx, p, ids)
	if err != nil {
		return err
	}
	for i, c := range asked {
		c.cleared = true
		for _, o := range found[i] {
			if o.ref == p.vm.Self {
				continue
			}
			err := o.inUse(c.vol.Name, c.vol.Backing)
			if o.power == types.VirtualMachinePowerStatePoweredOn {
				err = lingering{err}
			}
			c.settle(err)
			break
		}
	}
	return nil
}

// plan returns the spec for the changes, and those that are in it. Additions for which there is no unit are settled, unless this spec frees some.
func plan(hw hardware, changes []*change) (types.VirtualMachineConfigSpec, []*change) {
	var removed []device
	var in, adds []*change
	for _, c := range changes {
		if c.remove {
			removed, in = append(removed, hw.find(c.identity())...), append(in, c)
		} else {
			adds = append(adds, c)
		}
	}
	slots := allocate(hw.controllers, len(adds))
	var made []controller
	// Making a controller stuns the machine, and with a busy volume it has crashed machines. All buses are filled at once, because there is no second chance
	// while volumes are attached.
	if len(slots) < len(adds) && !hw.hasVolumes() {
		made = newControllers(hw.buses)
		slots = allocate(append(append([]controller{}, hw.controllers...), made...), len(adds))
	}
	var added []addition
	for i, c := range adds {
		switch {
		case i < len(slots):
			c.sent = true
			a := addition{file: cmp.Or(c.file, c.vol.Backing), slot: slots[i]}
			if c.profile {
				a.profile = c.vol.Profile
			}
			added, in = append(added, a), append(in, c)
		case len(removed) == 0:
			c.settle(noUnit(hw, c.vol))
		}
	}
	return reconfigureSpec(hw.version, removed, made, added), in
}

// noUnit says that the machine is full. With all controllers that a machine may have, more of them are no cure.
func noUnit(hw hardware, vol mooring.Volume) error {
	n := len(hw.controllers)
	if n == maxControllers {
		return &mooring.HintError{
			Err: fmt.Errorf("attach %s: no free unit: the four controllers that a virtual machine may have are full, with %d disks each: %w",
				vol.Backing, unitsPerController, mooring.ErrCapacity),
			Hint: "stop containers on this machine whose volumes can be let go, or use the volume on another machine",
		}
	}
	return &mooring.HintError{
		Err: fmt.Errorf("attach %s: no free unit on %d PVSCSI controllers, with %d disks each, and none is added while volumes are attached: %w",
			vol.Backing, n, unitsPerController, mooring.ErrCapacity),
		Hint: "power this virtual machine off and give it four controllers of the kind PVSCSI",
	}
}

// reconfigure runs the task.
func (h *Host) reconfigure(ctx context.Context, p *place, spec types.VirtualMachineConfigSpec) error {
	res, err := methods.ReconfigVM_Task(ctx, p.client, &types.ReconfigVM_Task{This: p.vm.Self, Spec: spec})
	if err == nil {
		_, err = h.session.wait(ctx, p.client, res.Returnval)
	}
	return explain(err)
}

// gone settles removals when the machine itself is no more: then it has no disk either.
func gone(changes []*change, err error) error {
	if errors.Is(err, mooring.ErrNotFound) {
		for _, c := range changes {
			if c.remove && !c.settled() {
				c.settle(nil)
			}
		}
	}
	return err
}
