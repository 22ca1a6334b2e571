package vcenter

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// clone returns a shallow copy of the device.
func clone(d types.BaseVirtualDevice) types.BaseVirtualDevice {
	c := reflect.New(reflect.TypeOf(d).Elem())
	c.Elem().Set(reflect.ValueOf(d).Elem())
	out, _ := reflect.TypeAssert[types.BaseVirtualDevice](c)
	return out
}

// ReconfigVMTask checks the whole specification, then applies it: to the guest first, which may fail, then to the hardware list.
func (s *shadow) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	body := new(methods.ReconfigVM_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "ReconfigVM_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.reconfigure(ctx, s.self, req.Spec)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("The operation is not allowed: another task is already in progress.", fault)
		return body
	}
	body.Res = &types.ReconfigVM_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) reconfigure(ctx *simulator.Context, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) types.BaseMethodFault {
	return v.exclusively(ref, func(proc *process, m machine) types.BaseMethodFault {
		if m.state == types.VirtualMachinePowerStateSuspended && len(spec.DeviceChange) > 0 {
			return powerFault(types.VirtualMachinePowerStatePoweredOn, m.state)
		}
		return v.rebuild(ctx, proc, m, spec)
	})
}

// rebuild carries out a reconfiguration for a caller that holds the process's lock.
func (v *VCenter) rebuild(ctx *simulator.Context, proc *process, m machine, spec types.VirtualMachineConfigSpec) types.BaseMethodFault {
	p, fault := v.plan(m, spec)
	if fault != nil {
		return fault
	}
	defer v.unreserve(p)
	undo, fault := v.carryOut(ctx, proc, m, &p)
	if fault == nil && needsInner(p, spec) {
		fault = v.passOn(ctx, m.ref, spec, p.rest)
		if fault == nil { // it may have added devices of its own
			m, _ = v.look(m.ref)
			p.devices = merge(p, m.devices)
		}
	}
	if fault != nil {
		undo.run()
		return fault
	}
	v.commit(ctx, m, p)
	return nil
}

// plan checks the specification and reserves the files that it adds, in one step.
func (v *VCenter) plan(m machine, spec types.VirtualMachineConfigSpec) (plan, types.BaseMethodFault) {
	v.hw.Lock()
	defer v.hw.Unlock()
	p := &planner{
		vm: m, lookup: v.readDisk, path: v.canonical,
		vacant: v.vacant,
		lock: func(d diskFile, name string, shared bool) types.BaseMethodFault {
			return v.conflict(d.file, name, m.ref, shared)
		},
		profile: v.spbm.usable,
	}
	out, fault := p.run(spec)
	if fault != nil {
		return plan{}, fault
	}
	for _, a := range out.add {
		_, shared := fileOf(a.disk)
		v.reserved[a.file.file] = reservation{claim{vm: m.ref, name: m.name, on: m.on, shared: shared, disk: a.disk}}
	}
	return out, nil
}

func (v *VCenter) unreserve(p plan) {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, a := range p.add {
		delete(v.reserved, a.file.file)
	}
}

// undoing is what takes back the steps of a reconfiguration that fails.
type undoing struct{ steps []func() }

func (u *undoing) add(step func()) { u.steps = append(u.steps, step) }

func (u *undoing) run() {
	for _, step := range slices.Backward(u.steps) {
		step()
	}
}

// carryOut makes and grows files and tells the guest.
func (v *VCenter) carryOut(ctx *simulator.Context, proc *process, m machine, p *plan) (*undoing, types.BaseMethodFault) {
	u := new(undoing)
	if fault := v.makeFiles(p, u); fault != nil {
		return u, fault
	}
	for _, g := range p.grow {
		v.hw.Lock()
		fault := v.grow(g.file, g.capacity, g.name)
		v.hw.Unlock()
		if fault != nil {
			return u, fault
		}
	}
	if proc.guest == nil || !m.on {
		return u, nil
	}
	return u, v.tell(ctx, proc.guest, p, u)
}

