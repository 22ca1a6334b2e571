package vcenter

import (
	"context"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Snapshotter is a guest that can keep the disk that it boots from, and put it back.
type Snapshotter interface {
	// Snapshot keeps the disk under that name, as it would be if the machine's power failed now.
	Snapshot(ctx context.Context, name string) error
	// Revert puts back what was kept under that name. The machine is off.
	Revert(ctx context.Context, name string) error
}

// CreateSnapshotTask makes a snapshot.
func (s *shadow) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	body := new(methods.CreateSnapshot_TaskBody)
	ref, fault := s.snapshot(ctx, "CreateSnapshot_Task", types.CreateSnapshotEx_Task{Name: req.Name, Description: req.Description, Memory: req.Memory})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CreateSnapshot_TaskResponse{Returnval: *ref}
	return body
}

// CreateSnapshotExTask makes a snapshot.
func (s *shadow) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	body := new(methods.CreateSnapshotEx_TaskBody)
	ref, fault := s.snapshot(ctx, "CreateSnapshotEx_Task", *req)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CreateSnapshotEx_TaskResponse{Returnval: *ref}
	return body
}

func (s *shadow) snapshot(ctx *simulator.Context, method string, req types.CreateSnapshotEx_Task) (*types.ManagedObjectReference, *soap.Fault) {
	ref, fault := s.v.start(ctx, operation{
		method: method, entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			var made types.AnyType
			fault := s.v.exclusively(s.self, func(p *process, m machine) (fault types.BaseMethodFault) {
				made, fault = s.v.snapshot(ctx, p, m, req)
				return fault
			})
			return made, fault
		},
	})
	if fault != nil {
		return nil, simulator.Fault("", fault)
	}
	return &ref, nil
}

// snapshot keeps the configuration of the machine, and the disk that it boots from. Independent disks are left out, as in vSphere: only that
// the machine had them is kept. The lab has no delta disks, so it refuses a snapshot of other disks. The caller holds p.mu.
func (v *VCenter) snapshot(ctx *simulator.Context, p *process, m machine, req types.CreateSnapshotEx_Task) (types.AnyType, types.BaseMethodFault) {
	_, powered := p.guest.(Powered)
	for _, d := range v.volumes(m) {
		if !independent(d) {
			return nil, withMessage(new(types.NotSupported), "lab.snapshot", "the lab cannot make a snapshot of a dependent disk")
		}
		if req.Memory && m.on {
			return nil, new(types.MemorySnapshotOnIndependentDisk)
		}
	}
	if req.Memory && m.on && powered {
		return nil, withMessage(new(types.NotSupported), "lab.snapshot", "the lab cannot keep the memory of %s", m.name)
	}
	vm, ok := v.reg.Get(m.ref).(*simulator.VirtualMachine)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: m.ref}
	}
	body, ok := vm.CreateSnapshotExTask(v.context(ctx.Session.UserName), &req).(*methods.CreateSnapshotEx_TaskBody)
	if !ok || body.Res == nil {
		return nil, &types.SystemError{Reason: "the simulator refused"}
	}
	made, fault := v.innerResult(body, body.Res.Returnval)
	if fault != nil {
		return nil, fault
	}
	ref, _ := made.(types.ManagedObjectReference)
	if g, ok := p.guest.(Snapshotter); ok {
		if err := g.Snapshot(p.calls(), ref.Value); err != nil {
			v.forgetSnapshot(ctx, ref)
			return nil, withMessage(&types.GenericVmConfigFault{Reason: err.Error()}, "msg.snapshot", "Could not make the snapshot: %v", err)
		}
	}
	return ref, nil
}

func (v *VCenter) forgetSnapshot(ctx *simulator.Context, ref types.ManagedObjectReference) {
	s, ok := v.reg.Get(ref).(*simulator.VirtualMachineSnapshot)
	if !ok {
		return
	}
	body, ok := s.RemoveSnapshotTask(v.context(ctx.Session.UserName), &types.RemoveSnapshot_Task{This: ref}).(*methods.RemoveSnapshot_TaskBody)
	if !ok || body.Res == nil {
		return
	}
	if fault := v.inner(body, body.Res.Returnval); fault != nil {
		v.log.Error("failed snapshot could not be removed", "err", describe(fault))
	}
}

// volumes returns the disks of the machine that lie outside of its own folder.
func (v *VCenter) volumes(m machine) []*types.VirtualDisk {
	var out []*types.VirtualDisk
	for _, d := range disks(m.devices) {
		name, _ := fileOf(d)
		if v.canonicalFolder(name) != v.canonicalFolder(m.config.folder+"/") {
			out = append(out, d)
		}
	}
	return out
}

// canonicalFolder returns the directory on this machine in which the datastore path lies.
func (v *VCenter) canonicalFolder(name string) string {
	dir, _ := v.resolve(folderOf(name))
	return dir
}

