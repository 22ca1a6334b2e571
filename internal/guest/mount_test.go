package guest_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// Whoever cannot unmount a volume wants to know who keeps it.
func TestBusyUnmountNamesWhoUsesIt(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"a working directory", "cd DIR; echo ready; exec sleep 1000"},
		{"an open file", "exec 3>DIR/file; echo ready; exec sleep 1000"},
		{"a deleted file", "exec 3>DIR/file; rm DIR/file; echo ready; exec sleep 1000"},
		{"a program", "cp /bin/sh DIR/; exec DIR/sh -c 'echo ready; kill -STOP $$'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			o := m.mustOpen(t, d)
			p := start(t, "/", strings.ReplaceAll(c.script, "DIR", o.Dir))
			if err := m.Close(d.Volume); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), p.name()) {
				t.Errorf("error: %v, want ErrInUse naming %s", err, p.name())
			}
			if !isMounted(t, m.dir(d)) {
				t.Error("unmounted under its user")
			}
			p.stop(t)
			m.mustClose(t, d)
			m.wantUnmounted(t, d)
		})
	}
	t.Run("a mount below", func(t *testing.T) {
		m := newMachine(t)
		d := m.newDisk(t, "db", mooring.Ext4)
		below := filepath.Join(m.mustOpen(t, d).Dir, "below")
		mount(t, "tmpfs", below, "tmpfs")
		if err := m.Close(d.Volume); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), below) {
			t.Errorf("error: %v, want ErrInUse naming %s", err, below)
		}
		unmount(t, below)
		m.mustClose(t, d)
	})
}

// Docker sends an unmount for mounts that never succeeded.
func TestCloseOfWhatIsNotMountedIsFine(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	m.mustClose(t, d)
	m.mustOpen(t, d)
	m.mustClose(t, d)
	m.mustClose(t, d)
}

// An administrator may have mounted something on a volume's directory. It is neither taken for the volume nor unmounted.
func TestForeignMountOnTheDirectoryIsLeftAlone(t *testing.T) {
	m := newMachine(t)
	d, other := m.newDisk(t, "db", mooring.Ext4), m.newDisk(t, "web", mooring.Ext4)
	m.mustOpen(t, other)
	m.mustClose(t, other)
	for name, put := range map[string]func(){
		"a tmpfs":               func() { mount(t, "tmpfs", m.dir(d), "tmpfs") },
		"another volume's disk": func() { mount(t, other.dev, m.dir(d), "ext4") },
	} {
		put()
		_, s, open := m.open(t, d)
		for verb, err := range map[string]error{"open": open, "close": m.Close(d.Volume), "forget": m.Forget(d.Name)} {
			if !errors.Is(err, mooring.ErrInUse) {
				t.Errorf("%s with %s: %v, want ErrInUse", verb, name, err)
			}
		}
		if !isMounted(t, m.dir(d)) || len(s.formats) != 0 {
			t.Errorf("%s was unmounted, or something recorded: %v", name, s.formats)
		}
		unmount(t, m.dir(d))
	}
}

// A container that starts without its volume must not write into the directory below: it would fill the machine's own disk, and a
// database would begin anew.
func TestUnmountedDirectoryCannotBeWritten(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	o := m.mustOpen(t, d)
	write(t, filepath.Join(o.Dir, "row"), "1")
	m.mustClose(t, d)
	if err := os.WriteFile(filepath.Join(m.dir(d), "file"), nil, 0o600); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing into the unmounted directory: %v, want EPERM", err)
	}
	fi, err := os.Stat(m.mounts)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v, want 0700", m.mounts, fi.Mode(), err)
	}
	m.mustOpen(t, d) // twice on one directory
	m.mustClose(t, d)
	if dirs, err := m.Writable(); err != nil || len(dirs) != 0 {
		t.Errorf("writable: got %v, %v, want none", dirs, err)
	}
	open := filepath.Join(m.mounts, "open") // what a person made, say
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	m.mustOpen(t, d) // what is mounted there is not looked at
	if dirs, err := m.Writable(); err != nil || !slices.Equal(dirs, []string{open}) {
		t.Errorf("writable: got %v, %v, want %s", dirs, err, open)
	}
	m.mustClose(t, d)
	if err := m.Forget(d.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.dir(d)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after forget: %v, want no directory", err)
	}
}

