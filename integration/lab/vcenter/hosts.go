package vcenter

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// condition is how a host is, which is more than vCenter knows of one that does not respond.
type condition int

const (
	up           condition = iota
	dead                   // nothing runs on it
	isolated               // its machines run on and have their files locked, but nobody reaches it
	disconnected           // by an administrator; its machines run on
)

// host is a host of the cluster.
type host struct {
	ref         types.ManagedObjectReference
	name        string
	condition   condition
	maintenance bool
	entering    bool // maintenance: no machine is put on it

	lost     time.Time                      // when it died or was isolated
	victims  []types.ManagedObjectReference // the machines that ran on it then
	due      time.Time                      // when HA takes notice; zero: it has
	response time.Time                      // when an isolated host carries out the isolation response; zero: done, or none
}

// cluster has the hosts, and does what vSphere HA does. Its lock is held for moments, never during calls to guests.
type cluster struct {
	v    *VCenter
	ref  types.ManagedObjectReference
	ha   HA
	wake chan struct{}

	ops sync.Mutex // one host changes at a time

	mu       sync.Mutex
	hosts    []*host
	restarts []*restart
	watched  map[types.ManagedObjectReference]*watch
}

// Host is a host of the cluster as vCenter shows it.
type Host struct {
	Name     string   `json:"name"`
	State    string   `json:"state"` // connected, notResponding, disconnected, maintenance
	Power    string   `json:"power"` // poweredOn, unknown
	Isolated bool     `json:"isolated,omitempty"`
	VMs      []string `json:"vms"` // registered on it
}

// Errors of the host calls.
var (
	errNoHost = errors.New("no such host")
	errHost   = errors.New("host is in another state")
)

