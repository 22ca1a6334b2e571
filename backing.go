package mooring

import (
	"fmt"
	"path"
	"strings"
)

// Backing says where a disk lives: "[datastore] path/x.vmdk". The path may change (Storage vMotion); a disk's identity is its [DiskID].
type Backing string

// NewBacking returns the backing of the file at path on the datastore.
func NewBacking(datastore, file string) Backing {
	return Backing("[" + datastore + "] " + file)
}

// Datastore returns the name between the brackets, or "" if there is none.
func (b Backing) Datastore() string {
	ds, _, ok := strings.Cut(strings.TrimPrefix(string(b), "["), "] ")
	if !ok {
		return ""
	}
	return ds
}

// File returns the path on the datastore, or "" if there is none.
func (b Backing) File() string {
	_, file, _ := strings.Cut(string(b), "] ")
	return file
}

// Folder returns the directory that holds the file, as a backing.
func (b Backing) Folder() Backing { return NewBacking(b.Datastore(), path.Dir(b.File())) }

// DiskID is the UUID of a virtual disk, its identity, in lower case with dashes (8-4-4-4-12).
type DiskID string

// ParseDiskID returns the identity that s spells: any case, with dashes, without, or as a VMDK's descriptor spells it
// ("60 00 C2 9d 4c 2b 17 8d-8e 1a ..."). The error wraps [ErrInvalid].
func ParseDiskID(s string) (DiskID, error) {
	hex := strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(s), "-", ""), " ", "")
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("disk UUID %q: want 32 hexadecimal digits: %w", s, ErrInvalid)
	}
	return DiskID(hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]), nil
}

// WWN returns the name of the link under /dev/disk/by-id that a guest with disk.EnableUUID has for the disk: "wwn-0x" and 32 digits.
func (d DiskID) WWN() string { return "wwn-0x" + strings.ReplaceAll(string(d), "-", "") }
