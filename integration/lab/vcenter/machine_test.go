package vcenter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// fakeMachine is a machine with power of its own, which notes what happens to it and opens its disks' files exclusively, as a process would:
// what two machines have at once is noted in the room that they share.
type fakeMachine struct {
	name string
	room *room

	mu       sync.Mutex
	on       bool
	hw       vcenter.Hardware
	log      []string
	beat     time.Time
	beating  bool
	bootErr  error
	resetErr error
	busErr   error
	hang     bool   // calls but PowerOff wait for their context
	ended    func() // called when it is powered off, as by whoever waits for the end of its process
}

// room is where machines meet: it knows which has which file.
type room struct {
	mu     sync.Mutex
	has    map[string]string // machine, by extent
	faults []string
}

func (r *room) take(machine string, disks ...vcenter.Disk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range disks {
		if other, ok := r.has[d.Extent]; ok && other != machine {
			r.faults = append(r.faults, fmt.Sprintf("%s has %s, and %s takes it", other, d.Backing, machine))
		}
		r.has[d.Extent] = machine
	}
}

func (r *room) leave(machine string, disks ...vcenter.Disk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range disks {
		if r.has[d.Extent] == machine {
			delete(r.has, d.Extent)
		}
	}
}

func (m *fakeMachine) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *fakeMachine) wait(ctx context.Context) error {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if !hang {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (m *fakeMachine) PowerOn(ctx context.Context, hw vcenter.Hardware) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bootErr != nil {
		return m.bootErr
	}
	if m.on {
		return errors.New("is on")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.on, m.hw, m.beat, m.beating = true, hw, time.Time{}, true
	m.room.take(m.name, hw.Disks...)
	m.note("on %s %v", hw.Host, len(hw.Disks))
	return nil
}

func (m *fakeMachine) PowerOff(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		m.room.leave(m.name, m.hw.Disks...)
		m.note("off")
		if m.ended != nil {
			m.ended()
		}
	}
	m.on, m.hang = false, false
	return nil
}

func (m *fakeMachine) Reset(ctx context.Context) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resetErr != nil {
		return m.resetErr
	}
	m.note("reset")
	m.beating = true
	return nil
}

func (m *fakeMachine) Plug(ctx context.Context, d vcenter.Disk) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.on {
		return errors.New("is off")
	}
	m.room.take(m.name, d)
	m.hw.Disks = append(m.hw.Disks, d)
	m.note("plug %d:%d", d.Controller, d.Unit)
	return nil
}

func (m *fakeMachine) Unplug(_ context.Context, d vcenter.Disk) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.room.leave(m.name, d)
	m.hw.Disks = slices.DeleteFunc(m.hw.Disks, func(x vcenter.Disk) bool { return x.UUID == d.UUID })
	m.note("unplug %d:%d", d.Controller, d.Unit)
	return nil
}

func (m *fakeMachine) AddController(_ context.Context, bus int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busErr != nil {
		return m.busErr
	}
	m.note("add controller %d", bus)
	return nil
}

func (m *fakeMachine) RemoveController(_ context.Context, bus int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busErr != nil {
		return m.busErr
	}
	m.note("remove controller %d", bus)
	return nil
}

func (m *fakeMachine) Freeze() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("freeze")
	return nil
}

func (m *fakeMachine) Thaw() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("thaw")
	return nil
}

// Heartbeat beats whenever somebody looks, unless the guest hangs.
func (m *fakeMachine) Heartbeat() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on && m.beating {
		m.beat = time.Now()
	}
	return m.beat
}

func (m *fakeMachine) set(f func(*fakeMachine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *fakeMachine) runs() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// done returns what has happened to the machine since the last call.
func (m *fakeMachine) done() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.log
	m.log = nil
	return out
}

// farm is a site whose two machines have power of their own. HA's times pass a hundred times as fast.
type farm struct {
	*site
	m1, m2 *fakeMachine
	room   *room
}

