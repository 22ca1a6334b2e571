package layouttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedRoot skips the test where it cannot run, without root or one of the tools; in CI that is a failure.
func NeedRoot(tb testing.TB, tools ...string) {
	tb.Helper()
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	switch {
	case len(missing) == 0:
	case os.Getenv("CI") == "true":
		tb.Fatalf("needs %v", missing)
	default:
		tb.Skipf("needs %v", missing) // needs root
	}
}

// Sh returns what a command says that has to succeed.
func Sh(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(tb.Context()), name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Disk is a loop device with a filesystem, which is mounted on no directory: what is done elsewhere on the machine neither sees the mount nor keeps it.
type Disk struct {
	Image, Dev string // the file behind the device, and the device

	tb     testing.TB
	kind   string // of the filesystem
	direct bool   // the image is read and written past the page cache
	mnt    int    // the mount's descriptor
}

// NewDisk returns an empty filesystem whose disk is in memory. What it has written is in its image, and what is still in the filesystem's memory is not: so a copy of the image is the disk after a
// power cut. No commit comes by itself while a test runs.
func NewDisk(tb testing.TB, kind, size string) *Disk {
	tb.Helper()
	NeedRoot(tb, "losetup", "mkfs."+kind)
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
	must(tb, err)
	tb.Cleanup(func() { must(tb, unix.Close(fd)) })
	d := &Disk{tb: tb, kind: kind, Image: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)}
	d.format(size)
	d.Mount(map[string]string{"ext4": "commit=10000"}[kind])
	return d
}

// NewDirectDisk returns an empty filesystem in a file of the test's, which is read and written past the page cache.
func NewDirectDisk(tb testing.TB, kind, size string) *Disk {
	tb.Helper()
	NeedRoot(tb, "losetup", "mkfs."+kind)
	d := &Disk{tb: tb, kind: kind, Image: filepath.Join(tb.TempDir(), "image"), direct: true}
	d.format(size)
	d.Mount()
	return d
}

// format makes the filesystem on the image and gives it a loop device.
func (d *Disk) format(size string) {
	d.tb.Helper()
	Sh(d.tb, "truncate", "--size", size, d.Image)
	Sh(d.tb, "mkfs."+d.kind, "-q", d.Image)
	d.attach()
}

func (d *Disk) attach() {
	d.tb.Helper()
	d.Dev = Sh(d.tb, "losetup", "--find", "--show", "--direct-io="+map[bool]string{true: "on", false: "off"}[d.direct], d.Image)
	dev := d.Dev
	d.tb.Cleanup(func() { Sh(d.tb, "losetup", "--detach", dev) })
}

// Mount mounts the filesystem with options such as "ro" and "key=value".
func (d *Disk) Mount(options ...string) {
	d.tb.Helper()
	fs, err := unix.Fsopen(d.kind, unix.FSOPEN_CLOEXEC)
	must(d.tb, err)
	defer func() { _ = unix.Close(fs) }()
	must(d.tb, unix.FsconfigSetString(fs, "source", d.Dev))
	for _, o := range options {
		key, value, ok := strings.Cut(o, "=")
		switch {
		case ok:
			must(d.tb, unix.FsconfigSetString(fs, key, value))
		case o != "":
			must(d.tb, unix.FsconfigSetFlag(fs, key))
		}
	}
	must(d.tb, unix.FsconfigCreate(fs))
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOATIME)
	must(d.tb, err)
	d.mnt = mnt
	d.tb.Cleanup(func() {
		if d.mnt == mnt {
			d.Unmount()
		}
	})
}

// Unmount has the filesystem write all that it has, and lets the disk go.
func (d *Disk) Unmount() {
	d.tb.Helper()
	must(d.tb, unix.Close(d.mnt))
	d.mnt = -1
}

// Dir returns a path to the mount that other processes can use, too.
func (d *Disk) Dir() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), d.mnt) }

// Sync has the filesystem write all that it has.
func (d *Disk) Sync() {
	d.tb.Helper()
	f, err := os.Open(d.Dir())
	must(d.tb, err)
	must(d.tb, errors.Join(unix.Syncfs(int(f.Fd())), f.Close()))
}

// Cut returns the disk as a power cut at this moment leaves it, mounted again.
func (d *Disk) Cut() *Disk {
	d.tb.Helper()
	after := &Disk{tb: d.tb, kind: d.kind, Image: filepath.Join(d.tb.TempDir(), "image")}
	Sh(d.tb, "cp", "--sparse=always", d.Image, after.Image)
	after.attach()
	after.Mount(map[string]string{"xfs": "nouuid"}[d.kind])
	return after
}

// goingDown is what ext4 and xfs are told by FS_IOC_SHUTDOWN (linux/fs.h: _IOR('X', 125, __u32)), here without the log: from then on all that is asked of the filesystem is an I/O error, as after the loss of its disk.
const (
	goingDown  = 0x8004587d
	withoutLog = 2
)

// Break has the filesystem answer with I/O errors from now on.
func (d *Disk) Break() {
	d.tb.Helper()
	f, err := os.Open(d.Dir())
	must(d.tb, err)
	must(d.tb, errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), goingDown, withoutLog), f.Close()))
}

// ReadOnly has the filesystem take no more writes, as ext4 does by itself after an error. Nothing may be open for writing.
func (d *Disk) ReadOnly() {
	d.tb.Helper()
	fs, err := unix.Fspick(d.mnt, "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
	must(d.tb, err)
	defer func() { _ = unix.Close(fs) }()
	must(d.tb, unix.FsconfigSetFlag(fs, "ro"))
	must(d.tb, unix.FsconfigReconfigure(fs))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
