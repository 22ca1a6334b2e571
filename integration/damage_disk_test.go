package integration_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	govmomisession "github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab"
)

// foreignContent puts other things than a filesystem of ours on disks that were never formatted: those are refused, and left as they are.
func foreignContent(t *testing.T, r *rig) {
	command := func(args ...string) func(*testing.T, string) {
		return func(t *testing.T, file string) { t.Helper(); run(t, args[0], append(args[1:], file)...) }
	}
	at := func(offset int64, bytes string) func(*testing.T, string) {
		return func(t *testing.T, file string) { t.Helper(); poke(t, file, offset, bytes) }
	}
	contents := []struct {
		name, want string
		put        func(t *testing.T, file string)
	}{
		{"swap", "swap", command("mkswap", "-q")},
		{"minix", "a filesystem (minix", command("mkfs.minix")},
		{"ext4", "a filesystem (ext4", command("mkfs.ext4", "-q", "-F")},
		{"partitions", "a partition table (dos)", at(446, "\x00\x00\x02\x00\x83\x00\x20\x00\x00\x08\x00\x00\x00\x80\x00\x00"+strings.Repeat("\x00", 48)+"\x55\xaa")},
		{"bytes", "data without a known signature", at(0, "somebody's")},
	}
	for _, c := range contents {
		newVolume(t, "on-"+c.name)
		c.put(t, r.extent(t, "on-"+c.name))
		before := r.sum(t, "on-"+c.name)
		if out := fails(t, c.want, "start", "on-"+c.name); !strings.Contains(out, "nothing was changed") {
			t.Errorf("%s: docker says %s, want that nothing was changed", c.name, out)
		}
		if r.sum(t, "on-"+c.name) != before {
			t.Errorf("%s: the disk has changed", c.name)
		}
		fails(t, "in use", "volume", "rm", "on-"+c.name)
	}
}

// adoptedDisk has a disk with a filesystem that Mooring never made: its root is handed out, and it is never formatted.
func adoptedDisk(t *testing.T, r *rig) {
	newVolume(t, "first") // makes the folder
	v := r.disks(t)
	v.create(t, "theirs")
	v.create(t, "blank")
	run(t, "mkfs.ext4", "-q", "-F", "-U", "5a1ad000-0000-4000-8000-000000000001", r.extent(t, "theirs"))
	for _, name := range []string{"theirs", "blank"} {
		docker(t, "volume", "create", "--driver=vmdk", name)
		newContainer(t, name, name)
	}
	blank := r.sum(t, "blank")
	fails(t, "no sidecar", "start", "blank")
	docker(t, "start", "theirs")
	if got := inspect(t, "theirs", "{{.Status.sidecar}}"); got != "missing" {
		t.Errorf("got sidecar %q, want missing", got)
	}
	docker(t, "exec", "theirs", "touch", "/d/kept")
	docker(t, "exec", "theirs", "test", "-d", "/d/lost+found") // the root
	docker(t, "restart", "theirs")
	docker(t, "exec", "theirs", "test", "-e", "/d/kept")
	docker(t, "stop", "theirs")
	r.detached(t, "theirs")
	if out := run(t, "blkid", "-p", r.extent(t, "theirs")); !strings.Contains(out, "5a1ad000-0000-4000-8000-000000000001") {
		t.Errorf("got %s, want the filesystem that was there", out)
	}
	if r.sum(t, "blank") != blank {
		t.Error("a blank disk that Mooring did not make has changed")
	}
}

// markWithoutData takes the directory data from a volume: an empty one in its place would look like lost data to whoever starts on it.
func markWithoutData(t *testing.T, r *rig) {
	newVolume(t, "marked")
	docker(t, "start", "marked")
	docker(t, "stop", "marked")
	r.detached(t, "marked")
	file := r.extent(t, "marked")
	run(t, "debugfs", "-w", "-R", "rmdir data", file)
	fails(t, "nothing was made anew", "start", "marked")
	r.detached(t, "marked")
	if got := run(t, "debugfs", "-R", "ls -p /", file); strings.Contains(got, "/data/") || !strings.Contains(got, "/.mooring/") {
		t.Errorf("the volume holds %s, want nothing made anew", got)
	}
	run(t, "debugfs", "-w", "-R", "mkdir data", file)
	docker(t, "start", "marked")
}

