package vcenter

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Causes of a restart.
const (
	causeHost  = "host failed"
	causeLost  = "host isolated"
	causeCrash = "machine crashed"
)

// restart is a machine that HA has to start.
type restart struct {
	vm       types.ManagedObjectReference
	priority int
	report   Restart

	due      time.Time // when it is tried
	busy     bool      // it is being tried, on this host:
	to       types.ManagedObjectReference
	starved  bool          // no host has room: it is tried when something changes
	failures int           // attempts that count
	waited   time.Duration // in vSphere's time, on purpose
	over     bool
}

// run does what HA does, until the vCenter ends. vCenter's being reachable is no condition: HA lives on the hosts.
func (c *cluster) run() {
	for {
		now := time.Now()
		next := c.step(now)
		if c.ha.Monitoring {
			next = earlier(next, c.monitor(now))
		}
		var due <-chan time.Time
		stop := func() bool { return true }
		if !next.IsZero() {
			timer := time.NewTimer(time.Until(next))
			due, stop = timer.C, timer.Stop
		}
		select {
		case <-due:
		case <-c.wake:
		case <-c.v.ctx.Done():
			stop()
			return
		}
		stop()
	}
}

// earlier returns the earlier of two times, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// changed lets machines that found no host be tried again.
func (c *cluster) changed() {
	c.mu.Lock()
	for _, r := range c.restarts {
		r.starved = false
	}
	c.mu.Unlock()
	c.poke()
}

func (c *cluster) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// step does what is due, and returns when the next thing is.
func (c *cluster) step(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var next time.Time
	for _, h := range c.hosts {
		if !h.due.IsZero() && !h.due.After(now) {
			c.declare(h, now)
		}
		if !h.response.IsZero() && !h.response.After(now) {
			h.response = time.Time{}
			c.v.wg.Go(func() { c.respond(h) })
		}
		next = earlier(earlier(next, h.due), h.response)
	}
	c.launch(now)
	for _, r := range c.restarts {
		if !r.over && !r.busy && !r.starved && r.due.After(now) {
			next = earlier(next, r.due)
		}
	}
	return next
}

// declare is HA's notice that the host is gone. The caller holds c.mu.
func (c *cluster) declare(h *host, now time.Time) {
	h.due = time.Time{}
	if !c.enabled() {
		return
	}
	cause := causeHost
	if h.condition == isolated {
		cause = causeLost
	}
	c.v.announce(h, cause)
	for _, vm := range h.victims {
		m, ok := c.v.look(vm)
		rank, wanted := c.priority(vm)
		if !ok || !wanted {
			continue
		}
		c.enter(m, rank, cause, h.lost, now, min(c.ha.Detect, time.Duration(float64(now.Sub(h.lost))*c.v.scale())))
	}
	h.victims = nil
}

// enter puts the machine on the list of those to restart. The caller holds c.mu.
func (c *cluster) enter(m machine, rank int, cause string, lost, now time.Time, waited time.Duration) {
	r := &restart{vm: m.ref, priority: rank, due: now.Add(c.scaled(c.ha.RestartDelay)), waited: waited}
	r.report = Restart{VM: m.name, Cause: cause, Lost: lost}
	if h := c.get(m.host); h != nil {
		r.report.From = h.name
	}
	r.report.Detected = c.span(r, now)
	r.waited += c.ha.RestartDelay
	c.restarts = append(c.restarts, r)
}

// lose is for a machine whose process died by itself.
func (c *cluster) lose(m machine, cause string, now time.Time) {
	rank, wanted := c.priority(m.ref)
	if !wanted || !c.enabled() {
		return
	}
	c.mu.Lock()
	c.enter(m, rank, cause, now, now, 0)
	c.mu.Unlock()
	c.poke()
}

// launch begins the attempts that are due, of the highest priority first: lower ones wait until none of a higher one is under way. The
// caller holds c.mu.
func (c *cluster) launch(now time.Time) {
	top := 0
	for _, r := range c.restarts {
		if !r.over && (r.busy || !r.starved && !r.due.After(now)) {
			top = max(top, r.priority)
		}
	}
	for _, r := range c.restarts {
		if r.over || r.busy || r.starved || r.due.After(now) || r.priority < top {
			continue
		}
		m, ok := c.v.look(r.vm)
		if !ok {
			r.end("the machine is gone")
			continue
		}
		h := c.place(r.vm, m.host)
		if h == nil {
			r.starved = true
			c.v.noRoom(m)
			continue
		}
		r.busy, r.to = true, h.ref
		c.v.wg.Go(func() { c.attempt(r, h) })
	}
}

func (r *restart) end(outcome string) {
	r.over, r.report.Outcome = true, outcome
}