// makeFiles makes the disks that the specification asks for.
func (v *VCenter) makeFiles(p *plan, u *undoing) types.BaseMethodFault {
	for i := range p.add {
		a := &p.add[i]
		if a.create == nil {
			continue
		}
		d, fault := v.makeDisk(*a.create)
		if fault != nil {
			return fault
		}
		u.add(func() { v.discard(d, a.name) })
		a.file = d
		if flat, ok := a.disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok { // not published yet: it may be changed
			flat.FileName, flat.Uuid = v.canonical(d.file), d.uuid
		}
	}
	return nil
}

// tell makes the guest notice. What is added goes first: it may fail, and a disk that was taken away while the guest used it comes back as
// another device.
func (v *VCenter) tell(ctx *simulator.Context, guest Guest, p *plan, u *undoing) types.BaseMethodFault {
	bus, _ := guest.(Bus)
	for _, n := range p.addBus {
		if bus == nil {
			break
		}
		if err := bus.AddController(ctx, n); err != nil {
			return guestFault("add", err)
		}
		u.add(func() { v.undone(bus.RemoveController(v.ctx, n)) })
	}
	for _, a := range p.add {
		if p.moves(a.file.file) {
			continue
		}
		if err := guest.Plug(ctx, asDisk(a.disk, a.file)); err != nil {
			return guestFault("add", err)
		}
		u.add(func() { v.unplug(v.ctx, guest, asDisk(a.disk, a.file)) })
	}
	if grower, ok := guest.(Grower); ok {
		for _, g := range p.grow {
			if err := grower.Grow(ctx, asDisk(g.disk, g.file)); err != nil {
				return guestFault("edit", err)
			}
		}
	}
	return v.tellRemoved(ctx, guest, p, u)
}

func (v *VCenter) tellRemoved(ctx *simulator.Context, guest Guest, p *plan, u *undoing) types.BaseMethodFault {
	for _, r := range p.remove {
		if p.moves(r.file.file) {
			continue
		}
		if err := guest.Unplug(ctx, asDisk(r.disk, r.file)); err != nil {
			return guestFault("remove", err)
		}
		u.add(func() { v.undone(guest.Plug(v.ctx, asDisk(r.disk, r.file))) })
	}
	bus, ok := guest.(Bus)
	for _, n := range p.removeBus {
		if !ok {
			break
		}
		if err := bus.RemoveController(ctx, n); err != nil {
			return guestFault("remove", err)
		}
		u.add(func() { v.undone(bus.AddController(v.ctx, n)) })
	}
	return nil
}

// undone reports a step that could not be taken back.
func (v *VCenter) undone(err error) {
	if err != nil {
		v.log.Error("failed reconfiguration could not be taken back", "err", err)
	}
}

// moves says whether the file is both removed and added: it only changes its place, which no guest of the lab notices.
func (p *plan) moves(file string) bool {
	added, removed := false, false
	for _, a := range p.add {
		added = added || a.file.file == file
	}
	for _, r := range p.remove {
		removed = removed || r.file.file == file
	}
	return added && removed
}

func (v *VCenter) unplug(ctx context.Context, g Guest, d Disk) {
	if err := g.Unplug(ctx, d); err != nil {
		v.log.Error("disk could not be taken from the guest", "disk", d.UUID, "err", err)
	}
}

func (v *VCenter) discard(d diskFile, name string) {
	v.hw.Lock()
	defer v.hw.Unlock()
	if fault := v.deleteDisk(d, name); fault != nil {
		v.log.Error("disk of a failed reconfiguration could not be deleted", "backing", name, "err", describe(fault))
	}
}

func guestFault(verb string, err error) types.BaseMethodFault {
	return withMessage(&types.GenericVmConfigFault{Reason: err.Error()}, "msg.hot"+verb, "Could not %s the device: %s", verb, err)
}