func openFarm(t *testing.T, change ...func(*vcenter.Options)) *farm {
	t.Helper()
	f := &farm{room: &room{has: map[string]string{}}}
	f.m1, f.m2 = &fakeMachine{name: "docker1", room: f.room}, &fakeMachine{name: "docker2", room: f.room}
	f.site = open(t, false, append([]func(*vcenter.Options){func(o *vcenter.Options) {
		o.VMs[0].Guest, o.VMs[1].Guest = f.m1, f.m2
		o.TimeScale = 100
	}}, change...)...)
	t.Cleanup(func() {
		f.room.mu.Lock()
		defer f.room.mu.Unlock()
		for _, x := range f.room.faults {
			t.Errorf("two machines wrote to one disk: %s", x)
		}
	})
	return f
}

// esx1 returns the host that docker1 begins on.
func (f *farm) esx1() vcenter.Host {
	f.t.Helper()
	for _, h := range f.Hosts() {
		if h.Name == "esx1.lab" {
			return h
		}
	}
	f.t.Fatal("no host esx1.lab")
	return vcenter.Host{}
}

func (f *farm) machine(name string) vcenter.Machine {
	f.t.Helper()
	for _, m := range f.Machines() {
		if m.Name == name {
			return m
		}
	}
	f.t.Fatalf("no machine %s", name)
	return vcenter.Machine{}
}

// attach gives the machine a disk.
func (f *farm) attach(vm *object.VirtualMachine, disk string, unit int32) {
	f.t.Helper()
	f.must(f.reconfigure(vm, add(disk, 1001, &unit)))
}

// eventually waits for something that HA does by itself.
func (f *farm) eventually(what string, ok func() bool) {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("it never came to pass that %s; restarts %+v; hosts %+v", what, f.Restarts(), f.Hosts())
		}
	}
}

// stays fails the test if something ceases to be so while HA has time for it: that many of its seconds.
func (f *farm) stays(what string, seconds int, ok func() bool) {
	f.t.Helper()
	deadline := time.After(time.Duration(seconds) * time.Second / 100)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if !ok() {
			f.t.Fatalf("it is no longer so that %s; restarts %+v; hosts %+v", what, f.Restarts(), f.Hosts())
		}
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

// count returns how many events there are, by type, that name the machine or, for "", any.
func (f *farm) count(vm string) map[string]int {
	out := map[string]int{}
	for _, e := range f.Events() {
		if vm == "" || e.VM == vm {
			out[e.Type]++
		}
	}
	return out
}

// wantEvents fails the test unless there are that many events of each of the types.
func (f *farm) wantEvents(vm string, want map[string]int) {
	f.t.Helper()
	got := f.count(vm)
	for kind, n := range want {
		if got[kind] != n {
			f.t.Errorf("%d events %s of %q, want %d", got[kind], kind, vm, n)
		}
	}
}

var errBoom = errors.New("boom")

// obedient is a machine whose guest has tools.
type obedient struct{ *fakeMachine }

func (o *obedient) Shutdown(context.Context) error {
	o.set(func(m *fakeMachine) { m.note("asked to end") })
	return nil
}

func (o *obedient) Reboot(context.Context) error {
	o.set(func(m *fakeMachine) { m.note("asked to boot") })
	return nil
}

// watch waits for updates of the properties of the machine, as a client does, and returns what returns the values seen so far.
func (f *farm) watch(ref types.ManagedObjectReference, paths ...string) func() []string {
	f.t.Helper()
	var mu sync.Mutex
	var got []string
	ctx, cancel := context.WithCancel(f.t.Context())
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		first := sync.OnceFunc(func() { close(begun) })
		_ = property.Wait(ctx, property.DefaultCollector(f.c.Client), ref, paths, func(changes []types.PropertyChange) bool {
			mu.Lock()
			defer mu.Unlock()
			for _, c := range changes {
				got = append(got, fmt.Sprint(c.Val))
			}
			select {
			case <-begun:
			default:
				got = nil // what it was before
			}
			first()
			return false
		})
		first()
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	<-begun
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}
