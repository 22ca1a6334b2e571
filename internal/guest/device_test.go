package guest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

const absent = mooring.DiskID("6000c294-c2b1-78d8-e1a0-000000000001")

// fakeFile makes a file in a tree that stands for sysfs or procfs.
func fakeFile(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, file, text)
}

// pipe makes a named pipe, from which all that was written can be read without waiting.
func pipe(t *testing.T, path ...string) *os.File {
	t.Helper()
	file := filepath.Join(path...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// A hot-added disk that the kernel has not noticed is asked for, once, and not before it had its time.
func TestSCSIHostsAreScannedOnceAfterThreeSeconds(t *testing.T) {
	sys := t.TempDir()
	hosts := []*os.File{pipe(t, sys, "class/scsi_host/host0/scan"), pipe(t, sys, "class/scsi_host/host1/scan")}
	g := guest.New(guest.Config{ByID: filepath.Join(t.TempDir(), "none"), Sys: sys})
	for _, c := range []struct {
		wait time.Duration
		want string
	}{{2 * time.Second, ""}, {20 * time.Second, "- - -"}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.wait)
			defer cancel()
			if _, err := g.Device(ctx, absent); !errors.Is(err, mooring.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error: %v, want ErrUnavailable at the deadline", err)
			}
		})
		for _, host := range hosts {
			b := make([]byte, 100)
			n, err := unix.Read(int(host.Fd()), b)
			if got := string(b[:max(n, 0)]); got != c.want {
				t.Errorf("after %s %s was told %q, %v, want %q", c.wait, host.Name(), got, err, c.want)
			}
		}
	}
}

