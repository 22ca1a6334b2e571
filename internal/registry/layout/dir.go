package layout

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is an open directory. Everything below a storage's root is reached relative to one, so that no symbolic link is followed and no long path is walked twice.
type dir struct {
	fd int
}

const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// openDir opens the directory at a path of the user's, which may contain symbolic links.
func openDir(path string) (dir, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Open(path, openDirFlags, 0)
		return err
	})
	if err != nil {
		return dir{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return dir{fd: fd}, nil
}

// sub opens a directory below this one.
func (d dir) sub(path string) (dir, error) {
	fd, err := d.open(path, openDirFlags, 0)
	return dir{fd: fd}, err
}

func (d dir) close() { _ = unix.Close(d.fd) }

// open opens a path below the directory; a symbolic link anywhere in it is ELOOP, or ENOTDIR where a directory is wanted. A FIFO does not block it.
func (d dir) open(path string, flags int, mode uint32) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK
	}
	how := unix.OpenHow{Flags: uint64(flags), Mode: uint64(mode), Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat2(d.fd, path, &how)
		return err
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6; or a seccomp filter that does not know the call
		return d.openStepwise(path, flags, mode)
	}
	return fd, err
}

// openStepwise is open without openat2(2): one directory after the other.
func (d dir) openStepwise(path string, flags int, mode uint32) (int, error) {
	at := d.fd
	for {
		name, rest, more := strings.Cut(path, "/")
		f, m := openDirFlags|unix.O_NOFOLLOW, uint32(0)
		if !more {
			f, m = flags, mode
		}
		var fd int
		err := again(func() (err error) {
			fd, err = unix.Openat(at, name, f, m)
			return err
		})
		if at != d.fd {
			_ = unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, path = fd, rest
	}
}

// stat asks for what a path is, of which only the last name may not be known to be a directory: it is not followed if it is a symbolic link.
func (d dir) stat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(d.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// statAny asks for what any path below the directory is; a symbolic link in it is an error.
func (d dir) statAny(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := d.open(path, unix.O_PATH, 0)
	if err != nil {
		return st, err
	}
	defer func() { _ = unix.Close(fd) }()
	err = again(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }
func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// entry is one name in a directory.
type entry struct {
	name  string
	inode uint64
	kind  uint8 // unix.DT_DIR and so on; never DT_UNKNOWN
}

// list returns the directory's entries but "." and "..". With an error it returns those that were read before it.
func (d dir) list(buf []byte) ([]entry, error) {
	var all []entry
	for {
		var n int
		err := again(func() (err error) {
			n, err = unix.Getdents(d.fd, buf)
			return err
		})
		if err != nil {
			return all, err
		}
		if n == 0 {
			return all, nil
		}
		all = appendEntries(all, buf[:n])
		for i := range all {
			if all[i].kind == unix.DT_UNKNOWN { // a filesystem that keeps no types in its directories
				all[i].kind = d.kind(all[i].name)
			}
		}
	}
}

// kind asks for an entry's type. What cannot be asked is taken for a file, and so reported by who wanted a directory.
func (d dir) kind(name string) uint8 {
	st, err := d.stat(name)
	if err == nil && isDir(&st) {
		return unix.DT_DIR
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.DT_LNK
	}
	return unix.DT_REG
}

// Offsets in struct linux_dirent64, getdents64(2).
const (
	direntRecord = 16
	direntType   = 18
	direntName   = 19
)

// appendEntries parses what getdents64(2) returned.
func appendEntries(all []entry, buf []byte) []entry {
	for len(buf) > direntName {
		n := int(binary.NativeEndian.Uint16(buf[direntRecord:]))
		if n <= direntName || n > len(buf) {
			return all
		}
		name, _, _ := strings.Cut(string(buf[direntName:n]), "\x00")
		if name != "." && name != ".." {
			all = append(all, entry{name: name, inode: binary.NativeEndian.Uint64(buf), kind: buf[direntType]})
		}
		buf = buf[n:]
	}
	return all
}

// isShortage reports whether the error says something about this process or machine and nothing about the storage.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// again makes a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