// settle ends the restart of a machine that runs, or is gone.
func (c *cluster) settle(vm types.ManagedObjectReference, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.restarts {
		if r.vm == vm && !r.over && !r.busy {
			r.end(outcome)
		}
	}
}

// freed lets the machines of the host be tried at once: an isolated host has let go of their files.
func (c *cluster) freed(h types.ManagedObjectReference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.restarts {
		if m, ok := c.v.look(r.vm); ok && m.host == h && !r.over && !r.busy {
			r.due = time.Now()
		}
	}
}

// attempt tries to start the machine on the host.
func (c *cluster) attempt(r *restart, h *host) {
	defer c.poke()
	q := c.v.queues.get(r.vm)
	q.Lock()
	defer q.Unlock()
	began := time.Now()
	m, fault, found := c.v.bring(r.vm, h)
	now := time.Now()
	c.mu.Lock()
	r.busy = false
	a := Attempt{At: c.span(r, began), Host: h.name}
	if fault != nil {
		a.Error = describe(fault)
	}
	r.report.Attempts = append(r.report.Attempts, a)
	switch {
	case found == runsHere:
		r.end("somebody else started it")
	case fault == nil:
		r.report.To, r.report.PoweredOn = h.name, c.span(r, now)
		r.end("restarted")
	case m.ref.Value == "":
		r.end("the machine is gone")
	case found == runsThere:
		r.later(now, c.ha.RetryEvery, c)
	default:
		r.failures++
		r.later(now, c.ha.RetryEvery<<(r.failures-1), c)
	}
	gaveUp := !r.over && r.failures >= c.ha.MaxRestarts
	if gaveUp {
		r.end("gave up")
	}
	c.mu.Unlock()
	if found != runsHere {
		c.v.tellRestart(m, h, fault, gaveUp)
	}
}

func (r *restart) later(now time.Time, wait time.Duration, c *cluster) {
	r.due = now.Add(c.scaled(wait))
	r.waited += wait
}

// found says whether HA has found a machine running that it was to start.
type found int

const (
	runsNot   found = iota
	runsThere       // on a host that nobody reaches
	runsHere
)

// bring registers the machine on the host and starts it there. A machine that still runs is let be.
func (v *VCenter) bring(ref types.ManagedObjectReference, h *host) (machine, types.BaseMethodFault, found) {
	p := v.process(ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := v.look(ref)
	if !ok {
		return machine{}, &types.ManagedObjectNotFound{Obj: ref}, runsNot
	}
	if p.on.Load() {
		if v.reachable(m.host) == nil {
			return m, nil, runsHere
		}
		return m, locked(m.config.folder, m.name), runsThere
	}
	ctx := v.context("")
	v.register(ctx, m, h.ref)
	v.showVM(ctx, ref, types.VirtualMachineConnectionStateConnected)
	if m.state != types.VirtualMachinePowerStatePoweredOff {
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
	}
	m, _ = v.look(ref)
	if fault := v.reachable(h.ref); fault != nil {
		return m, fault, runsNot
	}
	return m, v.begin(ctx, p, m), runsNot
}

// register puts the machine on the host in the inventory.
func (v *VCenter) register(ctx *simulator.Context, m machine, to types.ManagedObjectReference) {
	if m.host == to {
		return
	}
	change := func(ref types.ManagedObjectReference, edit func([]types.ManagedObjectReference) []types.ManagedObjectReference) {
		h, ok := v.reg.Get(ref).(*simulator.HostSystem)
		if !ok {
			return
		}
		v.reg.WithLock(ctx, h, func() {
			ctx.Update(h, []types.PropertyChange{{Name: "vm", Val: edit(slices.Clone(h.Vm))}})
		})
	}
	change(m.host, func(vms []types.ManagedObjectReference) []types.ManagedObjectReference {
		return slices.DeleteFunc(vms, func(x types.ManagedObjectReference) bool { return x == m.ref })
	})
	change(to, func(vms []types.ManagedObjectReference) []types.ManagedObjectReference { return append(vms, m.ref) })
	v.update(ctx, m.ref,
		types.PropertyChange{Name: "runtime.host", Val: &to},
		types.PropertyChange{Name: "summary.runtime.host", Val: &to},
	)
}

// respond carries out the isolation response of the host.
func (c *cluster) respond(h *host) {
	there := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return h.condition == isolated
	}
	for _, m := range c.v.machinesOf(h.ref) {
		if !c.responds(m.ref) {
			continue
		}
		if _, err := c.v.kill(m.ref, there); err != nil {
			c.v.log.Error("isolation response failed", "vm", m.name, "err", err)
		}
	}
	c.freed(h.ref)
	c.poke()
}
