// Package guest is everything that happens on this machine's block devices and mounts: a device is found by its disk's UUID, formatted
// once, checked, mounted on a directory of its volume, unmounted, and held while its disk is detached.
//
// It promises that data is never destroyed to make progress: mkfs runs only on a disk on which nothing was found and of which
// the sidecar says that nobody ever had its filesystem (see decide); nothing is mounted over, unmounted lazily or by force, or repaired
// beyond what a preening check does by itself; and what is handed out is the filesystem that the volume's record names. The kernel is
// asked each time; nothing about a mount is remembered.
//
// It never talks to vSphere or Docker and keeps no record: who may have a volume is its callers' to say. Calls for different volumes may run
// concurrently; those for one volume are serialised by the caller, who holds the volume's name.
//
// It needs these commands, looked for in PATH and in the sbin directories:
//
//	e2fsprogs   mkfs.ext4, e2fsck
//	xfsprogs    mkfs.xfs, xfs_repair (only for volumes with XFS)
//	util-linux  blkid
//
// and, from the kernel, 5.2 or newer: the mount API with file descriptors (fsopen), ext4 and xfs. It must run as root in the mount
// namespace of dockerd, or its mounts reach no container.
package guest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mooring-sh/mooring"
)

// Config says where things are. Only MountDir has no default.
type Config struct {
	MountDir string // the directory in which each volume has its mount directory
	ByID     string // the directory with the wwn-0x links; /dev/disk/by-id if empty
	Sys      string // where sysfs is mounted; /sys if empty
	Proc     string // where procfs is mounted; /proc if empty

	UdevQueue string // the file that udev keeps while it has something to do; /run/udev/queue if empty

	Log *slog.Logger // each command at Debug; nothing if nil
}

// Guest is this machine. It has no state of its own.
type Guest struct{ cfg Config }

// New returns the guest that cfg describes. It does no I/O.
func New(cfg Config) *Guest {
	for _, d := range [...]struct {
		dir *string
		def string
	}{{&cfg.ByID, "/dev/disk/by-id"}, {&cfg.Sys, "/sys"}, {&cfg.Proc, "/proc"}, {&cfg.UdevQueue, "/run/udev/queue"}} {
		if *d.dir == "" {
			*d.dir = d.def
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Guest{cfg: cfg}
}

// BootID returns the identity of this run of the kernel.
func (g *Guest) BootID() (mooring.BootID, error) {
	b, err := os.ReadFile(filepath.Join(g.cfg.Proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	return mooring.BootID(strings.TrimSpace(string(b))), nil
}

// BIOSUUID returns the machine's UUID as its firmware tells the guest, in lower case. Old virtual hardware has its first three fields in the
// other byte order than vCenter has: both must be tried. The error wraps [mooring.ErrNotFound] where there is no such firmware.
func (g *Guest) BIOSUUID() (string, error) {
	b, err := os.ReadFile(filepath.Join(g.cfg.Sys, "class/dmi/id/product_uuid"))
	if os.IsNotExist(err) {
		return "", fmt.Errorf("read the BIOS UUID: this machine's firmware has none: %w", mooring.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read the BIOS UUID: %w", err)
	}
	return strings.ToLower(strings.TrimSpace(string(b))), nil
}

// directory returns the mount directory of the volume. The name has been parsed before; it is parsed again because a path is made of it.
func (g *Guest) directory(name mooring.Name) (string, error) {
	if _, err := mooring.ParseName(string(name)); err != nil {
		return "", err
	}
	return filepath.Join(g.mountDir(), string(name)), nil
}

// mountDir returns the directory of all mounts as the kernel will name it.
func (g *Guest) mountDir() string {
	if dir, err := filepath.EvalSymlinks(g.cfg.MountDir); err == nil {
		return dir
	}
	return filepath.Clean(g.cfg.MountDir)
}
