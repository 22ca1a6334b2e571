package lab_test

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// An attached disk is a block device of this machine with the disk's bytes and UUID; detached it is gone; another machine's is nothing to us.
func TestAttachedDiskIsABlockDeviceOfThisMachine(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes loop devices")
	}
	links := filepath.Join(t.TempDir(), "by-id")
	l, err := lab.Start(t.Context(), lab.Options{Dir: t.TempDir(), LinkDir: links})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	c := client(t, l)
	one, two := machine(t, c, lab.ThisVM), machine(t, c, lab.OtherVM)
	disk := makeDisk(t, c)
	attach(t, one, disk)
	m := l.Machines()[0]
	if len(m.Disks) != 2 || len(l.Devices()) != 1 {
		t.Fatalf("got disks %+v, devices %v, want the boot disk and one device", m.Disks, l.Devices())
	}
	uuid := m.Disks[1].UUID
	link := filepath.Join(links, "wwn-0x"+strings.ReplaceAll(uuid, "-", ""))
	target, err := filepath.EvalSymlinks(link)
	if err != nil || filepath.Base(target) != filepath.Base(l.Devices()[uuid]) {
		t.Fatalf("got link to %s (%v), want to %s", target, err, l.Devices()[uuid])
	}
	st, err := os.Stat(l.Devices()[uuid])
	if err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Fatalf("got %v (%v), want a device", st, err)
	}
	detach(t, one, m.Disks[1])
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) || len(l.Devices()) != 0 {
		t.Fatalf("after detaching: link %v, devices %v, want none", err, l.Devices())
	}
	attach(t, two, disk)
	if len(l.Devices()) != 0 {
		t.Fatalf("another machine's disk became %v", l.Devices())
	}
	if v := l.Violations(); len(v) != 0 {
		t.Fatalf("got violations %v, want none", v)
	}
}

// What a killed lab left mounted is unmounted before the next one makes its disks anew.
func TestMountsOfAKilledLabAreUnmountedAtStart(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "mnt", "web")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mnt", "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{at, at} { // one on top of the other
		if err := unix.Mount("lab", p, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(p, 0) })
	}
	if out, err := exec.CommandContext(t.Context(), "chattr", "+i", filepath.Join(dir, "mnt", "db")).CombinedOutput(); err != nil {
		t.Logf("no immutable directories here: %s", out)
	}
	opts := lab.Options{Dir: dir, LinkDir: filepath.Join(dir, "by-id")}
	if _, err := lab.Start(t.Context(), opts); !errors.Is(err, mooring.ErrInvalid) {
		t.Fatalf("a directory that was never a lab's: got %v, want ErrInvalid", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mooring-lab.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(at)); err != nil || len(left) != 0 {
		t.Fatalf("got mountpoints %v (%v), want none", left, err)
	}
}

func client(t *testing.T, l *lab.Lab) *govmomi.Client {
	t.Helper()
	u, err := url.Parse(l.URL())
	if err != nil {
		t.Fatal(err)
	}
	sc := soap.NewClient(u, false)
	if err := sc.SetRootCAs(l.CAFile()); err != nil {
		t.Fatal(err)
	}
	vc, err := vim25.NewClient(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	c := &govmomi.Client{Client: vc, SessionManager: session.NewManager(vc)}
	if err := c.Login(t.Context(), url.UserPassword(l.Plugin().User, l.Plugin().Password)); err != nil {
		t.Fatal(err)
	}
	return c
}

func finder(t *testing.T, c *govmomi.Client) *find.Finder {
	t.Helper()
	f := find.NewFinder(c.Client)
	dc, err := f.Datacenter(t.Context(), vcenter.Datacenter)
	if err != nil {
		t.Fatal(err)
	}
	return f.SetDatacenter(dc)
}

func machine(t *testing.T, c *govmomi.Client, name string) *object.VirtualMachine {
	t.Helper()
	vm, err := finder(t, c).VirtualMachine(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// makeDisk makes a disk in dockvols with the rights of the plugin.
func makeDisk(t *testing.T, c *govmomi.Client) string {
	t.Helper()
	f := finder(t, c)
	ds, err := f.Datastore(t.Context(), vcenter.VSANDatastore)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := object.NewDatastoreNamespaceManager(c.Client).CreateDirectory(t.Context(), ds, "dockvols", ""); err != nil {
		t.Fatal(err)
	}
	dc, err := f.DefaultDatacenter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := "[" + vcenter.VSANDatastore + "] dockvols/web.vmdk"
	task, err := object.NewVirtualDiskManager(c.Client).CreateVirtualDisk(t.Context(), name, dc, &types.FileBackedVirtualDiskSpec{
		VirtualDiskSpec: types.VirtualDiskSpec{
			AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic), DiskType: string(types.VirtualDiskTypeThin),
		}, CapacityKb: 8 << 10,
	})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func change(t *testing.T, vm *object.VirtualMachine, op types.VirtualDeviceConfigSpecOperation, disk *types.VirtualDisk) {
	t.Helper()
	task, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: op, Device: disk},
	}})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func attach(t *testing.T, vm *object.VirtualMachine, name string) {
	t.Helper()
	d := &types.VirtualDisk{}
	d.Key, d.ControllerKey = -1, 1001
	d.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: name},
		DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
	}
	change(t, vm, types.VirtualDeviceConfigSpecOperationAdd, d)
}

func detach(t *testing.T, vm *object.VirtualMachine, a vcenter.Attached) {
	t.Helper()
	devices, err := vm.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dev := range devices {
		d, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && b.Uuid == a.UUID {
			change(t, vm, types.VirtualDeviceConfigSpecOperationRemove, &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: d.Key}})
			return
		}
	}
	t.Fatalf("disk %s is not attached", a.UUID)
}
