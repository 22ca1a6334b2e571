package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// migrate moves a machine to another host, as DRS does.
func (v *VCenter) migrate(ctx *simulator.Context, ref types.ManagedObjectReference, to *host) types.BaseMethodFault {
	q := v.queues.get(ref)
	q.Lock()
	defer q.Unlock()
	return v.move(ctx, ref, to, true)
}

// move moves a machine to another host while it runs: only the inventory changes, and whose death is the machine's.
func (v *VCenter) move(ctx *simulator.Context, ref types.ManagedObjectReference, to *host, drs bool) types.BaseMethodFault {
	return v.exclusively(ref, func(_ *process, m machine) types.BaseMethodFault {
		if m.host == to.ref {
			return nil
		}
		if fault := v.reachable(to.ref); fault != nil {
			return fault
		}
		there := m
		there.host = to.ref
		if fault := v.cluster.admits(there); fault != nil && m.on {
			return fault
		}
		e, arg := v.vmEvent(m), to.argument()
		if m.on {
			v.event(ctx, &types.VmBeingHotMigratedEvent{
				VmEvent: v.vmEventf(m, "Hot migrating %s from %s to %s", m.name, e.Host.Name, to.name), DestHost: arg,
			})
		}
		v.register(ctx, m, to.ref)
		moved := types.VmMigratedEvent{VmEvent: e, SourceHost: *e.Host, SourceDatacenter: e.Datacenter, SourceDatastore: e.Ds}
		moved.Host = &arg
		if drs {
			v.event(ctx, &types.DrsVmMigratedEvent{VmMigratedEvent: moved})
			return nil
		}
		v.event(ctx, &moved)
		return nil
	})
}

// MigrateVMTask moves a machine to another host. vcsim has no such method.
func (s *shadow) MigrateVMTask(ctx *simulator.Context, req *types.MigrateVM_Task) soap.HasFault {
	body := new(methods.MigrateVM_TaskBody)
	ref, fault := s.queued(ctx, "MigrateVM_Task", func(ctx *simulator.Context, vm types.ManagedObjectReference) types.BaseMethodFault {
		return s.v.moveTo(ctx, vm, req.Host)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.MigrateVM_TaskResponse{Returnval: *ref}
	return body
}

// RelocateVMTask moves a machine to another host. Disks do not move in the lab. vcsim leaves the machine in the list of its former host.
func (s *shadow) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	body := new(methods.RelocateVM_TaskBody)
	ref, fault := s.queued(ctx, "RelocateVM_Task", func(ctx *simulator.Context, vm types.ManagedObjectReference) types.BaseMethodFault {
		if req.Spec.Datastore != nil || len(req.Spec.Disk) > 0 || len(req.Spec.DeviceChange) > 0 {
			return withMessage(new(types.NotSupported), "lab.relocate", "the lab moves machines to other hosts, and no disks")
		}
		return s.v.moveTo(ctx, vm, req.Spec.Host)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RelocateVM_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) moveTo(ctx *simulator.Context, vm types.ManagedObjectReference, to *types.ManagedObjectReference) types.BaseMethodFault {
	if to == nil {
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	v.cluster.mu.Lock()
	h := v.cluster.get(*to)
	v.cluster.mu.Unlock()
	if h == nil {
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	return v.move(ctx, vm, h, false)
}
