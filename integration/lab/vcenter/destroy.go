package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// DestroyTask deletes a machine that is off, and with it every disk in its configuration that no other machine has, but first class disks
// only if they are not to be kept (keepAfterDeleteVm).
func (s *shadow) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	body := new(methods.Destroy_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "Destroy_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.destroy(ctx, s.self)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.Destroy_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) destroy(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	m, ok := v.look(ref)
	vm, isVM := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok || !isVM {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if fault := v.reachable(m.host); fault != nil {
		return fault
	}
	if m.on {
		return powerFault(types.VirtualMachinePowerStatePoweredOff, m.state)
	}
	// vcsim would delete each disk by itself, whoever has it: take the disks from the configuration first.
	var bare []types.BaseVirtualDevice
	for _, d := range m.devices {
		if _, ok := d.(*types.VirtualDisk); !ok {
			bare = append(bare, d)
		}
	}
	v.reg.AtomicUpdate(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: bare}})
	v.hw.Lock()
	for _, d := range disks(m.devices) {
		delete(v.attached, association{ref, d.Key})
		name, _ := fileOf(d)
		f, fault := v.readDisk(name)
		if fault != nil {
			continue
		}
		v.consumed(f.file)
		v.deleteWithVM(f, name)
	}
	v.hw.Unlock()
	res, ok := vm.DestroyTask(v.context(ctx.Session.UserName), &types.Destroy_Task{This: ref}).(*methods.Destroy_TaskBody)
	if !ok || res.Res == nil {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	fault := v.inner(res, res.Res.Returnval)
	if fault == nil {
		v.processes.drop(ref)
	}
	return fault
}

// deleteWithVM deletes a disk of a machine that is being deleted, unless another machine has it, or it is a first class disk that is to stay.
// The caller holds v.hw.
func (v *VCenter) deleteWithVM(d diskFile, name string) {
	o, ok := v.firstClassAt(d.file)
	if len(v.claims(d.file)) > 0 || ok && o.keep {
		return
	}
	if fault := v.deleteDisk(d, name); fault != nil {
		v.log.Error("disk of a deleted virtual machine could not be deleted", "backing", name, "err", describe(fault))
		return
	}
	if ok {
		v.forget(o)
	}
}
