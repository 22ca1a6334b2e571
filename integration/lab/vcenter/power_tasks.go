package vcenter

import (
	"context"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// queued begins a task that changes the machine's power, after those that are there.
func (s *shadow) queued(ctx *simulator.Context, method string,
	do func(*simulator.Context, types.ManagedObjectReference) types.BaseMethodFault,
) (*types.ManagedObjectReference, *soap.Fault) {
	ref, fault := s.v.start(ctx, operation{
		method: method, entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) { return nil, do(ctx, s.self) },
	})
	if fault != nil {
		return nil, simulator.Fault("", fault)
	}
	return &ref, nil
}

// PowerOnVMTask starts a machine if no other that runs has one of its disks.
func (s *shadow) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	body := new(methods.PowerOnVM_TaskBody)
	ref, fault := s.queued(ctx, "PowerOnVM_Task", s.v.powerOn)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.PowerOnVM_TaskResponse{Returnval: *ref}
	return body
}

// PowerOffVMTask stops a machine, which lets go of its disks.
func (s *shadow) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	body := new(methods.PowerOffVM_TaskBody)
	ref, fault := s.queued(ctx, "PowerOffVM_Task", s.v.powerOff)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.PowerOffVM_TaskResponse{Returnval: *ref}
	return body
}

// ResetVMTask restarts a machine. vcsim powers it off and on, which somebody who watches takes for something else.
func (s *shadow) ResetVMTask(ctx *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	body := new(methods.ResetVM_TaskBody)
	ref, fault := s.queued(ctx, "ResetVM_Task", s.v.reset)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ResetVM_TaskResponse{Returnval: *ref}
	return body
}

// SuspendVMTask suspends a machine.
func (s *shadow) SuspendVMTask(ctx *simulator.Context, _ *types.SuspendVM_Task) soap.HasFault {
	body := new(methods.SuspendVM_TaskBody)
	ref, fault := s.queued(ctx, "SuspendVM_Task", s.v.suspend)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.SuspendVM_TaskResponse{Returnval: *ref}
	return body
}

// PowerOnMultiVMTask is refused: vcsim would start the machines past the locks.
func (s *shadow) PowerOnMultiVMTask(*simulator.Context, *types.PowerOnMultiVM_Task) soap.HasFault {
	return &methods.PowerOnMultiVM_TaskBody{Fault_: simulator.Fault("power them on one by one", new(types.NotSupported))}
}

// ShutdownGuest asks the guest to end; it says so by itself when it has. A guest that does not listen has no tools.
func (s *shadow) ShutdownGuest(ctx *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	body := new(methods.ShutdownGuestBody)
	fault := s.v.ask(ctx, s.self, func(m machine) types.BaseEvent { return &types.VmGuestShutdownEvent{VmEvent: s.v.vmEvent(m)} },
		func(ctx context.Context, g Obedient) error { return g.Shutdown(ctx) })
	if fault != nil {
		body.Fault_ = simulator.Fault(describe(fault), fault)
		return body
	}
	body.Res = new(types.ShutdownGuestResponse)
	return body
}

// RebootGuest asks the guest to boot again.
func (s *shadow) RebootGuest(ctx *simulator.Context, _ *types.RebootGuest) soap.HasFault {
	body := new(methods.RebootGuestBody)
	fault := s.v.ask(ctx, s.self, func(m machine) types.BaseEvent { return &types.VmGuestRebootEvent{VmEvent: s.v.vmEvent(m)} },
		func(ctx context.Context, g Obedient) error { return g.Reboot(ctx) })
	if fault != nil {
		body.Fault_ = simulator.Fault(describe(fault), fault)
		return body
	}
	body.Res = new(types.RebootGuestResponse)
	return body
}

// StandbyGuest is refused: no guest of the lab can sleep.
func (s *shadow) StandbyGuest(*simulator.Context, *types.StandbyGuest) soap.HasFault {
	return &methods.StandbyGuestBody{Fault_: simulator.Fault("", new(types.ToolsUnavailable))}
}

// ask has the guest of a running machine do something, which it answers before it is done.
func (v *VCenter) ask(ctx *simulator.Context, ref types.ManagedObjectReference, event func(machine) types.BaseEvent,
	do func(context.Context, Obedient) error,
) types.BaseMethodFault {
	return v.exclusively(ref, func(p *process, m machine) types.BaseMethodFault {
		if m.state != types.VirtualMachinePowerStatePoweredOn {
			return powerFault(types.VirtualMachinePowerStatePoweredOn, m.state)
		}
		guest, ok := p.guest.(Obedient)
		if !ok {
			return new(types.ToolsUnavailable)
		}
		if err := do(p.calls(), guest); err != nil {
			return withMessage(new(types.ToolsUnavailable), "lab.guest", "the guest does not listen: %v", err)
		}
		v.event(ctx, event(m))
		return nil
	})
}
