package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// immutable is FS_IMMUTABLE_FL of the inode flags (ioctl_iflags(2)).
const immutable = 0x10

// mountpoints returns the directories of this mount namespace on which something is mounted.
func mountpoints() (map[string]bool, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	dirs := make(map[string]bool, len(all))
	for _, m := range all {
		dirs[m.Mountpoint] = true
	}
	return dirs, nil
}

// mountOn returns the kernel's ID of what is mounted on the directory; 0: nothing.
func mountOn(dir string) int {
	found, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(found) == 0 {
		return 0
	}
	return found[0].ID
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// guard makes the directory, on which something must be mounted and nothing is, so that nobody can write into it: Docker would make what a container
// binds there, and a database would begin anew on the machine's own disk. What is mounted is never touched, and the flag is never taken away: mounting on such
// a directory works. A filesystem that knows no such flag is no error.
func guard(dir string, mounted map[string]bool) error {
	if mounted[filepath.Clean(dir)] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open mount point: %w", err)
	}
	defer d.Close() //nolint:errcheck // only read
	// Something may have been mounted since: what was opened must lie on the filesystem of the directory above.
	if same, err := sameDevice(d, filepath.Dir(filepath.Clean(dir))); err != nil || !same {
		return err
	}
	flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&immutable == 0 {
		err = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, int(flags|immutable))
	}
	if err != nil && !unsupported(err) {
		return fmt.Errorf("make mount point %s immutable: %w", dir, err)
	}
	return nil
}

func sameDevice(d *os.File, parent string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &here); err != nil {
		return false, fmt.Errorf("stat mount point %s: %w", d.Name(), err)
	}
	if err := unix.Stat(parent, &above); err != nil {
		return false, fmt.Errorf("stat %s: %w", parent, err)
	}
	return here.Dev == above.Dev, nil
}

// unsupported reports whether the filesystem knows no immutable directories.
func unsupported(err error) bool {
	return errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}