// Present lists whole disks with an identity of vSphere's kind, that are there.
func TestPresentListsTheDisksThatAreThere(t *testing.T) {
	m := newMachine(t)
	a, b := m.newDisk(t, "db", mooring.Ext4), m.newDisk(t, "web", mooring.Ext4)
	for link, to := range map[string]string{
		absent.WWN():             "/dev/never-there",
		a.Disk.WWN() + "-part1":  a.dev,
		"wwn-0x5000c500a1b2c3d4": a.dev,
		"scsi-SATA_disk":         a.dev,
		mooring.DiskID("6000c294-c2b1-78d8-e1a0-000000000002").WWN(): "/dev/null",
	} {
		if err := os.Symlink(to, filepath.Join(m.byID, link)); err != nil {
			t.Fatal(err)
		}
	}
	want := []mooring.DiskID{a.Disk, b.Disk}
	if a.Disk > b.Disk {
		want = []mooring.DiskID{b.Disk, a.Disk}
	}
	if got, err := m.Present(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := m.Device(t.Context(), a.Disk); err != nil || got != a.dev {
		t.Errorf("device: got %s, %v, want %s", got, err, a.dev)
	}
	none := guest.New(guest.Config{ByID: filepath.Join(t.TempDir(), "none")})
	if got, err := none.Present(); err != nil || len(got) != 0 {
		t.Errorf("a machine without disks: %v, %v, want none", got, err)
	}
}

// A link that is left over from another disk must not lead to that disk: the device itself says which it is.
func TestLinkToADeviceOfAnotherIdentityIsRefused(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	var st unix.Stat_t
	if err := unix.Stat(d.dev, &st); err != nil {
		t.Fatal(err)
	}
	device := fmt.Sprintf("dev/block/%d:%d/device/wwid", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	for _, c := range []struct {
		wwid string
		want error
	}{
		{"naa." + strings.TrimPrefix(d.Disk.WWN(), "wwn-0x") + "\n", nil},
		{"naa." + strings.TrimPrefix(absent.WWN(), "wwn-0x") + "\n", mooring.ErrCorrupt},
		{"naa.5000c500a1b2c3d4\n", nil},
		{"t10.ATA     QEMU HARDDISK\n", nil},
	} {
		sys := t.TempDir()
		fakeFile(t, c.wwid, sys, device)
		g := guest.New(guest.Config{ByID: m.byID, Sys: sys})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Device(ctx, d.Disk); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%q: %v, want %v", c.wwid, err, c.want)
		}
	}
}

// The kernel tells which disk a device is as soon as it has it. udev's link, which a boot makes seconds later, is not waited for; and one that is left over is not believed.
func TestDiskIsFoundWithoutUdev(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	digits := strings.TrimPrefix(d.Disk.WWN(), "wwn-0x")
	for what, c := range map[string]struct {
		file, text string
		found      bool
	}{
		"vSphere's NAA identifier": {"wwid", "naa." + digits + "\n", true},
		"a serial number":          {"vpd_pg80", "\x00\x80\x00\x20" + digits, true},
		"another NAA identifier":   {"wwid", "naa.5000c500a1b2c3d4\n", false},
		"another serial number":    {"vpd_pg80", "\x00\x80\x00\x08S3Z9NB0K", false},
		"a page that is cut short": {"vpd_pg80", "\x00\x80", false},
	} {
		sys, byID := t.TempDir(), t.TempDir()
		fakeFile(t, c.text, sys, "block", filepath.Base(d.dev), "device", c.file)
		fakeFile(t, "", sys, "block/vda/size")
		g := guest.New(guest.Config{ByID: byID, Sys: sys})
		for _, link := range []string{"", "/dev/null", "/dev/never-there"} {
			if link != "" {
				if err := errors.Join(os.RemoveAll(filepath.Join(byID, d.Disk.WWN())), os.Symlink(link, filepath.Join(byID, d.Disk.WWN()))); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			dev, err := g.Device(ctx, d.Disk)
			present, perr := g.Present()
			if (err == nil && dev == d.dev) != c.found || perr != nil || slices.Contains(present, d.Disk) != c.found || g.Sees(d.Disk) != c.found {
				t.Errorf("%s, link %q: got %s (%v), present %v (%v), want found: %t", what, link, dev, err, present, perr, c.found)
			}
		}
		if err := os.Symlink(d.dev, filepath.Join(byID, absent.WWN())); err != nil { // left over from another disk
			t.Fatal(err)
		}
		if present, err := g.Present(); err != nil || slices.Contains(present, absent) == c.found {
			t.Errorf("%s: a link from another disk to the device: present %v (%v), want it believed: %t", what, present, err, !c.found)
		}
	}
}

// A loop device without its image, or a disk that was just detached, reads as nothing. It must not pass for an empty disk.
func TestDeviceWithoutADiskIsNotAnEmptyDisk(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	sh(t, "losetup", "--detach", d.dev)
	d.detached = true
	_, s, err := m.open(t, d)
	if err == nil || len(s.formats) != 0 {
		t.Errorf("error %v, recorded %v; want an error and nothing", err, s.formats)
	}
	if _, err := m.Probe(t.Context(), filepath.Join(m.images, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that is not there: %v, want ErrNotExist", err)
	}
}

// A new boot makes the holders of the old one void; the ID is the kernel's.
func TestBootIDIsTheKernels(t *testing.T) {
	want := strings.TrimSpace(read(t, "/proc/sys/kernel/random/boot_id"))
	if got, err := guest.New(guest.Config{}).BootID(); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestBIOSUUIDIsLowerCaseOrNotFound(t *testing.T) {
	sys := t.TempDir()
	g := guest.New(guest.Config{Sys: sys})
	if _, err := g.BIOSUUID(); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("without firmware: %v, want ErrNotFound", err)
	}
	fakeFile(t, "4C2B178D-8E1A-4000-8000-0123456789AB\n", sys, "class/dmi/id/product_uuid")
	if got, err := g.BIOSUUID(); err != nil || got != "4c2b178d-8e1a-4000-8000-0123456789ab" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A disk that is not there yet is told from one that is absent by whether udev still has something to do.
func TestSettled(t *testing.T) {
	queue := filepath.Join(t.TempDir(), "queue")
	g := guest.New(guest.Config{MountDir: t.TempDir(), UdevQueue: queue})
	if !g.Settled() {
		t.Error("without a queue: not settled")
	}
	if err := os.WriteFile(queue, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if g.Settled() {
		t.Error("with a queue: settled")
	}
}
