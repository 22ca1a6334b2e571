package vcenter

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Cloner is a guest of which another can be made.
type Cloner interface {
	// Clone returns the guest of a new machine of that name, with a copy of the disk that this one boots from. The machine is off.
	Clone(ctx context.Context, name string) (Guest, error)
}

// CloneVMTask makes a machine with copies of another's disks. vcsim gives it empty ones.
func (s *shadow) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	body := new(methods.CloneVM_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "CloneVM_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			var made types.ManagedObjectReference
			fault := s.v.exclusively(s.self, func(p *process, m machine) (fault types.BaseMethodFault) {
				made, fault = s.v.cloneVM(ctx, p, m, req)
				return fault
			})
			if fault == nil && req.Spec.PowerOn {
				fault = s.v.powerOn(ctx, made)
			}
			return made, fault
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.CloneVM_TaskResponse{Returnval: ref}
	return body
}

// cloneVM copies a machine that is off, with all of its disks but those that the specification removes: independent ones too. The copies are
// disks of their own: each has a new UUID, in the folder of the new machine, and is attached in the same place and mode. That vCenter writes
// a new UUID into the copy is what makes clones safe in a guest that knows disks by it; it is taken from the API's documentation of
// virtual disks, and was not seen on hardware. A running machine is refused: vSphere clones one through a snapshot, which independent disks do not
// take part in. The caller holds p.mu.
func (v *VCenter) cloneVM(ctx *simulator.Context, p *process, m machine, req *types.CloneVM_Task) (types.ManagedObjectReference, types.BaseMethodFault) {
	none := types.ManagedObjectReference{}
	if m.state != types.VirtualMachinePowerStatePoweredOff {
		return none, powerFault(types.VirtualMachinePowerStatePoweredOff, m.state)
	}
	if req.Spec.Template {
		return none, withMessage(new(types.NotSupported), "lab.clone", "the lab makes no templates")
	}
	v.event(ctx, &types.VmBeingClonedEvent{
		VmCloneEvent: types.VmCloneEvent{VmEvent: v.vmEvent(m)}, DestName: req.Name, DestHost: *v.vmEvent(m).Host,
	})
	ref, fault := v.createLike(ctx, m, req)
	if fault != nil {
		return none, fault
	}
	if fault := v.furnish(ctx, p, m, ref, req); fault != nil {
		if undo := v.destroy(ctx, ref); undo != nil {
			v.log.Error("failed clone could not be deleted", "vm", req.Name, "err", describe(undo))
		}
		return none, fault
	}
	c, _ := v.look(ref)
	v.event(ctx, &types.VmClonedEvent{VmCloneEvent: types.VmCloneEvent{VmEvent: v.vmEvent(c)}, SourceVm: *v.vmEvent(m).Vm})
	return ref, nil
}

// createLike makes a machine with the controllers of another, and no disks.
func (v *VCenter) createLike(ctx *simulator.Context, m machine, req *types.CloneVM_Task) (types.ManagedObjectReference, types.BaseMethodFault) {
	none := types.ManagedObjectReference{}
	folder, ok := v.reg.Get(req.Folder).(*simulator.Folder)
	vm, isVM := v.reg.Get(m.ref).(*simulator.VirtualMachine)
	if !ok || !isVM {
		return none, &types.InvalidArgument{InvalidProperty: "folder"}
	}
	spec := types.VirtualMachineConfigSpec{
		Name: req.Name, Version: m.config.hardware, MemoryMB: int64(m.memory), NumCPUs: 2,
		Files: &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s]", datastoreOf(m.config.folder))},
	}
	create := types.CreateVM_Task{This: folder.Self, Host: &m.host}
	v.reg.WithLock(v.context(""), vm, func() {
		spec.GuestId, spec.NumCPUs = vm.Config.GuestId, vm.Config.Hardware.NumCPU
		spec.ExtraConfig = slices.Clone(vm.Config.ExtraConfig)
		create.Pool = *vm.ResourcePool
	})
	if h := req.Spec.Location.Host; h != nil {
		create.Host = h
	}
	if c := req.Spec.Config; c != nil {
		spec.Uuid, spec.InstanceUuid = c.Uuid, c.InstanceUuid
	}
	for _, d := range m.devices {
		if _, ok := d.(types.BaseVirtualSCSIController); ok {
			d = clone(d)
			if c, ok := d.(types.BaseVirtualController); ok {
				c.GetVirtualController().Device = nil
			}
			spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d})
		}
	}
	create.Config = spec
	if e, ok := v.named(folder, req.Name); ok {
		return none, &types.DuplicateName{Name: req.Name, Object: e}
	}
	body, ok := folder.CreateVMTask(v.context(ctx.Session.UserName), &create).(*methods.CreateVM_TaskBody)
	if !ok || body.Res == nil {
		return none, &types.SystemError{Reason: "the simulator refused"}
	}
	made, fault := v.innerResult(body, body.Res.Returnval)
	ref, _ := made.(types.ManagedObjectReference)
	return ref, fault
}

