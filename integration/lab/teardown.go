package lab

import (
	"errors"
	"fmt"
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
	return errors.Join(errs...)
}
