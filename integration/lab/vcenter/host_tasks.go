package vcenter

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// onHost begins a task about the host that the shadow stands for.
func (s *shadow) onHost(ctx *simulator.Context, method string, do func(*simulator.Context, *host) types.BaseMethodFault) (
	*types.ManagedObjectReference, *soap.Fault,
) {
	return s.run(ctx, method, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		s.v.cluster.mu.Lock()
		h := s.v.cluster.get(s.self)
		s.v.cluster.mu.Unlock()
		if h == nil {
			return nil, withMessage(new(types.NotSupported), "lab.host", "the host was added later than the lab began")
		}
		return nil, do(ctx, h)
	})
}

// EnterMaintenanceModeTask evacuates the host. vcsim says that it is in maintenance mode, with machines that run on it.
func (s *shadow) EnterMaintenanceModeTask(ctx *simulator.Context, req *types.EnterMaintenanceMode_Task) soap.HasFault {
	body := new(methods.EnterMaintenanceMode_TaskBody)
	ref, fault := s.onHost(ctx, "EnterMaintenanceMode_Task", func(ctx *simulator.Context, h *host) types.BaseMethodFault {
		return s.v.maintain(ctx, h, req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.EnterMaintenanceMode_TaskResponse{Returnval: *ref}
	return body
}

// ExitMaintenanceModeTask ends the maintenance of the host.
func (s *shadow) ExitMaintenanceModeTask(ctx *simulator.Context, _ *types.ExitMaintenanceMode_Task) soap.HasFault {
	body := new(methods.ExitMaintenanceMode_TaskBody)
	ref, fault := s.onHost(ctx, "ExitMaintenanceMode_Task", s.v.leaveMaintenance)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ExitMaintenanceMode_TaskResponse{Returnval: *ref}
	return body
}

// DisconnectHostTask lets vCenter forget the host for a while. Its machines run on, and HA does not mind.
func (s *shadow) DisconnectHostTask(ctx *simulator.Context, _ *types.DisconnectHost_Task) soap.HasFault {
	body := new(methods.DisconnectHost_TaskBody)
	ref, fault := s.onHost(ctx, "DisconnectHost_Task", s.v.disconnect)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.DisconnectHost_TaskResponse{Returnval: *ref}
	return body
}

// ReconnectHostTask connects a host again that an administrator had disconnected.
func (s *shadow) ReconnectHostTask(ctx *simulator.Context, _ *types.ReconnectHost_Task) soap.HasFault {
	body := new(methods.ReconnectHost_TaskBody)
	ref, fault := s.onHost(ctx, "ReconnectHost_Task", func(_ *simulator.Context, h *host) types.BaseMethodFault {
		s.v.cluster.mu.Lock()
		was := h.condition
		s.v.cluster.mu.Unlock()
		switch was {
		case up:
			return new(types.InvalidState)
		case disconnected:
			if err := s.v.StartHost(h.name); err != nil {
				return withMessage(new(types.InvalidState), "lab.host", "%v", err)
			}
			return nil
		default:
			return withMessage(new(types.HostNotReachable), "lab.host", "the host %s does not answer", h.name)
		}
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ReconnectHost_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) disconnect(ctx *simulator.Context, h *host) types.BaseMethodFault {
	c := v.cluster
	c.ops.Lock()
	defer c.ops.Unlock()
	c.mu.Lock()
	was := h.condition
	if was == up {
		h.condition, h.lost = disconnected, time.Now()
	}
	c.mu.Unlock()
	if was != up {
		return withMessage(new(types.InvalidState), "lab.host", "the host %s is not connected", h.name)
	}
	v.showHost(ctx, h)
	v.event(ctx, &types.HostDisconnectedEvent{HostEvent: v.hostEventf(h, "Disconnected from %s in %s", h.name, Datacenter), Reason: string(types.HostDisconnectedEventReasonCodeUserRequest)})
	for _, m := range v.machinesOf(h.ref) {
		v.showVM(ctx, m.ref, types.VirtualMachineConnectionStateDisconnected)
	}
	return nil
}
