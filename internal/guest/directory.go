package guest

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// immutable is FS_IMMUTABLE_FL of the inode flags (ioctl_iflags(2)).
const immutable = 0x10

// makeDirectory makes the mount directory dir, and nobody can write into it while nothing is mounted there: a container that
// started without its volume would fill the machine's own disk, and a database would begin anew.
func (g *Guest) makeDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := setImmutable(dir, true); err != nil {
		if !unsupported(err) {
			return err
		}
		g.cfg.Log.Debug("mount directory stays writable", "mountpoint", dir, "err", err)
	}
	return nil
}

func setImmutable(dir string, on bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return &os.PathError{Op: "get flags of", Path: dir, Err: err}
	}
	want := flags &^ immutable
	if on {
		want |= immutable
	}
	if want == flags {
		return nil
	}
	if err := unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, int(want)); err != nil {
		return &os.PathError{Op: "set flags of", Path: dir, Err: err}
	}
	return nil
}

// unsupported reports whether the filesystem knows no immutable directories.
func unsupported(err error) bool {
	return errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}
