package guest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

// machine is a guest with directories of its own and loop devices for disks.
type machine struct {
	*guest.Guest
	mounts, byID, images string
}

// newMachine returns a machine. It needs root, loop devices and the filesystem tools.
func newMachine(t *testing.T) *machine {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	m := &machine{mounts: filepath.Join(dir, "mounts"), byID: filepath.Join(dir, "by-id"), images: filepath.Join(dir, "images")}
	for _, d := range []string{m.byID, m.images} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Loop devices sync their images; in memory that costs nothing.
	if err := unix.Mount("tmpfs", m.images, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, m.images) })
	m.Guest = guest.New(guest.Config{MountDir: m.mounts, ByID: m.byID})
	return m
}

// with returns the machine with another way to its mount directory.
func (m *machine) with(mounts string) *machine {
	n := *m
	n.Guest = guest.New(guest.Config{MountDir: mounts, ByID: m.byID})
	return &n
}

// needRoot skips the test where it cannot run; in CI that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, name := range []string{"losetup", "mkfs.ext4", "mkfs.xfs", "blkid", "e2fsck", "xfs_repair", "debugfs", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %v", missing)
	}
	t.Skipf("needs %v", missing)
}

// sh runs a command and returns its output without the last newline.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// disk is a volume whose disk is a loop device.
type disk struct {
	mooring.Volume

	image, dev string
	detached   bool // the loop device was let go by the test
}

func hexDigits(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n/2)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// newDisk returns an empty disk of a volume that was just created.
func (m *machine) newDisk(t *testing.T, name string, fs mooring.FSType) *disk {
	t.Helper()
	size := 64 * mooring.MB
	if fs == mooring.XFS {
		size = mooring.MinXFSSize
	}
	image := filepath.Join(m.images, hexDigits(t, 12))
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(size)); err != nil {
		t.Fatal(err)
	}
	return m.attach(t, name, fs, image)
}

// attach makes a disk of an image.
func (m *machine) attach(t *testing.T, name string, fs mooring.FSType, image string) *disk {
	t.Helper()
	id, err := mooring.ParseDiskID("6000c29" + hexDigits(t, 26)[1:])
	if err != nil {
		t.Fatal(err)
	}
	fsuuid, err := mooring.ParseDiskID(hexDigits(t, 32))
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{image: image}
	d.Spec = mooring.Spec{Name: mooring.Name(name), Size: mooring.GB, FSType: fs}
	d.Disk, d.FSUUID, d.Format = id, mooring.FSUUID(fsuuid), mooring.FormatNone
	d.dev = sh(t, "losetup", "--find", "--show", image)
	link := filepath.Join(m.byID, id.WWN())
	if err := os.Symlink(d.dev, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(d.Volume); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if err := m.Forget(d.Name); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if !d.detached {
			sh(t, "losetup", "--detach", d.dev)
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("clean up: %v", err)
		}
	})
	return d
}

// sidecar is the journal of a disk: it keeps Format in the volume, and what it heard.
type sidecar struct {
	d    *disk
	fail map[mooring.Format]error

	mu       sync.Mutex
	formats  []mooring.Format
	progress []string
}

func (s *sidecar) SetFormat(_ context.Context, f mooring.Format) error {
	if err := s.fail[f]; err != nil {
		return err
	}
	s.formats = append(s.formats, f)
	s.d.Format = f
	return nil
}

func (s *sidecar) Progress(what string, _ int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = append(s.progress, what)
}

// open opens the disk with a sidecar that records in it.
func (m *machine) open(t *testing.T, d *disk) (guest.Opened, *sidecar, error) {
	t.Helper()
	s := &sidecar{d: d}
	o, err := m.Open(t.Context(), d.Volume, false, s)
	return o, s, err
}

func (m *machine) mustOpen(t *testing.T, d *disk) guest.Opened {
	t.Helper()
	o, _, err := m.open(t, d)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return o
}

func (m *machine) mustClose(t *testing.T, d *disk) {
	t.Helper()
	if err := m.Close(d.Volume); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func (m *machine) dir(d *disk) string { return filepath.Join(m.mounts, string(d.Name)) }

// wantData fails unless o is the directory data of the disk's mount.
func (m *machine) wantData(t *testing.T, d *disk, o guest.Opened) {
	t.Helper()
	if want := (guest.Opened{Dir: filepath.Join(m.dir(d), mooring.DataDir)}); o != want {
		t.Fatalf("opened: got %+v, want %+v", o, want)
	}
}

// isMounted asks the kernel.
func isMounted(t *testing.T, dir string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte(" "+strings.ReplaceAll(dir, " ", `\040`)+" "))
}

func (m *machine) wantUnmounted(t *testing.T, d *disk) {
	t.Helper()
	if isMounted(t, m.dir(d)) {
		t.Errorf("%s is still mounted", m.dir(d))
	}
}

// content returns the bytes of the disk's image.
func (d *disk) content(t *testing.T) []byte {
	t.Helper()
	sh(t, "sync", d.dev)
	b, err := os.ReadFile(d.image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mount mounts for the test's own purposes.
func mount(t *testing.T, dev, dir, fstype string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev, dir, fstype, 0, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", dev, dir, err)
	}
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatalf("unmount %s: %v", dir, err)
	}
}