// Forget is for directories that Mooring made; what has a file in it is somebody's.
func TestForgetRemovesNoFiles(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(m.mounts, "db")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "file"), "1")
	if err := m.Forget("db"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("error: %v, want ENOTEMPTY", err)
	}
	if err := m.Forget("never-there"); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// Names have spaces and letters of every language, which the kernel's table shows in escapes.
func TestMountedNamesVolumesAndTheirDisks(t *testing.T) {
	m := newMachine(t)
	want := make(map[mooring.Name]mooring.DiskID)
	for _, name := range []string{"db", "a b  c", "größe-数据", `tick's #1`, "lost+found"} {
		d := m.newDisk(t, name, mooring.Ext4)
		m.wantData(t, d, m.mustOpen(t, d))
		want[d.Name] = d.Disk
	}
	mount(t, "tmpfs", filepath.Join(m.mounts, "other"), "tmpfs")
	defer unmount(t, filepath.Join(m.mounts, "other"))
	want["other"] = ""
	mounts, err := m.Mounted()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[mooring.Name]mooring.DiskID)
	for name, mnt := range mounts {
		got[name] = mnt.Disk
		if mnt.Dir != filepath.Join(m.mounts, string(name)) || (mnt.FSType == "ext4") != (mnt.Disk != "") {
			t.Errorf("%q: got %+v", name, mnt)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	some, err := m.Mounted("db", "größe-数据", "never-there")
	if err != nil || len(some) != 2 || some["db"] != mounts["db"] || some["größe-数据"] != mounts["größe-数据"] {
		t.Errorf("of three: got %v, %v", some, err)
	}
}

// The mount directory may lie behind a link; the kernel's table names where it leads.
func TestMountDirectoryBehindALink(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	link := m.mounts + "-link"
	if err := errors.Join(os.Mkdir(m.mounts, 0o700), os.Symlink(m.mounts, link)); err != nil {
		t.Fatal(err)
	}
	n := m.with(link)
	m.wantData(t, d, n.mustOpen(t, d))
	m.wantData(t, d, n.mustOpen(t, d))
	if mounts, err := n.Mounted(); err != nil || mounts["db"].Disk != d.Disk {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
	n.mustClose(t, d)
	m.wantUnmounted(t, d)
}

// A disk that was detached under its mount leaves a mount whose link is gone. It must be possible to unmount it.
func TestMountOfADiskThatIsGoneIsUnmounted(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	m.mustOpen(t, d)
	if err := os.Remove(filepath.Join(m.byID, d.Disk.WWN())); err != nil {
		t.Fatal(err)
	}
	mounts, err := m.Mounted()
	if got, ok := mounts["db"]; err != nil || !ok || got.Disk != "" {
		t.Errorf("mounted: %v, %v, want db of no disk", mounts, err)
	}
	m.mustClose(t, d)
	m.wantUnmounted(t, d)
}

// A copy of another volume's disk, adopted as it lies, has the same filesystem UUID. XFS refuses the second one, and both are wanted.
func TestTwoAdoptedCopiesOfOneXFSAreMounted(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.XFS)
	m.mustOpen(t, d)
	m.mustClose(t, d)
	image := d.image + "-copy"
	sh(t, "cp", "--sparse=always", d.image, image)
	copied := m.attach(t, "db-copy", mooring.XFS, image)
	copied.Format, copied.FSUUID = mooring.FormatUnknown, ""
	m.wantData(t, d, m.mustOpen(t, d))
	m.wantData(t, copied, m.mustOpen(t, copied))
}
