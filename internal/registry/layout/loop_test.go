package layout_test

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

// needRoot skips the test where it cannot run; in CI that is a failure.
func needRoot(tb testing.TB, tools ...string) {
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

func sh(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(tb.Context()), name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk is a loop device with a filesystem, which is mounted on no directory: what is done elsewhere on the machine neither sees the mount nor keeps it.
type disk struct {
	tb         testing.TB
	kind       string // of the filesystem
	image, dev string
	direct     bool // the image is read and written past the page cache
	mnt        int  // the mount's descriptor
}

// newDisk returns an empty filesystem whose disk is in memory. What it has written is in its image, and what is still in the filesystem's memory is not: so a copy of the image is the disk after a
// power cut. No commit comes by itself while a test runs.
func newDisk(tb testing.TB, kind, size string) *disk {
	tb.Helper()
	needRoot(tb, "losetup", "mkfs."+kind)
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
	must(tb, err)
	tb.Cleanup(func() { must(tb, unix.Close(fd)) })
	d := &disk{tb: tb, kind: kind, image: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)}
	sh(tb, "truncate", "--size", size, d.image)
	d.format()
	options := map[string]string{"ext4": "commit=10000"}[kind]
	d.mount(options)
	return d
}

// format makes the filesystem on the image and gives it a loop device.
func (d *disk) format() {
	d.tb.Helper()
	sh(d.tb, "mkfs."+d.kind, "-q", d.image)
	d.attach()
}

func (d *disk) attach() {
	d.tb.Helper()
	d.dev = sh(d.tb, "losetup", "--find", "--show", "--direct-io="+map[bool]string{true: "on", false: "off"}[d.direct], d.image)
	dev := d.dev
	d.tb.Cleanup(func() { sh(d.tb, "losetup", "--detach", dev) })
}

// mount mounts the filesystem with options such as "ro" and "key=value".
func (d *disk) mount(options ...string) {
	d.tb.Helper()
	fs, err := unix.Fsopen(d.kind, unix.FSOPEN_CLOEXEC)
	must(d.tb, err)
	defer func() { _ = unix.Close(fs) }()
	must(d.tb, unix.FsconfigSetString(fs, "source", d.dev))
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
			d.unmount()
		}
	})
}

func (d *disk) unmount() {
	d.tb.Helper()
	must(d.tb, unix.Close(d.mnt))
	d.mnt = -1
}

// dir returns a path to the mount that other processes can use, too.
func (d *disk) dir() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), d.mnt) }

func (d *disk) sync() {
	d.tb.Helper()
	f, err := os.Open(d.dir())
	must(d.tb, err)
	must(d.tb, errors.Join(unix.Syncfs(int(f.Fd())), f.Close()))
}

// cut returns the disk as a power cut at this moment leaves it, mounted again.
func (d *disk) cut() *disk {
	d.tb.Helper()
	after := &disk{tb: d.tb, kind: d.kind, image: filepath.Join(d.tb.TempDir(), "image")}
	sh(d.tb, "cp", "--sparse=always", d.image, after.image)
	after.attach()
	after.mount(map[string]string{"xfs": "nouuid"}[d.kind])
	return after
}
