package vcenter

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// powerFault is the fault for a machine that is in the wrong state for what is asked.
func powerFault(want, is types.VirtualMachinePowerState) types.BaseMethodFault {
	return &types.InvalidPowerState{RequestedState: want, ExistingState: is}
}

// exclusively gives the machine and its process to the function while nobody else changes either.
func (v *VCenter) exclusively(ref types.ManagedObjectReference, do func(*process, machine) types.BaseMethodFault) types.BaseMethodFault {
	p := v.process(ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := v.look(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if fault := v.reachable(m.host); fault != nil {
		return fault
	}
	return do(p, m)
}

// powerOn starts a machine if no other that runs has one of its disks. If it cannot, the machine is off and no file is locked.
func (v *VCenter) powerOn(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	return v.exclusively(ref, func(p *process, m machine) types.BaseMethodFault { return v.begin(ctx, p, m) })
}

// begin is powerOn for a caller that holds p.mu.
func (v *VCenter) begin(ctx *simulator.Context, p *process, m machine) types.BaseMethodFault {
	if m.state == types.VirtualMachinePowerStatePoweredOn {
		return powerFault(types.VirtualMachinePowerStatePoweredOn, m.state)
	}
	if fault := v.cluster.admits(m); fault != nil {
		return fault
	}
	if m.state == types.VirtualMachinePowerStateSuspended {
		if guest, ok := p.guest.(Pausing); ok {
			if err := guest.Thaw(); err != nil {
				return guestFault("resume", err)
			}
		}
		p.since = time.Now()
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOn)
		v.event(ctx, &types.VmResumingEvent{VmEvent: v.vmEvent(m)})
		v.event(ctx, &types.VmPoweredOnEvent{VmEvent: v.vmEvent(m)})
		return nil
	}
	files, fault := v.takeLocks(m)
	if fault != nil {
		return fault
	}
	defer v.dropLocks(files)
	v.event(ctx, &types.VmStartingEvent{VmEvent: v.vmEvent(m)})
	if err := v.boot(p, m); err != nil {
		fault := guestFault("add", err)
		v.event(ctx, &types.VmFailedToPowerOnEvent{VmEvent: v.vmEvent(m), Reason: *localized(fault)})
		return fault
	}
	v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOn)
	v.event(ctx, &types.VmPoweredOnEvent{VmEvent: v.vmEvent(m)})
	return nil
}

// powerOff stops a machine, which lets go of its files when it can write to them no more.
func (v *VCenter) powerOff(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	return v.exclusively(ref, func(p *process, m machine) types.BaseMethodFault {
		if m.state == types.VirtualMachinePowerStatePoweredOff {
			return powerFault(types.VirtualMachinePowerStatePoweredOff, m.state)
		}
		v.event(ctx, &types.VmStoppingEvent{VmEvent: v.vmEvent(m)})
		if err := v.stop(p, m); err != nil {
			return guestFault("stop", err)
		}
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
		v.event(ctx, &types.VmPoweredOffEvent{VmEvent: v.vmEvent(m)})
		return nil
	})
}

// reset restarts a machine without asking its guest. It keeps its locks, and is on for whoever watches, as in vSphere.
func (v *VCenter) reset(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	return v.exclusively(ref, func(p *process, m machine) types.BaseMethodFault {
		if m.state != types.VirtualMachinePowerStatePoweredOn {
			return powerFault(types.VirtualMachinePowerStatePoweredOn, m.state)
		}
		v.event(ctx, &types.VmResettingEvent{VmEvent: v.vmEvent(m)})
		if err := v.restart(p, m); err != nil {
			fault := guestFault("reset", err)
			if !p.on.Load() {
				v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
				v.event(ctx, &types.VmPoweredOffEvent{VmEvent: v.vmEvent(m)})
			}
			return fault
		}
		now := time.Now()
		v.update(ctx, ref, types.PropertyChange{Name: "runtime.bootTime", Val: now}, types.PropertyChange{Name: "summary.runtime.bootTime", Val: now})
		return nil
	})
}

