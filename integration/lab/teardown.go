package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// UnmountVolumes unmounts what is mounted below the plugin's mount directory, the innermost first. It never unmounts lazily: what is
// busy stays, and the error names it.
func (l *Lab) UnmountVolumes() error {
	below := l.MountDir() + "/"
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint+"/", below), false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	slices.Reverse(mounts) // later mounts lie on earlier ones
	var errs []error
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s, which something still uses: %w", m.Mountpoint, err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, l.removeMountpoints())
	}
	return errors.Join(errs...)
}

// removeMountpoints removes the empty directories that volumes were mounted on. The plugin makes them immutable, so that nobody writes into
// one while nothing is mounted there.
func (l *Lab) removeMountpoints() error {
	entries, err := os.ReadDir(l.MountDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list mountpoints: %w", err)
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(l.MountDir(), e.Name())
		if err := errors.Join(clearImmutable(dir), os.Remove(dir)); err != nil {
			errs = append(errs, fmt.Errorf("remove mountpoint: %w", err))
		}
	}
	return errors.Join(errs...)
}

// immutable is FS_IMMUTABLE_FL of the inode flags (ioctl_iflags(2)).
const immutable = 0x10

// clearImmutable takes the attribute away, where the filesystem has it.
func clearImmutable(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil // a filesystem without attributes has none to clear
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable); err != nil {
		return fmt.Errorf("clear immutable: %w", err)
	}
	return nil
}
