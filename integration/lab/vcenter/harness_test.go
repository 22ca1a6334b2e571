package vcenter_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// site is a vCenter with a client that is logged in as its administrator.
type site struct {
	*vcenter.VCenter
	t      *testing.T
	c      *govmomi.Client
	finder *find.Finder
	dc     *object.Datacenter
	one    *object.VirtualMachine
	two    *object.VirtualMachine
	guest  *fakeGuest
}

// fakeGuest records what it is given, and refuses a disk on demand.
type fakeGuest struct {
	mu      sync.Mutex
	plugged map[string]vcenter.Disk
	refuse  func(d vcenter.Disk) error
}

func (g *fakeGuest) Plug(_ context.Context, d vcenter.Disk) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		if err := g.refuse(d); err != nil {
			return err
		}
	}
	g.plugged[d.UUID] = d
	return nil
}

func (g *fakeGuest) Unplug(_ context.Context, d vcenter.Disk) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.plugged, d.UUID)
	return nil
}

func (g *fakeGuest) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.plugged)
}

// open starts a vCenter, with rules or as vcsim is, and logs in.
func open(t *testing.T, plain bool, change ...func(*vcenter.Options)) *site {
	t.Helper()
	g := &fakeGuest{plugged: map[string]vcenter.Disk{}}
	opts := vcenter.Options{Dir: t.TempDir(), Plain: plain, VMs: []vcenter.VM{
		{Name: "docker1", BIOS: "42110000-0000-4000-8000-0000000000d1", Instance: "50110000-0000-4000-8000-0000000000d1", Guest: g},
		{Name: "docker2", BIOS: "42110000-0000-4000-8000-0000000000d2", Instance: "50110000-0000-4000-8000-0000000000d2"},
	}}
	for _, f := range change {
		f(&opts)
	}
	v, err := vcenter.Start(t.Context(), opts)
	if err != nil {
		t.Fatalf("start vCenter: %v", err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close vCenter: %v", err)
		}
	})
	s := &site{VCenter: v, t: t, guest: g}
	s.c = s.login(v.Admin())
	s.finder = find.NewFinder(s.c.Client)
	s.dc, err = s.finder.Datacenter(t.Context(), vcenter.Datacenter)
	s.must(err)
	s.finder.SetDatacenter(s.dc)
	s.one, err = s.finder.VirtualMachine(t.Context(), "docker1")
	s.must(err)
	if len(opts.VMs) > 1 {
		s.two, err = s.finder.VirtualMachine(t.Context(), "docker2")
		s.must(err)
	}
	return s
}

// both runs the check on a vCenter with rules and on plain vcsim.
func both(t *testing.T, check func(s *site, plain bool)) {
	t.Helper()
	for name, plain := range map[string]bool{"with rules": false, "plain vcsim": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(open(t, plain), plain)
		})
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// connect returns a client that is not logged in and trusts the site's authority.
func (s *site) connect() *vim25.Client {
	s.t.Helper()
	u, err := url.Parse(s.URL())
	s.must(err)
	sc := soap.NewClient(u, false)
	s.must(sc.SetRootCAs(s.CAFile()))
	c, err := vim25.NewClient(s.t.Context(), sc)
	s.must(err)
	return c
}

func (s *site) login(a vcenter.Account) *govmomi.Client {
	s.t.Helper()
	vc := s.connect()
	c := &govmomi.Client{Client: vc, SessionManager: newSessions(vc)}
	s.must(c.Login(s.t.Context(), url.UserPassword(a.User, a.Password)))
	return c
}

// wait waits for a task and returns the error of either.
func (s *site) wait(task *object.Task, err error) error {
	s.t.Helper()
	if err != nil {
		return err
	}
	return task.Wait(s.t.Context())
}

// folder makes the directory that volumes lie in.
func (s *site) folder() {
	s.t.Helper()
	ds, err := s.finder.Datastore(s.t.Context(), vcenter.VSANDatastore)
	s.must(err)
	if _, err := object.NewDatastoreNamespaceManager(s.c.Client).CreateDirectory(s.t.Context(), ds, "dockvols", ""); err != nil &&
		!fault.Is(err, &types.FileAlreadyExists{}) {
		s.t.Fatal(err)
	}
}

// create makes a thin disk.
func (s *site) create(name string, mb int64, profile ...types.BaseVirtualMachineProfileSpec) error {
	s.t.Helper()
	m := object.NewVirtualDiskManager(s.c.Client)
	return s.wait(m.CreateVirtualDisk(s.t.Context(), name, s.dc, &types.FileBackedVirtualDiskSpec{
		VirtualDiskSpec: types.VirtualDiskSpec{
			AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic), DiskType: string(types.VirtualDiskTypeThin),
		},
		CapacityKb: mb << 10, Profile: profile,
	}))
}

// disk makes a disk in dockvols and returns its datastore path.
func (s *site) disk(name string) string {
	s.t.Helper()
	s.folder()
	p := "[" + vcenter.VSANDatastore + "] dockvols/" + name + ".vmdk"
	s.must(s.create(p, 32))
	return p
}

// add describes the addition of an existing disk.
func add(name string, controller int32, unit *int32) *types.VirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationAdd,
		Device: &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
			Key: -1, ControllerKey: controller, UnitNumber: unit,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: name},
				DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
			},
		}},
	}
}

// reconfigure sends the changes in one task.
func (s *site) reconfigure(vm *object.VirtualMachine, changes ...types.BaseVirtualDeviceConfigSpec) error {
	s.t.Helper()
	return s.wait(vm.Reconfigure(s.t.Context(), types.VirtualMachineConfigSpec{DeviceChange: changes}))
}

// disks returns the machine's disks but the one it boots from.
func (s *site) disks(vm *object.VirtualMachine) []*types.VirtualDisk {
	s.t.Helper()
	devices, err := vm.Device(s.t.Context())
	s.must(err)
	var out []*types.VirtualDisk
	for _, d := range devices {
		disk, ok := d.(*types.VirtualDisk)
		if ok && !(disk.ControllerKey == 1000 && disk.UnitNumber != nil && *disk.UnitNumber == 0) {
			out = append(out, disk)
		}
	}
	return out
}

// wantFault fails the test unless err carries a fault of the type of want.
func wantFault(t *testing.T, err error, want types.BaseMethodFault) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Fatalf("got %v (%T), want fault %T", err, errors.Unwrap(err), want)
	}
}

func wantFile(t *testing.T, name string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatalf("got %v, want file %s", err, name)
	}
	return st
}