// asDisk describes the disk to a guest.
func asDisk(d *types.VirtualDisk, f diskFile) Disk {
	name, _ := fileOf(d)
	uuid := f.uuid
	if flat, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && uuid == "" {
		uuid = flat.Uuid // the file is gone
	}
	out := Disk{UUID: uuid, Backing: name, Extent: f.extent, Capacity: f.capacity, Controller: int(d.ControllerKey - scsiKey)}
	if d.UnitNumber != nil {
		out.Unit = int(*d.UnitNumber)
	}
	return out
}

// needsInner says whether anything is left for vcsim to do.
func needsInner(p plan, spec types.VirtualMachineConfigSpec) bool {
	spec.DeviceChange, spec.ChangeVersion = p.rest, ""
	return !reflect.DeepEqual(spec, types.VirtualMachineConfigSpec{})
}

// passOn lets vcsim apply what is not about disks.
func (v *VCenter) passOn(ctx *simulator.Context, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec,
	rest []types.BaseVirtualDeviceConfigSpec,
) types.BaseMethodFault {
	vm, ok := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	spec.DeviceChange, spec.ChangeVersion = rest, ""
	res, ok := vm.ReconfigVMTask(v.context(ctx.Session.UserName), &types.ReconfigVM_Task{This: ref, Spec: spec}).(*methods.ReconfigVM_TaskBody)
	if !ok || res.Res == nil {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	return v.inner(res, res.Res.Returnval)
}

// merge returns the planned disks and SCSI controllers, and of all other devices those that vcsim has now.
func merge(p plan, now []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	ours := func(d types.BaseVirtualDevice) bool {
		_, disk := d.(*types.VirtualDisk)
		_, scsi := d.(types.BaseVirtualSCSIController)
		return disk || scsi
	}
	var out []types.BaseVirtualDevice
	for _, d := range now {
		if !ours(d) {
			out = append(out, d)
		}
	}
	for _, d := range p.devices {
		if ours(d) {
			out = append(out, d)
		}
	}
	return out
}

// commit publishes the new hardware, then records profiles and who has first class disks, and deletes what was to be destroyed.
func (v *VCenter) commit(ctx *simulator.Context, m machine, p plan) {
	v.hw.Lock()
	defer v.hw.Unlock()
	v.publishHardware(ctx, m.ref, p.devices)
	for key, profile := range p.applied {
		delete(v.attached, association{m.ref, key})
		if profile != "" {
			v.attached[association{m.ref, key}] = profile
		}
	}
	for _, a := range p.add {
		if profile := p.applied[a.disk.Key]; profile != "" {
			v.applied[a.file.uuid] = profile
		}
	}
	for _, a := range p.add {
		v.consumed(a.file.file)
	}
	for _, r := range p.remove {
		v.consumed(r.file.file)
		if !r.destroy || len(v.claims(r.file.file)) > 0 {
			v.remeasure(r.file.datastore)
			continue
		}
		if fault := v.deleteDisk(r.file, r.file.file); fault != nil {
			v.log.Error("destroyed disk could not be deleted", "err", describe(fault))
		}
	}
	v.event(ctx, &types.VmReconfiguredEvent{VmEvent: v.vmEvent(m)})
}

// publishHardware publishes the machine's hardware list, as a change of its configuration.
func (v *VCenter) publishHardware(ctx *simulator.Context, ref types.ManagedObjectReference, devices []types.BaseVirtualDevice) {
	now := time.Now()
	v.update(ctx, ref,
		types.PropertyChange{Name: "config.hardware.device", Val: devices},
		types.PropertyChange{Name: "config.changeVersion", Val: strconv.FormatInt(now.UnixNano(), 10)},
		types.PropertyChange{Name: "config.modified", Val: now},
		types.PropertyChange{Name: "summary.config.numVirtualDisks", Val: int32(len(disks(devices)))},
	)
}

// errGone is returned for a machine that is not in the inventory.
var errGone = errors.New("no such virtual machine")

// find returns the machine of that name.
func (v *VCenter) find(name string) (machine, error) {
	for _, e := range v.reg.All("VirtualMachine") {
		if m, ok := v.look(e.Reference()); ok && m.name == name {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("find %s: %w", name, errGone)
}
