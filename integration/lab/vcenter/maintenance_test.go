package vcenter_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

func (s *site) hostSystem() *object.HostSystem {
	s.t.Helper()
	h, err := s.finder.HostSystem(s.t.Context(), "esx1.lab")
	s.must(err)
	return h
}

// A host that enters maintenance mode is evacuated: its machines run on elsewhere, and die with the host that they are on then. vcsim lets
// them run on a host in maintenance mode.
func TestMaintenanceEvacuatesTheHost(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		h := s.hostSystem()
		task, err := h.EnterMaintenanceMode(t.Context(), 0, false, nil)
		s.must(s.wait(task, err))
		here, err := s.one.HostSystem(t.Context())
		s.must(err)
		if plain {
			if here.Reference() != h.Reference() {
				t.Fatal("plain vcsim has got the rule")
			}
			return
		}
		var was mo.HostSystem
		s.must(h.Properties(t.Context(), h.Reference(), []string{"runtime", "vm"}, &was))
		if !was.Runtime.InMaintenanceMode || len(was.Vm) != 0 || here.Reference() == h.Reference() {
			t.Errorf("got %+v with %v, want it in maintenance and empty", was.Runtime, was.Vm)
		}
		task, err = s.one.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Host: new(h.Reference())}, "")
		wantFault(t, s.wait(task, err), &types.InvalidState{})
		task, err = h.ExitMaintenanceMode(t.Context(), 0)
		s.must(s.wait(task, err))
		task, err = s.one.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Host: new(h.Reference())}, "")
		s.must(s.wait(task, err))
		s.must(h.Properties(t.Context(), h.Reference(), []string{"runtime", "vm"}, &was))
		if was.Runtime.InMaintenanceMode || len(was.Vm) != 1 {
			t.Errorf("got %+v with %v, want it out of maintenance, with one machine", was.Runtime, was.Vm)
		}
	})
}

// A machine that is moved does not notice. Where nobody has room for it the mode is refused, or waited for as long as the caller says.
func TestMaintenanceIsRefusedWithoutRoomElsewhere(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) { o.HA.VMsPerHost = 1 })
	f.must(f.EnterMaintenance("esx3.lab"))
	f.m1.done()
	wantFault(t, f.EnterMaintenance("esx1.lab"), &types.NoCompatibleHost{})
	task, err := f.hostSystem().EnterMaintenanceMode(t.Context(), 20, false, nil)
	wantFault(t, f.wait(task, err), &types.Timedout{})
	if h := f.esx1(); h.State != "connected" || len(h.VMs) != 1 {
		t.Errorf("got %+v, want it as it was", h)
	}
	task, err = f.hostSystem().EnterMaintenanceMode(t.Context(), 0, false, nil)
	f.must(err)
	f.must(f.PowerOff("docker2"))
	f.must(task.Wait(t.Context()))
	if h := f.esx1(); h.State != "maintenance" || len(h.VMs) != 0 {
		t.Errorf("got %+v, want it in maintenance", h)
	}
	if got := f.m1.done(); len(got) != 0 {
		t.Errorf("a machine noticed its move: %v", got)
	}
	wantFault(t, f.PowerOn("docker2"), &types.InsufficientResourcesFault{})
	f.must(f.ExitMaintenance("esx1.lab"))
	wantFault(t, f.ExitMaintenance("esx1.lab"), &types.InvalidState{})
	_, err = methods.MigrateVM_Task(t.Context(), f.c.Client, &types.MigrateVM_Task{
		This: f.two.Reference(), Host: new(f.hostSystem().Reference()), Priority: types.VirtualMachineMovePriorityDefaultPriority,
	})
	f.must(err)
	f.eventually("the machine that is off is on the host", func() bool { return f.machine("docker2").Host == "esx1.lab" })
	f.must(f.PowerOn("docker2"))
	f.must(f.KillHost("esx2.lab")) // on which docker1 is by now
	if f.m1.runs() || !f.m2.runs() {
		t.Error("the wrong machine died")
	}
	f.wantEvents("docker1", map[string]int{"VmBeingHotMigratedEvent": 1, "DrsVmMigratedEvent": 1})
	f.wantEvents("", map[string]int{"EnteringMaintenanceModeEvent": 4, "EnteredMaintenanceModeEvent": 2, "ExitMaintenanceModeEvent": 1})
}

