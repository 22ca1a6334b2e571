package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
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

// Writable returns the mount directories on which nothing is mounted and into which everybody may write, sorted: what a container put there would lie on the
// machine's own disk. Where the filesystem knows no immutable directories, all of them are.
func (g *Guest) Writable() ([]string, error) {
	top := g.mountDir()
	entries, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list mount directories: %w", err)
	}
	mounted, err := g.Mounted()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(top, e.Name())
		if _, busy := mounted[mooring.Name(e.Name())]; busy || !e.IsDir() {
			continue
		}
		flags, err := inodeFlags(dir)
		if err != nil && !unsupported(err) {
			return nil, err
		}
		if flags&immutable == 0 {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

func inodeFlags(dir string) (uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.Close() }()
	flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0, &os.PathError{Op: "get flags of", Path: dir, Err: err}
	}
	return flags, nil
}
