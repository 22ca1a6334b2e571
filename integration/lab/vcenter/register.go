package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// shelved is what the configuration file of a machine holds that is out of the inventory. vcsim writes none.
type shelved struct {
	guest   Guest
	devices []types.BaseVirtualDevice
	extra   []types.BaseOptionValue
	m       machine
}

// UnregisterVM takes a machine out of the inventory. Its files stay, and it can be registered again.
func (s *shadow) UnregisterVM(ctx *simulator.Context, req *types.UnregisterVM) soap.HasFault {
	var body soap.HasFault
	q := s.v.queues.get(s.self)
	q.Lock()
	defer q.Unlock()
	fault := s.v.exclusively(s.self, func(p *process, m machine) types.BaseMethodFault {
		vm, ok := s.v.reg.Get(s.self).(*simulator.VirtualMachine)
		if !ok {
			return &types.ManagedObjectNotFound{Obj: s.self}
		}
		if m.on {
			return powerFault(types.VirtualMachinePowerStatePoweredOff, m.state)
		}
		kept := shelved{guest: p.guest, m: m, devices: m.devices}
		inner := s.v.context(ctx.Session.UserName)
		s.v.reg.WithLock(inner, vm, func() {
			kept.extra = slices.Clone(vm.Config.ExtraConfig)
			body = vm.UnregisterVM(inner, &types.UnregisterVM{This: s.self})
		})
		if body.Fault() == nil {
			s.v.shelve(m, kept)
		}
		return nil
	})
	if fault != nil {
		return &methods.UnregisterVMBody{Fault_: simulator.Fault(describe(fault), fault)}
	}
	return body
}

func (v *VCenter) shelve(m machine, kept shelved) {
	file, _ := v.resolve(m.config.vmx)
	v.processes.drop(m.ref)
	v.hw.Lock()
	defer v.hw.Unlock()
	v.shelf[file] = kept
	for _, d := range disks(m.devices) {
		delete(v.attached, association{m.ref, d.Key})
		name, _ := fileOf(d)
		if f, fault := v.resolve(name); fault == nil {
			v.consumed(f)
		}
	}
}

// RegisterVMTask puts a machine into the inventory, as its configuration file has it: with the disks that it had, whoever has them now. vcsim
// makes one with the hardware of a new machine.
func (s *shadow) RegisterVMTask(ctx *simulator.Context, req *types.RegisterVM_Task) soap.HasFault {
	body := new(methods.RegisterVM_TaskBody)
	ref, fault := s.run(ctx, "RegisterVM_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		folder, ok := s.v.reg.Get(s.self).(*simulator.Folder)
		if !ok {
			return nil, &types.ManagedObjectNotFound{Obj: s.self}
		}
		inner, ok := folder.RegisterVMTask(s.v.context(ctx.Session.UserName), req).(*methods.RegisterVM_TaskBody)
		if !ok || inner.Res == nil {
			return nil, &types.SystemError{Reason: "the simulator refused"}
		}
		made, fault := s.v.innerResult(inner, inner.Res.Returnval)
		if ref, ok := made.(types.ManagedObjectReference); ok && fault == nil {
			s.v.unshelve(ctx, ref, req.Path)
		}
		return made, fault
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RegisterVM_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) unshelve(ctx *simulator.Context, ref types.ManagedObjectReference, path string) {
	file, _ := v.resolve(path)
	v.hw.Lock()
	kept, ok := v.shelf[file]
	delete(v.shelf, file)
	v.hw.Unlock()
	if !ok {
		return
	}
	p := v.process(ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guest = kept.guest
	m, _ := v.look(ref)
	v.rebuilt(ctx, m, kept.devices)
	v.update(ctx, ref,
		types.PropertyChange{Name: "config.uuid", Val: kept.m.config.bios},
		types.PropertyChange{Name: "summary.config.uuid", Val: kept.m.config.bios},
		types.PropertyChange{Name: "config.instanceUuid", Val: kept.m.config.instance},
		types.PropertyChange{Name: "summary.config.instanceUuid", Val: kept.m.config.instance},
		types.PropertyChange{Name: "config.version", Val: kept.m.config.hardware},
		types.PropertyChange{Name: "config.hardware.memoryMB", Val: kept.m.memory},
		types.PropertyChange{Name: "config.extraConfig", Val: kept.extra},
	)
}
