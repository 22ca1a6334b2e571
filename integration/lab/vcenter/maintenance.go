package vcenter

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// EnterMaintenance moves the machines that run on the host to others and puts it in maintenance mode. Where they do not all find room it
// is refused, and nothing has moved.
func (v *VCenter) EnterMaintenance(name string) error {
	c := v.cluster
	c.mu.Lock()
	h, err := c.find(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	ctx := v.context(v.admin.User)
	if fault := v.beginMaintenance(ctx, h); fault != nil {
		return fmt.Errorf("enter maintenance of %s: %w", name, asError(fault))
	}
	if fault := v.evacuate(ctx, h, false); fault != nil {
		v.cancelMaintenance(ctx, h)
		return fmt.Errorf("enter maintenance of %s: %w", name, asError(fault))
	}
	v.endMaintenance(ctx, h)
	return nil
}

// ExitMaintenance lets machines run on the host again.
func (v *VCenter) ExitMaintenance(name string) error {
	c := v.cluster
	c.mu.Lock()
	h, err := c.find(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if fault := v.leaveMaintenance(v.context(v.admin.User), h); fault != nil {
		return fmt.Errorf("exit maintenance of %s: %w", name, asError(fault))
	}
	return nil
}

func (v *VCenter) beginMaintenance(ctx *simulator.Context, h *host) types.BaseMethodFault {
	if fault := v.reachable(h.ref); fault != nil {
		return fault
	}
	v.cluster.mu.Lock()
	in := h.maintenance || h.entering
	h.entering = true
	v.cluster.mu.Unlock()
	if in {
		return withMessage(new(types.InvalidState), "lab.maintenance", "the host %s is in maintenance mode, or about to be", h.name)
	}
	v.event(ctx, &types.EnteringMaintenanceModeEvent{HostEvent: v.hostEventf(h, "")})
	return nil
}

func (v *VCenter) cancelMaintenance(ctx *simulator.Context, h *host) {
	v.cluster.mu.Lock()
	h.entering = false
	v.cluster.mu.Unlock()
	v.event(ctx, &types.CanceledHostOperationEvent{HostEvent: v.hostEventf(h, "The operation performed on host %s in %s was canceled", h.name, Datacenter)})
	v.cluster.changed()
}

func (v *VCenter) endMaintenance(ctx *simulator.Context, h *host) {
	v.cluster.mu.Lock()
	h.entering, h.maintenance = false, true
	v.cluster.mu.Unlock()
	v.showHost(ctx, h)
	v.event(ctx, &types.EnteredMaintenanceModeEvent{HostEvent: v.hostEventf(h, "")})
}

func (v *VCenter) leaveMaintenance(ctx *simulator.Context, h *host) types.BaseMethodFault {
	if fault := v.reachable(h.ref); fault != nil {
		return fault
	}
	v.cluster.mu.Lock()
	in := h.maintenance
	h.maintenance = false
	v.cluster.mu.Unlock()
	if !in {
		return withMessage(new(types.InvalidState), "lab.maintenance", "the host %s is not in maintenance mode", h.name)
	}
	v.showHost(ctx, h)
	v.event(ctx, &types.ExitMaintenanceModeEvent{HostEvent: v.hostEventf(h, "")})
	v.cluster.changed()
	return nil
}

// evacuate moves the machines of the host that run, or all of them, to hosts with room. If one finds none, nothing is moved.
func (v *VCenter) evacuate(ctx *simulator.Context, h *host, all bool) types.BaseMethodFault {
	c := v.cluster
	var moving []machine
	for _, m := range v.machinesOf(h.ref) {
		if m.on || all {
			moving = append(moving, m)
		}
	}
	if fault := c.fits(moving); fault != nil {
		return fault
	}
	for _, m := range moving {
		c.mu.Lock()
		to := c.place(m.ref, types.ManagedObjectReference{})
		c.mu.Unlock()
		if to == nil {
			return nowhere(m)
		}
		if fault := v.migrate(ctx, m.ref, to); fault != nil {
			return fault
		}
	}
	return nil
}

// fits returns a fault if the other hosts have not room for all of the machines.
func (c *cluster) fits(moving []machine) types.BaseMethodFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(moving) == 0 {
		return nil
	}
	n, room, open := c.load(types.ManagedObjectReference{}), 0, false
	for _, h := range c.hosts {
		if h.condition == up && !h.maintenance && !h.entering {
			open = true
			room += c.ha.VMsPerHost - n[h.ref]
		}
	}
	if !open || c.ha.VMsPerHost > 0 && room < len(moving) {
		return nowhere(moving[0])
	}
	return nil
}

func nowhere(m machine) types.BaseMethodFault {
	return withMessage(new(types.NoCompatibleHost), "lab.capacity", "no other host has room for the virtual machine %s", m.name)
}

// maintain is the task that enters maintenance mode. As vCenter's, it waits for machines to be moved or powered off, for as long as the
// caller says; 0 means for ever.
func (v *VCenter) maintain(ctx *simulator.Context, h *host, req *types.EnterMaintenanceMode_Task) types.BaseMethodFault {
	if fault := v.beginMaintenance(ctx, h); fault != nil {
		return fault
	}
	all := req.EvacuatePoweredOffVms != nil && *req.EvacuatePoweredOffVms
	var limit <-chan time.Time
	if req.Timeout > 0 {
		timer := time.NewTimer(v.cluster.scaled(time.Duration(req.Timeout) * time.Second))
		defer timer.Stop()
		limit = timer.C
	}
	again := time.NewTicker(max(v.cluster.scaled(time.Second), 10*time.Millisecond))
	defer again.Stop()
	for {
		fault := v.evacuate(ctx, h, all)
		if fault == nil {
			v.endMaintenance(ctx, h)
			return nil
		}
		select {
		case <-again.C:
		case <-limit:
			v.cancelMaintenance(ctx, h)
			return withMessage(new(types.Timedout), "lab.maintenance", "the host %s could not be evacuated in time: %s", h.name, describe(fault))
		case <-ctx.Done():
			return &types.RequestCanceled{}
		}
		if fault := v.reachable(h.ref); fault != nil {
			v.cancelMaintenance(ctx, h)
			return fault
		}
	}
}