func independent(d *types.VirtualDisk) bool {
	b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return ok && (b.DiskMode == string(types.VirtualDiskModeIndependent_persistent) || b.DiskMode == string(types.VirtualDiskModeIndependent_nonpersistent))
}

// RevertToSnapshotTask reverts the machine of the snapshot to it.
func (s *shadow) RevertToSnapshotTask(ctx *simulator.Context, _ *types.RevertToSnapshot_Task) soap.HasFault {
	body := new(methods.RevertToSnapshot_TaskBody)
	ref, fault := s.revert(ctx, "RevertToSnapshot_Task", s.self)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RevertToSnapshot_TaskResponse{Returnval: *ref}
	return body
}

// RevertToCurrentSnapshotTask reverts the machine to its current snapshot.
func (s *shadow) RevertToCurrentSnapshotTask(ctx *simulator.Context, _ *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	body := new(methods.RevertToCurrentSnapshot_TaskBody)
	current := types.ManagedObjectReference{}
	if vm, ok := s.v.reg.Get(s.self).(*simulator.VirtualMachine); ok {
		s.v.reg.WithLock(s.v.context(""), vm, func() {
			if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
				current = *vm.Snapshot.CurrentSnapshot
			}
		})
	}
	ref, fault := s.revert(ctx, "RevertToCurrentSnapshot_Task", current)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RevertToCurrentSnapshot_TaskResponse{Returnval: *ref}
	return body
}

func (s *shadow) revert(ctx *simulator.Context, method string, snap types.ManagedObjectReference) (*types.ManagedObjectReference, *soap.Fault) {
	obj, ok := s.v.reg.Get(snap).(*simulator.VirtualMachineSnapshot)
	if !ok {
		return nil, simulator.Fault("no such snapshot", new(types.NotFound))
	}
	ref, fault := s.v.start(ctx, operation{
		method: method, entity: obj.Vm, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.exclusively(obj.Vm, func(p *process, m machine) types.BaseMethodFault { return s.v.revert(ctx, p, m, obj) })
		},
	})
	if fault != nil {
		return nil, simulator.Fault("", fault)
	}
	return &ref, nil
}

// revert gives the machine the configuration that it had: disks that were attached since are gone from it, and those that were detached are
// in it again, whoever has them now. What independent disks hold stays as it is. The machine is off afterwards, as its memory was not kept.
// vcsim changes nothing but the name of the current snapshot. The caller holds p.mu.
func (v *VCenter) revert(ctx *simulator.Context, p *process, m machine, snap *simulator.VirtualMachineSnapshot) types.BaseMethodFault {
	if m.on {
		if err := v.stop(p, m); err != nil {
			return guestFault("stop", err)
		}
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
		v.event(ctx, &types.VmPoweredOffEvent{VmEvent: v.vmEvent(m)})
	}
	if g, ok := p.guest.(Snapshotter); ok {
		if err := g.Revert(p.calls(), snap.Self.Value); err != nil {
			return withMessage(&types.GenericVmConfigFault{Reason: err.Error()}, "msg.snapshot", "Could not revert: %v", err)
		}
	}
	then := snap.Config.Hardware.Device
	v.rebuilt(ctx, m, then)
	v.update(ctx, m.ref,
		types.PropertyChange{Name: "config.hardware.numCPU", Val: snap.Config.Hardware.NumCPU},
		types.PropertyChange{Name: "config.hardware.memoryMB", Val: snap.Config.Hardware.MemoryMB},
		types.PropertyChange{Name: "config.extraConfig", Val: snap.Config.ExtraConfig},
		types.PropertyChange{Name: "snapshot.currentSnapshot", Val: snap.Self},
	)
	e := v.vmEventf(m, "Virtual machine %s has been reverted to the state of its snapshot", m.name)
	v.event(ctx, extended(eventReverted, string(types.EventEventSeverityInfo), m.ref, m.name, e.Event))
	return nil
}

// rebuilt publishes a hardware list that was kept, of a machine that is off. What vCenter knew of the storage policies of its disks is lost.
func (v *VCenter) rebuilt(ctx *simulator.Context, m machine, kept []types.BaseVirtualDevice) {
	var devices []types.BaseVirtualDevice
	for _, d := range kept { // the copy that was kept may be needed again
		d = clone(d)
		if disk, ok := d.(*types.VirtualDisk); ok {
			if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				b := *flat
				disk.Backing = &b
			}
		}
		devices = append(devices, d)
	}
	v.hw.Lock()
	defer v.hw.Unlock()
	v.publishHardware(ctx, m.ref, devices)
	for _, d := range append(disks(m.devices), disks(devices)...) {
		delete(v.attached, association{m.ref, d.Key})
		name, _ := fileOf(d)
		if f, fault := v.resolve(name); fault == nil {
			v.consumed(f)
		}
	}
}