// An administrator who disconnects a host does nothing to its machines, and HA does not mind. vcsim tells no watcher.
func TestDisconnectedHostIsNoFailure(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	h := f.hostSystem()
	seen := f.watch(h.Reference(), "runtime.connectionState")
	f.m1.done()
	task, err := h.Disconnect(t.Context())
	f.must(f.wait(task, err))
	task, err = h.Disconnect(t.Context())
	wantFault(t, f.wait(task, err), &types.InvalidState{})
	f.eventually("a watcher sees it", func() bool { return strings.Contains(strings.Join(seen(), " "), "disconnected") })
	f.stays("the machine is left alone", 60, func() bool { return len(f.m1.done()) == 0 && len(f.Restarts()) == 0 })
	wantFault(t, f.Reset("docker1"), &types.HostNotConnected{})
	task, err = h.Reconnect(t.Context(), nil, nil)
	f.must(f.wait(task, err))
	f.must(f.Reset("docker1"))
	f.must(f.KillHost("esx1.lab"))
	task, err = h.Reconnect(t.Context(), nil, nil)
	wantFault(t, f.wait(task, err), &types.HostNotReachable{})
}

// What the vCenter wrote into its log is all there, in order, however much that is: vcsim forgets all but a thousand.
func TestEventsAreKept(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	const n = 510
	for range n {
		f.must(f.Reset("docker1"))
		f.must(f.Reset("docker2"))
	}
	events := f.Events()
	for i, e := range events {
		if e.Key != events[0].Key+int32(i) {
			t.Fatalf("event %d has the key %d, want %d: some are missing", i, e.Key, events[0].Key+int32(i))
		}
	}
	if got := f.count("docker1")["VmResettingEvent"]; got != n {
		t.Errorf("%d events, want %d", got, n)
	}
	if e := events[len(events)-1]; e.VM != "docker2" || e.Host == "" || e.Text == "" || e.Time.IsZero() || e.User == "" {
		t.Errorf("got %+v, want it told in full", e)
	}
}

// An event that names no object would hang the simulator for ever, with the lock of all events held.
func TestEventAboutNothingIsRefused(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	m := event.NewManager(f.c.Client)
	wantFault(t, m.PostEvent(t.Context(), &types.EventEx{EventTypeId: "com.example"}), &types.InvalidArgument{})
	f.must(m.PostEvent(t.Context(), &types.EventEx{
		EventTypeId: "com.example", ObjectType: f.one.Reference().Type, ObjectId: f.one.Reference().Value,
		Event: types.Event{Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: "docker1"}, Vm: f.one.Reference()}},
	}))
	f.wantEvents("docker1", map[string]int{"com.example": 1})
}

// Guests know the vCenter by another address than those who are beside it: its certificate is valid for that too.
func TestCertificateIsValidForAllNames(t *testing.T) {
	t.Parallel()
	s := open(t, false, func(o *vcenter.Options) { o.Names = []string{"10.0.2.2", "vcenter.example"} })
	pem, err := os.ReadFile(s.CAFile())
	s.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	addr := strings.TrimSuffix(strings.TrimPrefix(s.URL(), "https://"), "/sdk")
	for name, valid := range map[string]bool{"10.0.2.2": true, "vcenter.example": true, "localhost": true, "10.0.2.3": false} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", addr)
		cancel()
		if err == nil {
			err = c.Close()
		} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("%s: got %v, want a verdict on the certificate", name, err)
		}
		if (err == nil) != valid {
			t.Errorf("%s: got %v, want valid: %t", name, err, valid)
		}
	}
}