// resetPatience is how long a guest may take to restart by itself before its plug is pulled. It is no time of vSphere's, and is not scaled.
const resetPatience = 20 * time.Second

// restart makes the guest boot again; one that does not hear, because it hangs, has its plug pulled. The caller holds p.mu.
func (v *VCenter) restart(p *process, m machine) error {
	guest, ok := p.guest.(Powered)
	if !ok {
		p.since = time.Now()
		return nil
	}
	ctx, cancel := context.WithTimeout(p.calls(), resetPatience)
	defer cancel()
	err := guest.Reset(ctx)
	if err == nil {
		p.since = time.Now()
		return nil
	}
	v.log.Info("guest could not be reset: it is powered off and on", "vm", m.name, "err", err)
	if err := v.stop(p, m); err != nil {
		return err
	}
	return v.boot(p, m)
}

// suspend stops the clock of a machine, which keeps its locks. Of a machine with power of its own nothing is written down: it must be able to stand still.
func (v *VCenter) suspend(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	return v.exclusively(ref, func(p *process, m machine) types.BaseMethodFault {
		_, powered := p.guest.(Powered)
		guest, pausing := p.guest.(Pausing)
		if powered && !pausing {
			return withMessage(new(types.NotSupported), "lab.suspend", "the lab cannot keep the memory of %s", m.name)
		}
		if m.state != types.VirtualMachinePowerStatePoweredOn {
			return powerFault(types.VirtualMachinePowerStateSuspended, m.state)
		}
		v.event(ctx, &types.VmSuspendingEvent{VmEvent: v.vmEvent(m)})
		if pausing {
			if err := guest.Freeze(); err != nil {
				return guestFault("suspend", err)
			}
		}
		v.setPower(ctx, m, types.VirtualMachinePowerStateSuspended)
		v.event(ctx, &types.VmSuspendedEvent{VmEvent: v.vmEvent(m)})
		return nil
	})
}

// setPower publishes the machine's power state, and which of its devices are connected in it.
func (v *VCenter) setPower(ctx *simulator.Context, m machine, state types.VirtualMachinePowerState) {
	on := state == types.VirtualMachinePowerStatePoweredOn
	var boot any
	if on {
		boot = time.Now()
	}
	if now, ok := v.look(m.ref); ok {
		m = now
	}
	devices := slices.Clone(m.devices)
	for i, d := range devices {
		if was := d.GetVirtualDevice().Connectable; was != nil {
			c := *was
			c.Connected = on && was.StartConnected
			devices[i] = clone(d)
			devices[i].GetVirtualDevice().Connectable = &c
		}
	}
	v.update(ctx, m.ref,
		types.PropertyChange{Name: "runtime.powerState", Val: state},
		types.PropertyChange{Name: "summary.runtime.powerState", Val: state},
		types.PropertyChange{Name: "runtime.bootTime", Val: boot},
		types.PropertyChange{Name: "summary.runtime.bootTime", Val: boot},
		types.PropertyChange{Name: "config.hardware.device", Val: devices},
	)
}

// update changes properties of the object, if it is there. Whoever waits for "runtime.powerState" is told only of that very path: "runtime"
// would pass him by.
func (v *VCenter) update(ctx *simulator.Context, ref types.ManagedObjectReference, changes ...types.PropertyChange) {
	if obj := v.reg.Get(ref); obj != nil {
		v.reg.AtomicUpdate(ctx, obj, changes)
	}
}