// Hosts returns the hosts in the order of their names.
func (v *VCenter) Hosts() []Host {
	c := v.cluster
	on := map[types.ManagedObjectReference][]string{}
	for _, e := range v.reg.All("VirtualMachine") {
		if m, ok := v.look(e.Reference()); ok {
			on[m.host] = append(on[m.host], m.name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Host
	for _, h := range c.hosts {
		slices.Sort(on[h.ref])
		x := Host{Name: h.name, State: string(h.connection()), Power: string(h.power()), Isolated: h.condition == isolated, VMs: on[h.ref]}
		if h.condition == up && h.maintenance {
			x.State = "maintenance"
		}
		out = append(out, x)
	}
	return out
}

func (h *host) connection() types.HostSystemConnectionState {
	switch h.condition {
	case up:
		return types.HostSystemConnectionStateConnected
	case disconnected:
		return types.HostSystemConnectionStateDisconnected
	default:
		return types.HostSystemConnectionStateNotResponding
	}
}

func (h *host) power() types.HostSystemPowerState {
	if h.condition == up {
		return types.HostSystemPowerStatePoweredOn
	}
	return types.HostSystemPowerStateUnknown
}

// find returns the host of that name. The caller holds c.mu.
func (c *cluster) find(name string) (*host, error) {
	i := slices.IndexFunc(c.hosts, func(h *host) bool { return h.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s: %w", name, errNoHost)
	}
	return c.hosts[i], nil
}

// get returns the host, or nil for one that is not of the cluster. The caller holds c.mu.
func (c *cluster) get(ref types.ManagedObjectReference) *host {
	i := slices.IndexFunc(c.hosts, func(h *host) bool { return h.ref == ref })
	if i < 0 {
		return nil
	}
	return c.hosts[i]
}

// name returns the name of the host.
func (c *cluster) name(ref types.ManagedObjectReference) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.get(ref); h != nil {
		return h.name
	}
	return ""
}

// reachable returns a fault if vCenter cannot reach the host, on which nothing can be done then.
func (v *VCenter) reachable(ref types.ManagedObjectReference) types.BaseMethodFault {
	v.cluster.mu.Lock()
	defer v.cluster.mu.Unlock()
	h := v.cluster.get(ref)
	if h == nil || h.condition == up {
		return nil
	}
	return withMessage(new(types.HostNotConnected), "vim.fault.HostNotConnected", "unable to communicate with the host %s, since it is %s", h.name, h.connection())
}

// admits returns a fault if the host of the machine may not start it: it is in maintenance, or full.
func (c *cluster) admits(m machine) types.BaseMethodFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.get(m.host)
	switch {
	case h == nil:
		return nil
	case h.maintenance || h.entering:
		return withMessage(new(types.InvalidState), "lab.maintenance", "the host %s is in maintenance mode", h.name)
	case c.ha.VMsPerHost > 0 && c.load(m.ref)[h.ref] >= c.ha.VMsPerHost:
		return withMessage(new(types.InsufficientResourcesFault), "lab.capacity", "the host %s has no room for another machine", h.name)
	}
	return nil
}

// load returns how many machines run on each host, or are about to, but for one. The caller holds c.mu.
func (c *cluster) load(but types.ManagedObjectReference) map[types.ManagedObjectReference]int {
	n := map[types.ManagedObjectReference]int{}
	for _, e := range c.v.reg.All("VirtualMachine") {
		if m, ok := c.v.look(e.Reference()); ok && m.on && m.ref != but {
			n[m.host]++
		}
	}
	for _, r := range c.restarts {
		if r.busy && r.vm != but {
			n[r.to]++
		}
	}
	return n
}

// place returns the host on which the machine is to be started: its own if that can, else the one with the fewest machines. The caller
// holds c.mu.
func (c *cluster) place(vm, home types.ManagedObjectReference) *host {
	n := c.load(vm)
	var best *host
	for _, h := range c.hosts {
		if h.condition != up || h.maintenance || h.entering || c.ha.VMsPerHost > 0 && n[h.ref] >= c.ha.VMsPerHost {
			continue
		}
		if h.ref == home {
			return h
		}
		if best == nil || n[h.ref] < n[best.ref] {
			best = h
		}
	}
	return best
}

// KillHost cuts the power of the host: what runs on it is gone at once, without the guests' memory. HA notices later.
func (v *VCenter) KillHost(name string) error {
	return v.loseHost(name, dead, func(h *host) error {
		if h.condition == dead {
			return fmt.Errorf("kill host %s: it has no power: %w", name, errHost)
		}
		return nil
	})
}

// IsolateHost cuts the host's network: nobody reaches it, and its machines run on with their files locked.
func (v *VCenter) IsolateHost(name string) error {
	return v.loseHost(name, isolated, func(h *host) error {
		if h.condition != up {
			return fmt.Errorf("isolate host %s: it is %s: %w", name, h.connection(), errHost)
		}
		return nil
	})
}

func (v *VCenter) loseHost(name string, to condition, may func(*host) error) error {
	c := v.cluster
	c.ops.Lock()
	defer c.ops.Unlock()
	now := time.Now()
	c.mu.Lock()
	h, err := c.find(name)
	if err == nil {
		err = may(h)
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	was := h.condition
	h.condition, h.response = to, time.Time{}
	c.mu.Unlock()
	ran, err := v.showLost(h, to == dead)
	if was == isolated { // HA has seen it vanish, or is about to
		c.freed(h.ref)
		c.poke()
		return err
	}
	c.mu.Lock()
	h.lost, h.victims, h.due = now, ran, now.Add(c.scaled(c.ha.Detect))
	if to == isolated {
		h.response = now.Add(c.scaled(c.ha.Isolation))
	}
	c.mu.Unlock()
	c.poke()
	return err
}

// showLost publishes that the host does not respond, and of its machines that they are disconnected; on a dead host it kills them. It
// returns those that ran.
func (v *VCenter) showLost(h *host, kill bool) ([]types.ManagedObjectReference, error) {
	ctx := v.context("")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		ran  []types.ManagedObjectReference
		errs []error
	)
	registered := v.machinesOf(h.ref)
	for _, m := range registered {
		wg.Go(func() {
			on, err := m.on && m.state == types.VirtualMachinePowerStatePoweredOn, error(nil)
			if kill {
				on, err = v.kill(m.ref, func() bool { return true })
			}
			mu.Lock()
			defer mu.Unlock()
			if on {
				ran = append(ran, m.ref)
			}
			errs = append(errs, err)
		})
	}
	wg.Wait()
	v.showHost(ctx, h)
	v.event(ctx, &types.HostConnectionLostEvent{HostEvent: v.hostEventf(h, "Host %s in %s is not responding", h.name, Datacenter)})
	for _, m := range registered {
		v.showVM(ctx, m.ref, types.VirtualMachineConnectionStateDisconnected)
		v.event(ctx, &types.VmDisconnectedEvent{VmEvent: v.vmEventf(m, "%s on host %s in %s is disconnected", m.name, h.name, Datacenter)})
	}
	return ran, errors.Join(errs...)
}

// machinesOf returns the machines of the host.
func (v *VCenter) machinesOf(h types.ManagedObjectReference) []machine {
	var out []machine
	for _, e := range v.reg.All("VirtualMachine") {
		if m, ok := v.look(e.Reference()); ok && m.host == h {
			out = append(out, m)
		}
	}
	return out
}

// showHost publishes the state of the host.
func (v *VCenter) showHost(ctx *simulator.Context, h *host) {
	v.cluster.mu.Lock()
	connection, power, maintenance := h.connection(), h.power(), h.maintenance
	v.cluster.mu.Unlock()
	v.update(ctx, h.ref,
		types.PropertyChange{Name: "runtime.connectionState", Val: connection},
		types.PropertyChange{Name: "runtime.powerState", Val: power},
		types.PropertyChange{Name: "runtime.inMaintenanceMode", Val: maintenance},
		types.PropertyChange{Name: "summary.runtime.connectionState", Val: connection},
		types.PropertyChange{Name: "summary.runtime.powerState", Val: power},
		types.PropertyChange{Name: "summary.runtime.inMaintenanceMode", Val: maintenance},
	)
}

// showVM publishes whether the machine can be reached.
func (v *VCenter) showVM(ctx *simulator.Context, ref types.ManagedObjectReference, state types.VirtualMachineConnectionState) {
	v.update(ctx, ref,
		types.PropertyChange{Name: "runtime.connectionState", Val: state},
		types.PropertyChange{Name: "summary.runtime.connectionState", Val: state},
	)
}

// StartHost ends an isolation, reconnects a host, or gives power to a dead one. What ran on a dead one does not run by itself: HA starts it,
// there or elsewhere.
func (v *VCenter) StartHost(name string) error {
	c := v.cluster
	c.ops.Lock()
	defer c.ops.Unlock()
	c.mu.Lock()
	h, err := c.find(name)
	if err == nil && h.condition == up {
		err = fmt.Errorf("start host %s: it is %s: %w", name, h.connection(), errHost)
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	was := h.condition
	h.condition, h.response = up, time.Time{}
	if was == dead && !h.due.IsZero() {
		h.due = time.Now() // nothing is left to find out: its machines do not run
	} else if was == isolated {
		h.due, h.victims = time.Time{}, nil
	}
	c.mu.Unlock()
	ctx := v.context("")
	v.showHost(ctx, h)
	v.event(ctx, &types.HostConnectedEvent{HostEvent: v.hostEventf(h, "Connected to %s in %s", h.name, Datacenter)})
	for _, m := range v.machinesOf(h.ref) {
		v.reconnect(ctx, m)
	}
	c.changed()
	return nil
}

// reconnect publishes how a machine is whose host can be reached again.
func (v *VCenter) reconnect(ctx *simulator.Context, m machine) {
	p := v.process(m.ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := v.look(m.ref)
	if !ok {
		return
	}
	v.showVM(ctx, m.ref, types.VirtualMachineConnectionStateConnected)
	v.event(ctx, &types.VmConnectedEvent{VmEvent: v.vmEventf(m, "Virtual machine %s is connected", m.name)})
	switch {
	case p.on.Load():
		v.cluster.settle(m.ref, "its host came back, and it ran")
	case m.state == types.VirtualMachinePowerStatePoweredOn:
		v.setPower(ctx, m, types.VirtualMachinePowerStatePoweredOff)
	}
}