// missingDisk deletes a disk from the datastore: dockerd still hears of the volume, its start says what is wrong, and it can be removed.
func missingDisk(t *testing.T, r *rig) {
	newVolume(t, "gone")
	remove(t, r.file(t, "gone.vmdk"))
	remove(t, r.file(t, "gone-flat.vmdk"))
	until(t, "the disk is said to be missing", func() bool { return slices.Contains(r.conditions(t), "missing") })
	if got := inspect(t, "gone", "{{.Labels.keep}} {{index .Status \"condition missing\"}}"); !strings.HasPrefix(got, "me Volume gone: its disk") {
		t.Errorf("inspect: got %q, want the label and the condition", got)
	}
	if got := docker(t, "volume", "ls", "-q"); !strings.Contains(got, "gone") {
		t.Errorf("volume ls: got %q, want the volume", got)
	}
	fails(t, "gone.vmdk", "start", "gone")
	fails(t, "in use", "volume", "rm", "gone")
	docker(t, "rm", "gone")
	docker(t, "volume", "rm", "gone")
	if got := r.conditions(t); slices.Contains(got, "missing") {
		t.Errorf("got conditions %v, want none about the removed volume", got)
	}
}

// twins are two files with one disk UUID, as a plain copy has it. One must never be taken for the other.
func twins(t *testing.T, r *rig) {
	newVolume(t, "elder")
	docker(t, "start", "elder")
	docker(t, "exec", "elder", "touch", "/d/elder")
	docker(t, "stop", "elder")
	r.detached(t, "elder")
	r.disks(t).twin(t, "elder", "younger")
	before := r.sum(t, "younger")
	docker(t, "start", "elder")
	newContainer(t, "younger", "younger")
	fails(t, "one is a copy of the other's file", "start", "younger")
	if r.sum(t, "younger") != before {
		t.Error("the copy has changed")
	}
	docker(t, "restart", "elder")
	docker(t, "exec", "elder", "test", "-e", "/d/elder")
}

// emptyName sends each verb without a name, as dockerd does when it repeats a request, and with rows that it lost the name of.
func emptyName(t *testing.T, r *rig) {
	newVolume(t, "named")
	docker(t, "start", "named")
	for _, verb := range []string{"Create", "Get", "Path", "Mount", "Unmount", "Remove"} {
		for _, body := range []string{"", "{}", `{"Name":""}`, `{"Name":"","ID":"x","Opts":{}}`} {
			got := post(t, lab.PluginSocket, "/VolumeDriver."+verb, body)
			if silent := verb == "Get" && body == ""; silent != (got == "") || !silent && !strings.Contains(got, "volume name is empty") {
				t.Errorf("%s %q: got %q", verb, body, got)
			}
		}
	}
	r.mustHold(t, "named", 1)
	docker(t, "exec", "named", "touch", "/d/kept")
	if got := docker(t, "volume", "ls", "-q"); got != "named" {
		t.Errorf("volumes: got %q, want the one that was there", got)
	}
}

// disks is the administrator with vSphere's own tools.
type disks struct {
	*object.VirtualDiskManager

	dc *object.Datacenter
}

func (r *rig) disks(t *testing.T) disks {
	t.Helper()
	u, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	s := soap.NewClient(u, false)
	if err := s.SetRootCAs(r.CAFile()); err != nil {
		t.Fatal(err)
	}
	vim, err := vim25.NewClient(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c := &govmomi.Client{Client: vim, SessionManager: govmomisession.NewManager(vim)}
	if err := c.Login(t.Context(), url.UserPassword(r.Admin().User, r.Admin().Password)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Logout(context.WithoutCancel(t.Context())) }) // the lab may be down by then
	dc, err := find.NewFinder(c.Client).DefaultDatacenter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return disks{object.NewVirtualDiskManager(c.Client), dc}
}

func diskPath(name string) string { return "[vsanDatastore] dockvols/default/" + name + ".vmdk" }

// create makes a disk of 32 MB, with nothing beside it.
func (d disks) create(t *testing.T, name string) {
	t.Helper()
	task, err := d.CreateVirtualDisk(t.Context(), diskPath(name), d.dc, &types.FileBackedVirtualDiskSpec{
		VirtualDiskSpec: types.VirtualDiskSpec{DiskType: string(types.VirtualDiskTypeThin), AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic)},
		CapacityKb:      32 << 10,
	})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatalf("make %s: %v", diskPath(name), err)
	}
}

// twin copies a disk with its UUID.
func (d disks) twin(t *testing.T, from, to string) {
	t.Helper()
	uuid, err := d.QueryVirtualDiskUuid(t.Context(), diskPath(from), d.dc)
	if err != nil {
		t.Fatal(err)
	}
	task, err := d.CopyVirtualDisk(t.Context(), diskPath(from), d.dc, diskPath(to), d.dc, nil, false)
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err == nil {
		err = d.SetVirtualDiskUuid(t.Context(), diskPath(to), d.dc, uuid)
	}
	if err != nil {
		t.Fatalf("copy %s: %v", diskPath(from), err)
	}
}

// run runs a command, also one of those directories where only root looks, and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		name = filepath.Join("/sbin", name)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// poke writes into a file.
func poke(t *testing.T, file string, offset int64, bytes string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(bytes), offset); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