// takeLocks reserves every disk of the machine, or returns the fault of the first that another machine has.
func (v *VCenter) takeLocks(m machine) ([]string, types.BaseMethodFault) {
	v.hw.Lock()
	defer v.hw.Unlock()
	var files []string
	var found []claim
	for _, d := range disks(m.devices) {
		name, shared := fileOf(d)
		f, fault := v.readDisk(name)
		if fault != nil {
			return nil, fault
		}
		if fault := v.conflict(f.file, name, m.ref, shared); fault != nil {
			return nil, fault
		}
		files = append(files, f.file)
		found = append(found, claim{vm: m.ref, name: m.name, on: true, shared: shared, disk: d})
	}
	for i, f := range files {
		v.reserved[f] = reservation{found[i]}
	}
	return files, nil
}

func (v *VCenter) dropLocks(files []string) {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, f := range files {
		delete(v.reserved, f)
	}
}

// guestDisks returns the disks that the guest of the machine is to have: all but those in the machine's own folder, from which it boots.
func (v *VCenter) guestDisks(m machine) []Disk {
	home, _ := v.resolve(m.config.folder)
	var out []Disk
	for _, d := range disks(m.devices) {
		name, _ := fileOf(d)
		f, fault := v.readDisk(name)
		if fault == nil && filepath.Dir(f.file) != home {
			out = append(out, asDisk(d, f))
		}
	}
	return out
}

// PowerOff stops the machine of that name, as somebody who pulls its plug: what is being done to it ends.
func (v *VCenter) PowerOff(name string) error {
	return v.power(name, "power off", func(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
		fault := v.powerOff(ctx, ref)
		v.process(ref).renew(v.ctx)
		return fault
	}, (*process).cut)
}

// PowerOn starts the machine of that name.
func (v *VCenter) PowerOn(name string) error { return v.power(name, "power on", v.powerOn) }

// Reset restarts the machine of that name, as its reset button does.
func (v *VCenter) Reset(name string) error { return v.power(name, "reset", v.reset) }

// Suspend suspends the machine of that name, if it has no power of its own or can stand still ([Pausing]).
func (v *VCenter) Suspend(name string) error { return v.power(name, "suspend", v.suspend) }

func (v *VCenter) power(name, verb string, do func(*simulator.Context, types.ManagedObjectReference) types.BaseMethodFault,
	before ...func(*process),
) error {
	m, err := v.find(name)
	if err != nil {
		return err
	}
	for _, f := range before {
		f(v.process(m.ref))
	}
	q := v.queues.get(m.ref)
	q.Lock()
	defer q.Unlock()
	if fault := do(v.context(v.admin.User), m.ref); fault != nil {
		return fmt.Errorf("%s %s: %w", verb, name, asError(fault))
	}
	return nil
}

// PoweredOff tells the vCenter that the guest of the machine has switched itself off. It may be called at any moment and does not wait: of a
// machine that was stopped from outside, it says nothing new.
func (v *VCenter) PoweredOff(name string) {
	v.ended(name, func(ctx *simulator.Context, m machine) {
		v.event(ctx, &types.VmPoweredOffEvent{VmEvent: v.vmEvent(m)})
	})
}

// Crashed tells the vCenter that the process of the machine has died by itself, which nobody asked for: HA starts it again.
func (v *VCenter) Crashed(name string) {
	v.ended(name, func(ctx *simulator.Context, m machine) {
		v.event(ctx, &types.VmPoweredOffEvent{VmEvent: v.vmEvent(m)})
		v.cluster.lose(m, causeCrash, time.Now())
	})
}

func (v *VCenter) ended(name string, then func(*simulator.Context, machine)) {
	m, err := v.find(name)
	if err != nil {
		return
	}
	p := v.process(m.ref)
	boots := p.boots.Load()
	if p.told.Load() || v.ctx.Err() != nil {
		return
	}
	v.wg.Go(func() {
		p.cut()
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.renew(v.ctx)
		m, ok := v.look(m.ref)
		if !ok || !p.on.Load() || p.boots.Load() != boots {
			return
		}
		p.on.Store(false)
		p.told.Store(true)
		v.cluster.changed()
		if v.reachable(m.host) != nil {
			return // nobody can see it
		}
		ctx := v.context("")
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
		then(ctx, m)
	})
}
