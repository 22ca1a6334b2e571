package loop_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/integration/lab/loop"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// No test here runs beside another: a child that one of them starts has a copy of every descriptor until it executes its program, and keeps
// a loop device that the other has just let go.

const uuid = "6000c299-1111-2222-3333-444444444444"

// guest returns a guest with a link directory of its own, and a disk of 8 MB.
func guest(t *testing.T) (*loop.Guest, vcenter.Disk, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes loop devices")
	}
	dir := t.TempDir()
	links := filepath.Join(dir, "by-id")
	g, err := loop.New(dir, links, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close guest: %v", err)
		}
	})
	extent := filepath.Join(dir, "web-flat.vmdk")
	if err := os.WriteFile(extent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(extent, 8<<20); err != nil {
		t.Fatal(err)
	}
	return g, vcenter.Disk{UUID: uuid, Extent: extent, Capacity: 8 << 20}, links
}

func plug(t *testing.T, g *loop.Guest, d vcenter.Disk) {
	t.Helper()
	if err := g.Plug(t.Context(), d); err != nil {
		t.Fatalf("plug: %v", err)
	}
}

// bound says whether the loop device is bound to the file. A device that was let go is free for anybody on the machine, the tests of other
// packages too: that it is bound says nothing.
func bound(t *testing.T, dev, file string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENXIO) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)) == file
}

// A device that somebody else took as soon as it was free is not ours any more.
func TestDeviceThatSomebodyElseTookIsNotOurs(t *testing.T) {
	g, d, _ := guest(t)
	plug(t, g, d)
	other := d
	other.UUID, other.Extent = "6000c299-1111-2222-3333-555555555555", d.Extent+".other"
	if err := os.WriteFile(other.Extent, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	plug(t, g, other)
	dev := g.Devices()[other.UUID]
	if bound(t, dev, d.Extent) {
		t.Errorf("%s counts as bound to %s, and is bound to another file", dev, d.Extent)
	}
	if !bound(t, dev, other.Extent) {
		t.Errorf("%s does not count as bound to %s", dev, other.Extent)
	}
}

// A lab that is killed leaves its links, and its devices are free for the next: a link to one of those would give two disks one device.
func TestLinkThatAKilledLabLeftIsRemovedWithItsDevice(t *testing.T) {
	g, d, links := guest(t)
	for n := range 64 {
		if err := os.Symlink(fmt.Sprintf("../../../../dev/loop%d", n), filepath.Join(links, fmt.Sprintf("wwn-0x6000c29f00000000000000000000%04d", n))); err != nil {
			t.Fatal(err)
		}
	}
	plug(t, g, d)
	entries, err := os.ReadDir(links)
	if err != nil {
		t.Fatal(err)
	}
	dev, found := filepath.Base(g.Devices()[uuid]), 0
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(links, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(to) == dev {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d links to %s, want that of its disk alone", found, dev)
	}
	if len(entries) < 63 {
		t.Errorf("%d links left, want those to other devices to stay", len(entries))
	}
}

// The link is what the plugin finds a disk by; behind it are the extent's bytes.
func TestPluggedDiskIsFoundByItsUUID(t *testing.T) {
	g, d, links := guest(t)
	plug(t, g, d)
	plug(t, g, d) // a second time changes nothing
	link := filepath.Join(links, "wwn-0x"+strings.ReplaceAll(uuid, "-", ""))
	if err := os.WriteFile(link, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(link, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.Extent)
	if err != nil || string(b[:5]) != "hello" || len(b) != 8<<20 {
		t.Fatalf("got %q of %d bytes (%v), want hello in 8 MB", b[:5], len(b), err)
	}
	dev := g.Devices()[uuid]
	if err := g.Unplug(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("link: got %v, want it gone", err)
	}
	if bound(t, dev, d.Extent) {
		t.Errorf("%s is still bound", dev)
	}
}

// The plugin keeps a descriptor open until the reconfiguration has answered: the device stays for it, and goes with it.
func TestDeviceGoesWithItsLastUser(t *testing.T) {
	g, d, _ := guest(t)
	plug(t, g, d)
	dev := g.Devices()[uuid]
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open exclusively: %v", err)
	}
	if err := g.Unplug(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if !bound(t, dev, d.Extent) {
		t.Error("the device went while it was open")
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if bound(t, dev, d.Extent) {
		t.Error("the device outlived its last user")
	}
	if v := g.Violations(); len(v) != 0 {
		t.Errorf("an open device is no violation, got %v", v)
	}
}

// Taking a mounted disk away is what a volume plugin must never do; the lab does it and says so.
func TestDiskTakenAwayWhileMountedIsAViolation(t *testing.T) {
	g, d, links := guest(t)
	plug(t, g, d)
	dev := g.Devices()[uuid]
	dir := filepath.Join(filepath.Dir(links), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", dev)
	run(t, "mount", "-t", "ext4", dev, dir)
	err := g.Unplug(t.Context(), d)
	run(t, "umount", dir)
	if err != nil {
		t.Fatal(err)
	}
	v := g.Violations()
	if len(v) != 1 || v[0].UUID != uuid || !strings.Contains(strings.Join(v[0].Mounts, " "), dir) {
		t.Fatalf("got %+v, want one violation at %s", v, dir)
	}
	if bound(t, dev, d.Extent) {
		t.Error("the device outlived the mount")
	}
}

// A killed lab leaves links; the loop devices behind them are cleared and may carry anything by the time of the next start.
func TestLinksOfAKilledLabAreRemovedAtStart(t *testing.T) {
	g, d, links := guest(t)
	plug(t, g, d)
	link := filepath.Join(links, "wwn-0x"+strings.ReplaceAll(uuid, "-", ""))
	foreign := filepath.Join(links, "wwn-0x600000000000000000000000000000ff")
	if err := os.Symlink("../../null", foreign); err != nil {
		t.Fatal(err)
	}
	if _, err := loop.New(filepath.Dir(links), links, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stale link: got %v, want it gone", err)
	}
	if _, err := os.Lstat(foreign); err != nil {
		t.Errorf("somebody else's link: got %v, want it there", err)
	}
}

// A disk that cannot be plugged leaves nothing behind.
func TestFailedPlugLeavesNothing(t *testing.T) {
	g, d, links := guest(t)
	d.Extent += ".missing"
	if err := g.Plug(t.Context(), d); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, want that there is no such file", err)
	}
	entries, err := os.ReadDir(links)
	if err != nil || len(entries) != 0 || len(g.Devices()) != 0 {
		t.Fatalf("got links %v, devices %v (%v), want none", entries, g.Devices(), err)
	}
}

// The device of a disk that has grown is as large as the disk.
func TestDeviceGrowsWithItsDisk(t *testing.T) {
	g, d, _ := guest(t)
	plug(t, g, d)
	if err := os.Truncate(d.Extent, 16<<20); err != nil {
		t.Fatal(err)
	}
	if err := g.Grow(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(g.Devices()[uuid])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if n, err := f.Seek(0, io.SeekEnd); err != nil || n != 16<<20 {
		t.Fatalf("got %d bytes (%v), want %d", n, err, 16<<20)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
