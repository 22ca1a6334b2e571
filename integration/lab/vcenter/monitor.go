package vcenter

import (
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// watch is what monitoring knows of a machine.
type watch struct {
	boots  int64 // the power-on that the count is of
	resets int
	busy   bool
}

// looksPerInterval is how often monitoring looks at the heartbeats in the time in which one must have come.
const looksPerInterval = 5

// monitor resets the machines whose heartbeats have ceased, and returns when it is to be called again.
func (c *cluster) monitor(now time.Time) time.Time {
	if c.enabled() {
		for _, e := range c.v.reg.All("VirtualMachine") {
			if m, ok := c.v.look(e.Reference()); ok && c.hung(m, now) {
				c.v.wg.Go(func() { c.revive(m) })
			}
		}
	}
	return now.Add(c.scaled(c.ha.MonitorInterval) / looksPerInterval)
}

// hung says whether the machine is to be reset now, and if so counts it.
func (c *cluster) hung(m machine, now time.Time) bool {
	p := c.v.process(m.ref)
	if !m.on || m.state != types.VirtualMachinePowerStatePoweredOn || !p.mu.TryLock() {
		return false // what is being done to it may well be the cause
	}
	guest, ok := p.guest.(Beating)
	since := p.since
	p.mu.Unlock()
	if !ok || now.Sub(since) < c.scaled(c.ha.MinUptime) {
		return false
	}
	last := guest.Heartbeat()
	if last.Before(since) {
		last = since
	}
	if now.Sub(last) < c.scaled(c.ha.MonitorInterval) || !c.monitored(m.ref) || c.v.reachable(m.host) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watched[m.ref]
	if w == nil || w.boots != p.boots.Load() {
		w = &watch{boots: p.boots.Load()}
		c.watched[m.ref] = w
	}
	if w.busy || w.resets >= c.ha.MaxResets {
		return false
	}
	w.busy = true
	w.resets++
	return true
}

// monitored says whether the machine's configuration leaves it to monitoring.
func (c *cluster) monitored(vm types.ManagedObjectReference) bool {
	o, ok := c.override(vm)
	if !ok || o.VmToolsMonitoringSettings == nil {
		return true
	}
	s := o.VmToolsMonitoringSettings
	return s.ClusterSettings != nil && *s.ClusterSettings || s.Enabled != nil && *s.Enabled
}

// revive resets the machine. It does not wait for operations on the machine: they may be what hangs.
func (c *cluster) revive(m machine) {
	v, ctx := c.v, c.v.context("")
	p := v.process(m.ref)
	p.cut()
	v.event(ctx, &types.VmDasBeingResetEvent{
		VmEvent: v.vmEventf(m, "%s on %s in cluster %s is being reset by vSphere HA: VMware Tools heartbeat failure", m.name, c.name(m.host), Cluster),
		Reason:  "VMware Tools heartbeat failure",
	})
	p.mu.Lock()
	p.renew(v.ctx)
	p.mu.Unlock()
	fault := v.reset(ctx, m.ref)
	if fault != nil {
		v.event(ctx, &types.VmDasResetFailedEvent{
			VmEvent: v.vmEventf(m, "vSphere HA cannot reset %s on %s in cluster %s: %s", m.name, c.name(m.host), Cluster, describe(fault)),
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.watched[m.ref]; w != nil {
		w.busy = false
		w.boots = p.boots.Load() // a reset may have taken a power-on
	}
}
