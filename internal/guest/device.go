package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

const (
	// pollEvery is how often a link is looked for: the directory may not exist yet, so there is nothing to watch.
	pollEvery = 100 * time.Millisecond
	// rescanAfter is when a disk that the kernel did not announce is asked for. A hot-added disk is seen within a second.
	rescanAfter = 3 * time.Second
)

// number is a device's major and minor number, as stat has it.
type number uint64

func (n number) String() string {
	return fmt.Sprintf("%d:%d", unix.Major(uint64(n)), unix.Minor(uint64(n)))
}

// blockDevice returns the number of the block device at path.
func blockDevice(path string) (number, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is not a block device: %w", path, mooring.ErrCorrupt)
	}
	return number(st.Rdev), nil
}

// Present returns the disks that the guest sees, sorted: those whose UUID the kernel tells, and those that have a link wwn-0x and 32 digits to a block device. Nothing waits for udev, which at a boot
// makes its links late.
func (g *Guest) Present() ([]mooring.DiskID, error) {
	disks, err := g.links()
	if err != nil {
		return nil, err
	}
	err = g.eachTold(func(dev string, id mooring.DiskID) (stop bool) {
		if n, err := blockDevice(dev); err == nil {
			disks[n] = id // whatever the link says: it may be left over from the disk that had the device's name before
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return slices.Compact(slices.Sorted(maps.Values(disks))), nil
}

// Sees reports whether the guest sees the disk. What cannot be found out counts as not seen.
func (g *Guest) Sees(id mooring.DiskID) bool {
	_, err := g.find(id)
	return err == nil
}

// Settled reports whether udev has nothing left to do (udev's mark of a queue that is not empty, as udevadm settle reads it). Without a udev it never has.
func (g *Guest) Settled() bool {
	_, err := os.Lstat(g.cfg.UdevQueue)
	return errors.Is(err, fs.ErrNotExist)
}

// links returns the disks that udev's links name, by the numbers of the devices that they lead to.
func (g *Guest) links() (map[number]mooring.DiskID, error) {
	links, err := os.ReadDir(g.cfg.ByID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	disks := make(map[number]mooring.DiskID)
	for _, link := range links {
		digits, ok := strings.CutPrefix(link.Name(), "wwn-0x")
		if !ok {
			continue
		}
		id, err := mooring.ParseDiskID(digits)
		if err != nil || id.WWN() != link.Name() {
			continue // a partition, or not one of vSphere's
		}
		if n, err := blockDevice(filepath.Join(g.cfg.ByID, link.Name())); err == nil { // else it leads nowhere: of a disk that is just going
			disks[n] = id
		}
	}
	return disks, nil
}

// eachTold calls visit with the device nodes of the disks whose UUID the kernel itself tells, until it says stop.
func (g *Guest) eachTold(visit func(dev string, id mooring.DiskID) (stop bool)) error {
	list, err := os.ReadDir(filepath.Join(g.cfg.Sys, "block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list disks: %w", err)
	}
	for _, entry := range list {
		id, ok := identity(filepath.Join(g.cfg.Sys, "block", entry.Name()))
		if ok && visit(filepath.Join("/dev", entry.Name()), id) {
			return nil
		}
	}
	return nil
}

// diskOf returns whose device that is: what the device itself tells, or else what one of the links says, which are not read before; empty if neither does.
func (g *Guest) diskOf(n number, links func() (map[number]mooring.DiskID, error)) (mooring.DiskID, error) {
	if id, ok := g.tells(n); ok {
		return id, nil
	}
	disks, err := links()
	return disks[n], err
}

// tells returns the UUID that the device with that number tells of itself.
func (g *Guest) tells(n number) (mooring.DiskID, bool) {
	return identity(filepath.Join(g.cfg.Sys, "dev/block", n.String()))
}

// identity returns the UUID that the disk with that directory in sysfs tells of itself: a virtual disk of vSphere's by its NAA identifier, one of the lab's by its serial number (SPC-5, "Unit Serial
// Number VPD page": four bytes, then the number).
func identity(dir string) (mooring.DiskID, bool) {
	if digits, ok := strings.CutPrefix(strings.TrimSpace(string(attribute(dir, "device/wwid"))), "naa."); ok {
		if id, err := mooring.ParseDiskID(digits); err == nil {
			return id, true
		}
	}
	page := attribute(dir, "device/vpd_pg80")
	if len(page) < 4 {
		return "", false // a loop device, or a kernel that does not tell
	}
	id, err := mooring.ParseDiskID(strings.TrimRight(string(page[4:]), "\x00 "))
	return id, err == nil
}

// attribute returns the content of a file in sysfs, which one read gives whole, and nothing if it cannot be read. Many are read at every start, and [os.ReadFile] takes three times as many system calls.
func attribute(dir, name string) []byte {
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	page := make([]byte, os.Getpagesize())
	n, err := unix.Read(fd, page)
	if err != nil {
		return nil
	}
	return page[:n]
}

// Device waits until the guest sees the disk and returns its device node, as /dev/sdb. After three seconds the SCSI hosts are scanned, once. The error
// wraps [mooring.ErrUnavailable] when ctx ended first, and [mooring.ErrCorrupt] when the link leads to a device of another identity.
func (g *Guest) Device(ctx context.Context, id mooring.DiskID) (string, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	rescan := time.NewTimer(rescanAfter)
	defer rescan.Stop()
	for {
		dev, err := g.find(id)
		if err == nil {
			return dev, nil
		}
		select {
		case <-tick.C:
		case <-rescan.C:
			g.rescan()
		case <-ctx.Done():
			if errors.Is(err, mooring.ErrNotFound) {
				return "", fmt.Errorf("wait for disk %s: no link %s appeared (disk.EnableUUID must be TRUE for the virtual machine): %w: %w",
					id, filepath.Join(g.cfg.ByID, id.WWN()), mooring.ErrUnavailable, context.Cause(ctx))
			}
			return "", fmt.Errorf("wait for disk %s: %w", id, err)
		}
	}
}

// find returns the device node of the disk. The error wraps [mooring.ErrNotFound] if the guest does not see it.
func (g *Guest) find(id mooring.DiskID) (string, error) {
	dev, err := g.linked(id)
	if err == nil {
		return dev, nil
	}
	found := ""
	listErr := g.eachTold(func(dev string, is mooring.DiskID) (stop bool) {
		if _, err := blockDevice(dev); is == id && err == nil {
			found = dev
		}
		return found != ""
	})
	if found != "" {
		return found, nil
	}
	return "", errors.Join(err, listErr)
}

// linked returns the device node to which the disk's link leads.
func (g *Guest) linked(id mooring.DiskID) (string, error) {
	link := filepath.Join(g.cfg.ByID, id.WWN())
	dev, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("disk %s in the guest: %w", id, mooring.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("find disk %s: %w", id, err)
	}
	n, err := blockDevice(dev)
	if err != nil {
		return "", fmt.Errorf("find disk %s: %w", id, err)
	}
	if err := g.sameIdentity(dev, n, id); err != nil {
		return "", err
	}
	return dev, nil
}

// sameIdentity compares the disk's UUID with the one that the device itself tells, where it tells one: a link may be left over from the
// disk that had the device's name before.
func (g *Guest) sameIdentity(dev string, n number, id mooring.DiskID) error {
	if told, ok := g.tells(n); ok && told != id {
		return fmt.Errorf("find disk %s: its link leads to %s, which is disk %s: %w", id, dev, told, mooring.ErrCorrupt)
	}
	return nil
}

// rescan asks every SCSI host to look for disks. What fails is left to the caller's deadline: the disk may come all the same.
func (g *Guest) rescan() {
	hosts, err := filepath.Glob(filepath.Join(g.cfg.Sys, "class/scsi_host/*/scan"))
	if err != nil {
		g.cfg.Log.Debug("rescan", "err", err)
	}
	for _, host := range hosts {
		f, err := os.OpenFile(host, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("- - -")
			err = errors.Join(err, f.Close())
		}
		g.cfg.Log.Debug("rescan", "host", host, "err", err)
	}
}
