package guest

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// peek looks for the mark inside the filesystem on the device. It mounts it read-only, without replaying its journal, and on no
// directory: the mount exists only as a file descriptor, so that a plugin that is killed here leaves none behind. A filesystem
// that the kernel finds broken has no mark: an mkfs that was killed leaves such a one.
func peek(dev, fstype string) (lookup, error) {
	mnt, err := detachedMount(dev, fstype)
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return notLooked, fmt.Errorf("look into the filesystem on %s: %w", dev, err)
	case err != nil:
		return markAbsent, nil
	}
	defer func() { _ = mnt.Close() }()
	var st unix.Stat_t
	// The root directory of a broken filesystem may be as broken as the rest: any error means that there is no mark.
	if unix.Fstatat(int(mnt.Fd()), mooring.MarkFile, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return markAbsent, nil
	}
	return markFound, nil
}

// detachedMount mounts the filesystem read-only on no directory. It is gone when the file is closed.
func detachedMount(dev, fstype string) (*os.File, error) {
	fs, err := systemFile(unix.SYS_FSOPEN, cString(fstype), unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = fs.Close() }()
	for _, c := range [...]struct {
		cmd        uintptr
		key, value string
	}{
		{unix.FSCONFIG_SET_STRING, "source", dev},
		{unix.FSCONFIG_SET_FLAG, "ro", ""},
		{unix.FSCONFIG_SET_FLAG, "norecovery", ""},
		{unix.FSCONFIG_CMD_CREATE, "", ""},
	} {
		if err := configure(fs, c.cmd, c.key, c.value); err != nil {
			return nil, err
		}
	}
	fd, _, errno := unix.Syscall(unix.SYS_FSMOUNT, fs.Fd(), unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, dev), nil
}

// configure is fsconfig(2): an empty key or value is a null pointer.
func configure(fs *os.File, cmd uintptr, key, value string) error {
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, fs.Fd(), cmd,
		uintptr(unsafe.Pointer(cString(key))), uintptr(unsafe.Pointer(cString(value))), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// systemFile makes a system call that takes a string and flags and returns a file descriptor.
func systemFile(call uintptr, name *byte, flags uintptr) (*os.File, error) {
	fd, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(name)), flags, 0)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, ""), nil
}

// cString returns s as the kernel reads it; nil for the empty string, and for one with a zero in it, which no caller has.
func cString(s string) *byte {
	if s == "" {
		return nil
	}
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		return nil
	}
	return p
}
