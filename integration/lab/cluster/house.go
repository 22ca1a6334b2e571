package cluster

import (
	"context"
	"fmt"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
)

// house is the lab as its control socket sees it.
type house struct{ *Cluster }

// Serve opens the control socket. down is called, with [control.ErrDown], when somebody tells the lab to go down.
func (c *Cluster) Serve(ctx context.Context, down context.CancelCauseFunc) (*control.Server, error) {
	return control.Serve(ctx, c.opts.Dir, c.VCenter, house{c}, c.log, down)
}

// Describe adds to the status what runs in the machines.
func (h house) Describe(s *control.Status) {
	s.Guest, s.Guests = control.QEMU, map[string]control.Guest{}
	for _, n := range h.vms {
		s.Guests[n.name] = control.Guest{
			Suite: string(n.suite), Address: n.address, Running: n.machine.Running(), Frozen: n.machine.Frozen(),
			Boot: n.machine.Boot(), Heartbeat: n.machine.Heartbeat(), Cut: n.cables(), Console: n.machine.ConsoleFile(),
		}
	}
}

// Do carries out an order for a machine: "vm-kill" (its process dies, its host does not), "vm-freeze", "vm-thaw", "vm-cut" and "vm-join" (the networks
// that the order names).
func (h house) Do(ctx context.Context, o control.Order) error {
	n, err := h.node(o.Name)
	if err != nil {
		return control.Unknown(o)
	}
	switch o.Verb {
	case "vm-kill":
		return h.Kill(ctx, o.Name)
	case "vm-freeze":
		return n.machine.Freeze()
	case "vm-thaw":
		return n.machine.Thaw()
	case "vm-cut":
		return n.link(ctx, o.Network, false)
	case "vm-join":
		return n.link(ctx, o.Network, true)
	}
	return control.Unknown(o)
}

// Exec runs a command in a machine.
func (h house) Exec(ctx context.Context, vm string, c control.Command) (int, error) {
	n, err := h.node(vm)
	if err != nil {
		return 0, err
	}
	return n.machine.Exec(ctx, qemu.Command{Args: c.Args, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr})
}

// Kill lets the machine's process die while its host lives, as a bug in the hypervisor does: HA starts it again.
func (c *Cluster) Kill(ctx context.Context, vm string) error {
	n, err := c.node(vm)
	if err != nil {
		return err
	}
	if !n.machine.Running() {
		return fmt.Errorf("kill %s: it is off: %w", vm, mooring.ErrInvalid)
	}
	if err := n.machine.PowerOff(ctx); err != nil {
		return err
	}
	c.Crashed(vm)
	return nil
}

// Cut pulls the cables of the machine's networks: [qemu.NICVCenter], [qemu.NICGuests], or "all".
func (c *Cluster) Cut(ctx context.Context, vm, network string) error {
	return c.link(ctx, vm, network, false)
}

// Join plugs them in again.
func (c *Cluster) Join(ctx context.Context, vm, network string) error {
	return c.link(ctx, vm, network, true)
}

func (c *Cluster) link(ctx context.Context, vm, network string, up bool) error {
	n, err := c.node(vm)
	if err != nil {
		return err
	}
	return n.link(ctx, network, up)
}

func networks() []string { return []string{qemu.NICVCenter, qemu.NICGuests} }

func (n *node) link(ctx context.Context, network string, up bool) error {
	which := networks()
	switch {
	case network == "all":
	case slices.Contains(which, network):
		which = []string{network}
	default:
		return fmt.Errorf("network %q: allowed are vcenter, guests and all: %w", network, mooring.ErrInvalid)
	}
	for _, nic := range which {
		if err := n.machine.Link(ctx, nic, up); err != nil {
			return err
		}
		n.mu.Lock()
		n.cut[nic] = !up
		n.mu.Unlock()
	}
	return nil
}

// cables returns the networks whose cable is pulled.
func (n *node) cables() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(networks(), func(nic string) bool { return !n.cut[nic] })
}
