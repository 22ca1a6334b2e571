package guest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
)

// putAt writes bytes into the device.
func putAt(t *testing.T, dev string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data, at)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// partitionTable is a master boot record with one Linux partition.
func partitionTable() []byte {
	mbr := make([]byte, 512)
	copy(mbr[446:], []byte{0x80, 0, 2, 0, 0x83, 0, 8, 0, 1, 0, 0, 0, 0x00, 0x08, 0, 0})
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

// Mooring made the disk, and something else is on it: whoever put it there may want it. Nothing is changed, byte by byte.
func TestDiskWithForeignContentIsRefusedAndKept(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(t *testing.T, d *disk)
		says string
	}{
		{"another ext4", func(t *testing.T, d *disk) { t.Helper(); sh(t, "mkfs.ext4", "-q", d.dev) }, "ext4"},
		{"minix", func(t *testing.T, d *disk) { t.Helper(); sh(t, "mkfs.minix", d.dev) }, "minix"},
		{"swap", func(t *testing.T, d *disk) { t.Helper(); sh(t, "mkswap", d.dev) }, "swap"},
		{"a partition table", func(t *testing.T, d *disk) { t.Helper(); putAt(t, d.dev, 0, partitionTable()) }, "dos"},
		{"bytes in the first MiB", func(t *testing.T, d *disk) { t.Helper(); putAt(t, d.dev, 1<<20-1, []byte{1}) }, "data without"},
		{"bytes at the end", func(t *testing.T, d *disk) { t.Helper(); putAt(t, d.dev, int64(64*mooring.MB)-1, []byte{1}) }, "data without"},
		{"bytes in the last MiB", func(t *testing.T, d *disk) { t.Helper(); putAt(t, d.dev, int64(63*mooring.MB), []byte{1}) }, "data without"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			c.put(t, d)
			before := d.content(t)
			_, s, err := m.open(t, d)
			if !errors.Is(err, mooring.ErrCorrupt) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), d.dev) {
				t.Errorf("error: %v, want ErrCorrupt naming %q and the device", err, c.says)
			}
			if !bytes.Equal(before, d.content(t)) || len(s.formats) != 0 {
				t.Errorf("the disk was changed, or the sidecar: %v", s.formats)
			}
			m.wantUnmounted(t, d)
		})
	}
}

// An empty disk behind a volume that was formatted once is a lost volume, not a new one.
func TestFormattedVolumeWithNothingOnItsDiskIsNeverFormatted(t *testing.T) {
	for _, c := range []struct {
		name      string
		format    mooring.Format
		formatted bool
	}{
		{"the sidecar says done", mooring.FormatDone, false},
		{"the sidecar is lost", mooring.FormatUnknown, false},
		{"the ledger says formatted, the sidecar never", mooring.FormatNone, true},
		{"the ledger says formatted, the sidecar begun", mooring.Formatting, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			d.Format = c.format
			before := d.content(t)
			s := &sidecar{d: d}
			if _, err := m.Open(t.Context(), d.Volume, c.formatted, s); !errors.Is(err, mooring.ErrCorrupt) {
				t.Errorf("error: %v, want ErrCorrupt", err)
			}
			if !bytes.Equal(before, d.content(t)) || len(s.formats) != 0 {
				t.Errorf("the disk was changed, or the sidecar: %v", s.formats)
			}
		})
	}
}

// A disk of the ancestor has no sidecar and no mark: its root is what its containers know.
func TestAdoptedVolumeGivesItsRoot(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		t.Run(string(fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", fs)
			sh(t, "mkfs."+string(fs), "-q", d.dev)
			d.Format, d.FSUUID, d.FSType = mooring.FormatUnknown, "", "" // as vSphere describes it
			o, s, err := m.open(t, d)
			if err != nil || o.Dir != m.dir(d) || !o.Root || len(s.formats) != 0 {
				t.Errorf("got %+v, %v, recorded %v; want the root of %s and nothing recorded", o, err, s.formats, m.dir(d))
			}
		})
	}
}

// A sidecar that is lost later costs nothing: the mark inside says what Docker gets.
func TestVolumeWithoutItsSidecarStillGivesData(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	first := m.mustOpen(t, d)
	m.mustClose(t, d)
	d.Format, d.FSUUID = mooring.FormatUnknown, ""
	o, s, err := m.open(t, d)
	if err != nil || o != first || len(s.formats) != 0 {
		t.Errorf("got %+v, %v, recorded %v; want %+v and nothing", o, err, s.formats, first)
	}
}

