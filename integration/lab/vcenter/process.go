package vcenter

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// process is what runs of a virtual machine. It lives on a host, has the machine's files locked, and dies with the host, whatever
// the inventory believes: a machine whose host cannot be reached runs on, and one whose host is dead is shown as powered on.
//
// Locks are taken in the order: the machine's queue, process.mu, VCenter.hw, cluster.mu, those of vcsim.
type process struct {
	on   atomic.Bool // it runs or is suspended: its files are locked
	told atomic.Bool // it was powered off, and not on since: that its guest ends is no news

	// mu is held during calls to the guest, which therefore do not overlap, and by whoever changes on, the machine's power state, its
	// hardware or its host.
	mu    sync.Mutex
	guest Guest     // nil: nobody notices
	since time.Time // of the last power-on or reset; zero: none

	boots atomic.Int64 // power-ons that were tried

	life   sync.Mutex      // guards what follows; held for moments only, so that a call to the guest can be ended by somebody else
	ctx    context.Context //nolint:containedctx // the life of the machine: calls to a guest end when its host dies
	cancel context.CancelFunc
}

// process returns the machine's, which it makes when there is none yet.
func (v *VCenter) process(ref types.ManagedObjectReference) *process {
	v.processes.Lock()
	defer v.processes.Unlock()
	p := v.processes.of[ref]
	if p == nil {
		p = new(process)
		p.renew(v.ctx)
		v.processes.of[ref] = p
	}
	return p
}

// processes has the process of every virtual machine that was asked for.
type processes struct {
	sync.Mutex
	of map[types.ManagedObjectReference]*process
}

// drop forgets the process of a machine that is no more.
func (ps *processes) drop(ref types.ManagedObjectReference) {
	ps.Lock()
	defer ps.Unlock()
	delete(ps.of, ref)
}

// calls returns the context for work on the machine. It ends when the machine dies.
func (p *process) calls() context.Context {
	p.life.Lock()
	defer p.life.Unlock()
	return p.ctx
}

// cut ends the work on the machine that is going on.
func (p *process) cut() {
	p.life.Lock()
	defer p.life.Unlock()
	p.cancel()
}

// renew lets work on the machine begin again.
func (p *process) renew(parent context.Context) {
	p.life.Lock()
	defer p.life.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
	p.ctx, p.cancel = context.WithCancel(parent)
}

// kill ends the process of the machine, whatever is being done to it: its files are free afterwards. It reports whether there was one.
// A suspended machine has none, and one for which still is false is let be.
func (v *VCenter) kill(ref types.ManagedObjectReference, still func() bool) (bool, error) {
	p := v.process(ref)
	if still() {
		p.cut()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.renew(v.ctx)
	m, ok := v.look(ref)
	if !ok || !still() || !p.on.Load() || m.state == types.VirtualMachinePowerStateSuspended {
		return false, nil
	}
	if err := v.stop(p, m); err != nil {
		return false, fmt.Errorf("kill %s: %w", m.name, err)
	}
	return true, nil
}

// boot starts the process: the guest gets its hardware. On failure nothing runs. The caller holds p.mu.
func (v *VCenter) boot(p *process, m machine) error {
	p.boots.Add(1)
	p.told.Store(false)
	if guest, ok := p.guest.(Powered); ok {
		if err := guest.PowerOn(p.calls(), v.hardware(m)); err != nil {
			p.told.Store(true)
			if off := guest.PowerOff(v.ctx); off != nil {
				v.log.Error("machine that could not be powered on may run", "vm", m.name, "err", off)
			}
			return err
		}
	} else if p.guest != nil {
		for i, d := range v.guestDisks(m) {
			if err := p.guest.Plug(p.calls(), d); err != nil {
				for _, had := range v.guestDisks(m)[:i] {
					v.unplug(v.ctx, p.guest, had)
				}
				return err
			}
		}
	}
	p.since = time.Now()
	p.on.Store(true)
	return nil
}

// stop ends the process, and frees the files when nothing can write to them any more. The caller holds p.mu.
func (v *VCenter) stop(p *process, m machine) error {
	p.told.Store(true)
	if guest, ok := p.guest.(Powered); ok {
		if err := guest.PowerOff(v.ctx); err != nil {
			return err
		}
	} else if p.guest != nil && p.on.Load() {
		for _, d := range v.guestDisks(m) {
			v.unplug(v.ctx, p.guest, d) // before anybody else can have the disk
		}
	}
	p.on.Store(false)
	v.cluster.changed() // there is room on its host
	return nil
}

// hardware returns what the machine boots with.
func (v *VCenter) hardware(m machine) Hardware {
	hw := Hardware{Host: v.cluster.name(m.host), Disks: v.guestDisks(m)}
	for _, d := range m.devices {
		if c, ok := d.(types.BaseVirtualSCSIController); ok {
			hw.Controllers = append(hw.Controllers, int(c.GetVirtualSCSIController().BusNumber))
		}
	}
	slices.Sort(hw.Controllers)
	return hw
}
