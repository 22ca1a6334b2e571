package esx_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/vmware/govmomi/pbm/simulator" // the storage policy service
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// vcsim is govmomi's simulator, in this process, over TLS. It accepts much that vSphere refuses (files attached twice, any unit, deletion of an attached disk);
// what depends on those rules is tested in integration, against the lab.
type vcsim struct {
	model  *simulator.Model
	server *simulator.Server
	vm     *simulator.VirtualMachine

	mu    sync.Mutex
	calls map[string]int
	hook  func(method string, body any) types.BaseMethodFault
}

const (
	testUser     = "svc-mooring@vsphere.local"
	testPassword = "a-secret"
)

func newVCSim(t *testing.T) *vcsim {
	t.Helper()
	model := simulator.VPX()
	model.Host = 1
	model.ServiceContent.About.ApiVersion = "8.0.3.0"
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Remove)
	v := &vcsim{model: model, calls: map[string]int{}}
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{User: url.UserPassword(testUser, testPassword), Host: "127.0.0.1:0"}
	model.Service.RegisterEndpoints = true
	model.Map().Handler = v.handle
	v.server = model.Service.NewServer()
	t.Cleanup(v.server.Close)
	v.vm = model.Map().Any("VirtualMachine").(*simulator.VirtualMachine)
	return v
}

// handle counts calls and lets the hook refuse them.
func (v *vcsim) handle(_ *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	v.mu.Lock()
	v.calls[m.Name]++
	hook := v.hook
	v.mu.Unlock()
	if hook != nil {
		return nil, hook(m.Name, m.Body)
	}
	return nil, nil
}

func (v *vcsim) count(method string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[method]
}

// refuse makes the simulator answer calls with what f returns, unless that is nil.
func (v *vcsim) refuse(f func(method string, body any) types.BaseMethodFault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hook = f
}

func (v *vcsim) thumbprint() string {
	sum := sha256.Sum256(v.server.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

func (v *vcsim) account() esx.Account {
	u := *v.server.URL
	u.User = nil
	return esx.Account{URL: u.String(), Username: testUser, Password: testPassword, Thumbprint: v.thumbprint()}
}

func newSession(t *testing.T, a esx.Account) *esx.Session {
	t.Helper()
	s, err := esx.NewSession(a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// machines returns all virtual machines, by their references: the simulator's own order is another each time.
func (v *vcsim) machines() []*simulator.VirtualMachine {
	var list []*simulator.VirtualMachine
	for _, e := range v.model.Map().All("VirtualMachine") {
		list = append(list, e.(*simulator.VirtualMachine))
	}
	slices.SortFunc(list, func(a, b *simulator.VirtualMachine) int { return strings.Compare(a.Self.Value, b.Self.Value) })
	return list
}

// other returns another machine than ours.
func (v *vcsim) other() *simulator.VirtualMachine {
	list := v.machines()
	return list[slices.IndexFunc(list, func(vm *simulator.VirtualMachine) bool { return vm != v.vm })]
}

func newHost(t *testing.T, v *vcsim) *esx.Host {
	t.Helper()
	return newHostOn(t, v, v.vm)
}

func newHostOn(t *testing.T, v *vcsim, vm *simulator.VirtualMachine) *esx.Host {
	t.Helper()
	h := esx.NewHost(newSession(t, v.account()), esx.Where{VM: vm.Config.Uuid}, slog.New(slog.DiscardHandler))
	h.SetLinger(200*time.Millisecond, 20*time.Millisecond)
	h.SetIntent(200*time.Millisecond, 20*time.Millisecond)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// client returns a client of the test's own, logged in as what the simulator takes for an administrator.
func (v *vcsim) client(t *testing.T) *vim25.Client {
	t.Helper()
	u := *v.server.URL
	u.User = nil
	c, err := vim25.NewClient(t.Context(), soap.NewClient(&u, true))
	if err != nil {
		t.Fatal(err)
	}
	if err := session.NewManager(c).Login(t.Context(), url.UserPassword(testUser, testPassword)); err != nil {
		t.Fatal(err)
	}
	return c
}

// endSessions ends every session but its own, as vCenter does when it is restarted or an administrator says so.
func (v *vcsim) endSessions(t *testing.T) {
	t.Helper()
	c := v.client(t)
	var m mo.SessionManager
	ref := *c.ServiceContent.SessionManager
	if err := property.DefaultCollector(c).RetrieveOne(t.Context(), ref, []string{"sessionList", "currentSession"}, &m); err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, s := range m.SessionList {
		if s.Key != m.CurrentSession.Key {
			if err := session.NewManager(c).TerminateSession(t.Context(), []string{s.Key}); err != nil {
				t.Fatal(err)
			}
			ended++
		}
	}
	if ended == 0 {
		t.Fatal("there is no session to end")
	}
}

// file returns the simulator's file behind a path on the machine's datastore.
func (v *vcsim) file(t *testing.T, b mooring.Backing) string {
	t.Helper()
	ds := v.model.Map().Any("Datastore").(*simulator.Datastore)
	if ds.Name != b.Datastore() {
		t.Fatalf("datastore %q, want that of %s", ds.Name, b)
	}
	return ds.Summary.Url + "/" + b.File()
}
