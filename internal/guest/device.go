package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	disks, err := g.numbers()
	if err != nil {
		return nil, err
	}
	ids := make([]mooring.DiskID, 0, len(disks))
	for _, id := range disks {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Settled reports whether udev has nothing left to do (udev's mark of a queue that is not empty, as udevadm settle reads it). Without a udev it never has.
func (g *Guest) Settled() bool {
	_, err := os.Lstat(g.cfg.UdevQueue)
	return errors.Is(err, fs.ErrNotExist)
}

// numbers returns the disks that the guest sees by their devices' numbers. A link counts where the device itself does not tell whose it is: it may be left over from the disk that had the device's name before.
func (g *Guest) numbers() (map[number]mooring.DiskID, error) {
	told, err := g.told()
	if err != nil {
		return nil, err
	}
	links, err := os.ReadDir(g.cfg.ByID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	disks := make(map[number]mooring.DiskID)
	for name, id := range told {
		if n, err := blockDevice(filepath.Join("/dev", name)); err == nil {
			disks[n] = id
		}
	}
	for _, link := range links {
		digits, ok := strings.CutPrefix(link.Name(), "wwn-0x")
		if !ok {
			continue
		}
		id, err := mooring.ParseDiskID(digits)
		if err != nil || id.WWN() != link.Name() {
			continue // a partition, or not one of vSphere's
		}
		n, err := blockDevice(filepath.Join(g.cfg.ByID, link.Name()))
		if err != nil {
			continue // it leads nowhere: of a disk that is just going
		}
		if _, known := disks[n]; !known {
			disks[n] = id
		}
	}
	return disks, nil
}

// told returns the disks whose UUID the kernel itself tells, by their names in /dev.
func (g *Guest) told() (map[string]mooring.DiskID, error) {
	list, err := os.ReadDir(filepath.Join(g.cfg.Sys, "block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	disks := make(map[string]mooring.DiskID)
	for _, entry := range list {
		if id, ok := identity(filepath.Join(g.cfg.Sys, "block", entry.Name())); ok {
			disks[entry.Name()] = id
		}
	}
	return disks, nil
}

// identity returns the UUID that the disk with that directory in sysfs tells of itself: a virtual disk of vSphere's by its NAA identifier, one of the lab's by its serial number (SPC-5, "Unit Serial
// Number VPD page": four bytes, then the number).
func identity(dir string) (mooring.DiskID, bool) {
	digits := ""
	if text, err := os.ReadFile(filepath.Join(dir, "device/wwid")); err == nil {
		digits, _ = strings.CutPrefix(strings.TrimSpace(string(text)), "naa.")
	}
	if id, err := mooring.ParseDiskID(digits); err == nil {
		return id, true
	}
	page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(page) < 4 {
		return "", false // a loop device, or a kernel that does not tell
	}
	id, err := mooring.ParseDiskID(strings.TrimRight(string(page[4:]), "\x00 "))
	return id, err == nil
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
	told, toldErr := g.told()
	for name, is := range told {
		dev := filepath.Join("/dev", name)
		if is != id {
			continue
		}
		if _, err := blockDevice(dev); err == nil {
			return dev, nil
		}
	}
	return "", errors.Join(err, toldErr)
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
	if told, ok := identity(filepath.Join(g.cfg.Sys, "dev/block", n.String())); ok && told != id {
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