// named returns what has that name in the folder.
func (v *VCenter) named(folder *simulator.Folder, name string) (types.ManagedObjectReference, bool) {
	var children []types.ManagedObjectReference
	v.reg.WithLock(v.context(""), folder, func() { children = slices.Clone(folder.ChildEntity) })
	for _, ref := range children {
		if e, ok := v.reg.Get(ref).(mo.Entity); ok && e.Entity().Name == name {
			return ref, true
		}
	}
	return types.ManagedObjectReference{}, false
}

// furnish gives a new machine its guest and its copies of the other's disks.
func (v *VCenter) furnish(ctx *simulator.Context, p *process, m machine, ref types.ManagedObjectReference, req *types.CloneVM_Task) types.BaseMethodFault {
	c, ok := v.look(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	removed := map[int32]bool{}
	if spec := req.Spec.Config; spec != nil {
		for _, x := range spec.DeviceChange {
			if x := x.GetVirtualDeviceConfigSpec(); x.Operation == types.VirtualDeviceConfigSpecOperationRemove && x.Device != nil {
				removed[x.Device.GetVirtualDevice().Key] = true
			}
		}
	}
	var changes []types.BaseVirtualDeviceConfigSpec
	for i, d := range disks(m.devices) {
		if removed[d.Key] {
			continue
		}
		name := fmt.Sprintf("%s/%s%s", c.config.folder, req.Name, diskSuffix)
		if i > 0 {
			name = fmt.Sprintf("%s/%s_%d%s", c.config.folder, req.Name, i, diskSuffix)
		}
		copied, fault := v.duplicate(d, name)
		if fault != nil {
			return fault
		}
		changes = append(changes, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: copied})
	}
	if fault := v.reconfigure(ctx, ref, types.VirtualMachineConfigSpec{DeviceChange: changes}); fault != nil {
		return fault
	}
	if g, ok := p.guest.(Cloner); ok {
		guest, err := g.Clone(p.calls(), req.Name)
		if err != nil {
			return withMessage(&types.GenericVmConfigFault{Reason: err.Error()}, "msg.clone", "Could not copy the guest: %v", err)
		}
		v.process(ref).guest = guest
	}
	return nil
}

// duplicate copies the disk to a new one of that name and describes it for the machine that is to have it.
func (v *VCenter) duplicate(d *types.VirtualDisk, name string) (*types.VirtualDisk, types.BaseMethodFault) {
	from, _ := fileOf(d)
	src, fault := v.readDisk(from)
	if fault != nil {
		return nil, fault
	}
	kind := types.VirtualDiskTypePreallocated
	if src.thin {
		kind = types.VirtualDiskTypeThin
	}
	dst, fault := v.makeDisk(newDisk{name: name, capacityKB: src.capacity >> 10, diskType: string(kind)})
	if fault != nil {
		return nil, fault
	}
	if err := copySparse(src.extent, dst.extent); err != nil {
		return nil, &types.CannotAccessFile{FileFault: types.FileFault{File: name}}
	}
	out := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: -1 - d.Key, ControllerKey: d.ControllerKey, UnitNumber: d.UnitNumber}}
	b := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: name}}
	if flat, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		b.DiskMode, b.Sharing = flat.DiskMode, flat.Sharing
	}
	out.Backing = b
	return out, nil
}
