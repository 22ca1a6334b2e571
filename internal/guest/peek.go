package guest

import (
	"errors"
	"fmt"
	"os"

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
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigSetString(fs, "source", dev); err != nil {
		return nil, err
	}
	for _, flag := range [...]string{"ro", "norecovery"} {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return nil, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dev), nil
}