// What is inside a formatted volume must be what Mooring left there; else a database would find an empty directory and begin anew.
func TestDamagedLayoutIsRefusedAndNotMadeAnew(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(root string) error
		want   error
	}{
		{"mark without data", func(root string) error { return os.Remove(filepath.Join(root, mooring.DataDir)) }, mooring.ErrCorrupt},
		{"mark lost", func(root string) error { return os.Remove(filepath.Join(root, mooring.MarkFile)) }, mooring.ErrCorrupt},
		{"data is a link", func(root string) error {
			data := filepath.Join(root, mooring.DataDir)
			return errors.Join(os.Remove(data), os.Symlink("/", data))
		}, mooring.ErrCorrupt},
		{"the mark is a link", func(root string) error {
			mark := filepath.Join(root, mooring.MarkFile)
			return errors.Join(os.Rename(mark, mark+"2"), os.Symlink(mooring.MarkFile+"2", mark))
		}, mooring.ErrCorrupt},
		{"the mark is empty", func(root string) error { return os.Truncate(filepath.Join(root, mooring.MarkFile), 0) }, mooring.ErrCorrupt},
		{"a newer Mooring's", func(root string) error {
			return os.WriteFile(filepath.Join(root, mooring.MarkFile), []byte("2\n"), 0o600)
		}, mooring.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			m.mustOpen(t, d)
			m.mustClose(t, d)
			elsewhere := filepath.Join(t.TempDir(), "m")
			mount(t, d.dev, elsewhere, "ext4")
			damaged := c.damage(elsewhere)
			unmount(t, elsewhere)
			if damaged != nil {
				t.Fatal(damaged)
			}
			before := sh(t, "debugfs", "-R", "ls -l", d.dev)
			for range 2 {
				if _, _, err := m.open(t, d); !errors.Is(err, c.want) {
					t.Fatalf("error: %v, want %v", err, c.want)
				}
			}
			m.wantUnmounted(t, d)
			if after := sh(t, "debugfs", "-R", "ls -l", d.dev); after != before {
				t.Errorf("changed: %s\nbefore: %s", after, before)
			}
		})
	}
}

// The wrong disk in the right place: its filesystem is whole, and another's.
func TestFilesystemOfAnotherVolumeIsRefused(t *testing.T) {
	m := newMachine(t)
	d, other := m.newDisk(t, "db", mooring.Ext4), m.newDisk(t, "web", mooring.Ext4)
	m.mustOpen(t, other)
	m.mustClose(t, other)
	wrong := *d
	wrong.Disk, wrong.Format = other.Disk, mooring.FormatDone
	_, _, err := m.open(t, &wrong)
	if !errors.Is(err, mooring.ErrCorrupt) || !strings.Contains(err.Error(), string(d.FSUUID)) || !strings.Contains(err.Error(), string(other.FSUUID)) {
		t.Errorf("error: %v, want ErrCorrupt naming both UUIDs", err)
	}
	m.wantUnmounted(t, d)
}

// A filesystem that Mooring cannot make must be refused before the sidecar says that formatting has begun.
func TestUnknownFilesystemTypeIsRefused(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	d.FSType = "ntfs"
	before := d.content(t)
	_, s, err := m.open(t, d)
	if !errors.Is(err, mooring.ErrInvalid) || !bytes.Equal(before, d.content(t)) || len(s.formats) != 0 {
		t.Errorf("error: %v, recorded %v; want ErrInvalid, nothing recorded, nothing changed", err, s.formats)
	}
}

// An empty name is what dockerd's retries carry; a path made of it would be the directory of all mounts.
func TestNamesThatMakeNoPathAreRefused(t *testing.T) {
	m := newMachine(t)
	for _, name := range []mooring.Name{"", ".", "..", "a/b", "../x"} {
		vol := mooring.Volume{Spec: mooring.Spec{Name: name}}
		_, open := m.Open(context.WithoutCancel(t.Context()), vol, false, &sidecar{})
		for verb, err := range map[string]error{"open": open, "close": m.Close(vol), "forget": m.Forget(name)} {
			if !errors.Is(err, mooring.ErrInvalid) {
				t.Errorf("%s %q: %v, want ErrInvalid", verb, name, err)
			}
		}
	}
}
