package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// Mount is a filesystem that is mounted on a volume's mount directory.
type Mount struct {
	Dir     string         // the mount directory
	Source  string         // the device, as it was called when it was mounted
	FSType  string         //
	Options string         // of the mount and of the filesystem, separated by commas
	Disk    mooring.DiskID // whose device it is; empty if the guest sees no such disk any more
	device  number
	root    string // which directory of the filesystem is mounted: "/" for one of ours
}

// Mounted returns what is mounted on the mount directories of these volumes, or of all if none is named. Where mounts are stacked it is the topmost.
func (g *Guest) Mounted(names ...mooring.Name) (map[mooring.Name]Mount, error) {
	top := g.mountDir()
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		other := len(names) > 0 && !slices.Contains(names, mooring.Name(filepath.Base(i.Mountpoint)))
		return other || filepath.Dir(i.Mountpoint) != top, false
	})
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	mounts := make(map[mooring.Name]Mount, len(list))
	for _, i := range list {
		mounts[mooring.Name(filepath.Base(i.Mountpoint))] = newMount(i)
	}
	links := sync.OnceValues(g.links)
	for name, m := range mounts {
		if m.Disk, err = g.diskOf(m.device, links); err != nil {
			return nil, err
		}
		mounts[name] = m
	}
	return mounts, nil
}

func newMount(i *mountinfo.Info) Mount {
	m := Mount{Dir: i.Mountpoint, Source: i.Source, FSType: i.FSType, Options: i.Options + "," + i.VFSOptions, root: i.Root}
	m.device = number(unix.Mkdev(uint32(i.Major), uint32(i.Minor)))
	// Some filesystems (btrfs) show a number of their own; the source leads to the device.
	if i.Major == 0 {
		if n, err := blockDevice(i.Source); err == nil {
			m.device = n
		}
	}
	return m
}

// mountAt returns what is mounted on the directory; the error wraps [mooring.ErrNotFound] if nothing is.
func mountAt(dir string) (Mount, error) {
	list, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		return Mount{}, fmt.Errorf("list mounts: %w", err)
	}
	if len(list) == 0 {
		return Mount{}, fmt.Errorf("a mount on %s: %w", dir, mooring.ErrNotFound)
	}
	return newMount(list[len(list)-1]), nil
}

// ours reports whether m is the whole filesystem of the volume's disk. A disk that the guest no longer sees cannot be compared:
// its mount is ours unless the device has become another disk's.
func (g *Guest) ours(m Mount, vol mooring.Volume) (bool, error) {
	dev, err := g.find(vol.Disk)
	if errors.Is(err, mooring.ErrNotFound) {
		disk, err := g.diskOf(m.device, g.links)
		return disk == "" && m.root == "/", err
	}
	if err != nil {
		return false, err
	}
	n, err := blockDevice(dev)
	return n == m.device && m.root == "/", err
}

// mount mounts the device on the volume's directory, which it makes if need be.
func (g *Guest) mount(ctx context.Context, vol mooring.Volume, dev, dir, fstype string) error {
	if err := g.makeDirectory(dir); err != nil {
		return err
	}
	err := unix.Mount(dev, dir, fstype, 0, "")
	// XFS refuses a filesystem with the UUID of one that is mounted. Only a copy of another volume's disk can have that, adopted as
	// it lies: for every other volume a UUID was chosen, and two with one UUID are one too many.
	if errors.Is(err, unix.EINVAL) && fstype == string(mooring.XFS) && vol.FSUUID == "" {
		err = unix.Mount(dev, dir, fstype, 0, "nouuid")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("mount %s on %s: the device is taken%s: %w", dev, dir, g.deviceUsers(dev), mooring.ErrInUse)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount %s on %s: this kernel has no %s: %w", dev, dir, fstype, err)
	default:
		return g.diagnose(ctx, vol, dev, fstype, fmt.Errorf("mount %s on %s: %w", dev, dir, err))
	}
}

// diagnose says what is wrong with a filesystem that the kernel does not mount. It changes nothing.
func (g *Guest) diagnose(ctx context.Context, vol mooring.Volume, dev, fstype string, err error) error {
	repair := map[string]string{"ext2": "e2fsck -f", "ext3": "e2fsck -f", "ext4": "e2fsck -f", "xfs": "xfs_repair"}[fstype]
	if repair == "" {
		return err
	}
	if fstype == string(mooring.XFS) {
		r, rerr := g.run(ctx, command{name: "xfs_repair", args: []string{"-n", dev}})
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		if r.code == 0 {
			return err // the filesystem is clean: it is not what keeps it from being mounted
		}
	}
	return damaged(vol, dev, repair, err)
}

// unmount unmounts what is on dir, neither lazily nor by force. The error wraps [mooring.ErrInUse], naming who has files open there.
func (g *Guest) unmount(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: used by %s: %w", dir, strings.Join(g.users(dir), ", "), mooring.ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Close unmounts the volume; one that is not mounted is fine. The error wraps [mooring.ErrInUse] when files are open there, naming the
// processes, and when something is mounted there that is not the volume's disk. Nothing is unmounted then.
func (g *Guest) Close(vol mooring.Volume) error {
	dir, err := g.directory(vol.Name)
	if err != nil {
		return err
	}
	for {
		m, err := mountAt(dir)
		if errors.Is(err, mooring.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := g.refuseForeign(m, vol); err != nil {
			return err
		}
		if err := g.unmount(dir); err != nil {
			return err
		}
	}
}

func (g *Guest) refuseForeign(m Mount, vol mooring.Volume) error {
	ours, err := g.ours(m, vol)
	if err != nil {
		return err
	}
	if !ours {
		return fmt.Errorf("%s (%s) is mounted on %s, which is not disk %s: %w", m.Source, m.FSType, m.Dir, vol.Disk, mooring.ErrInUse)
	}
	return nil
}

// Forget removes the mount directory of a volume that is gone. One that is not there is fine; one that is mounted or not empty stays, with
// an error.
func (g *Guest) Forget(name mooring.Name) error {
	dir, err := g.directory(name)
	if err != nil {
		return err
	}
	switch _, err := mountAt(dir); {
	case err == nil:
		return fmt.Errorf("remove %s: it is mounted: %w", dir, mooring.ErrInUse)
	case !errors.Is(err, mooring.ErrNotFound):
		return err
	}
	if err := setImmutable(dir, false); err != nil && !os.IsNotExist(err) && !unsupported(err) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
