package guest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
)

// superblock is where a type of filesystem keeps what tells it, in bytes from the beginning of the device.
type superblock struct {
	magic   string
	magicAt int64
	uuidAt  int64
}

// superblockOf returns that of the types that we make: s_magic and s_uuid of ext4's superblock at byte 1024
// (https://docs.kernel.org/filesystems/ext4/super.html), sb_magicnum and sb_uuid of XFS's (xfs_db(8), "sb").
func superblockOf(fstype string) (superblock, bool) {
	switch fstype {
	case string(mooring.Ext4):
		return superblock{magic: "\x53\xef", magicAt: 1024 + 0x38, uuidAt: 1024 + 0x68}, true
	case string(mooring.XFS):
		return superblock{magic: "XFSB", magicAt: 0, uuidAt: 32}, true
	default:
		return superblock{}, false
	}
}

// hasUUID reports whether there is a filesystem of that type with that UUID on the device. It starts no process, as [Guest.Probe] does, but false may mean anything.
func hasUUID(dev, fstype string, want mooring.FSUUID) (bool, error) {
	sb, ok := superblockOf(fstype)
	if !ok {
		return false, nil
	}
	f, err := os.Open(dev)
	if err != nil {
		return false, fmt.Errorf("read the superblock: %w", err)
	}
	defer func() { _ = f.Close() }()
	magic, uuid := make([]byte, len(sb.magic)), make([]byte, 16)
	if _, err := f.ReadAt(magic, sb.magicAt); err != nil {
		return false, fmt.Errorf("read the superblock: %w", err)
	}
	if _, err := f.ReadAt(uuid, sb.uuidAt); err != nil {
		return false, fmt.Errorf("read the superblock: %w", err)
	}
	wanted, err := hex.DecodeString(strings.ReplaceAll(string(want), "-", ""))
	if err != nil {
		return false, fmt.Errorf("filesystem UUID %q: %w", want, err)
	}
	return string(magic) == sb.magic && bytes.Equal(uuid, wanted), nil
}

// identify says of the device that it has the filesystem with that UUID, by its superblock, or nothing.
func identify(dev string, want mooring.FSUUID) Content {
	for _, t := range mooring.FSTypes() {
		if same, err := hasUUID(dev, string(t), want); err == nil && same {
			return Content{Kind: Filesystem, Type: string(t), UUID: want}
		}
	}
	return Content{}
}

// extState is what an ext2, ext3 or ext4 superblock says of how the filesystem is, in the order of its fields from s_mnt_count on
// (https://docs.kernel.org/filesystems/ext4/super.html).
type extState struct {
	Mounts        uint16 // s_mnt_count, at byte 0x34 of the superblock
	MaxMounts     int16
	Magic, State  uint16
	_, _          uint16
	LastCheck     uint32 // seconds since 1970
	CheckInterval uint32 // seconds
}

const (
	extValid  = 1 // of s_state: it was unmounted cleanly, or has a journal
	extErrors = 2 // the kernel has seen errors in it
)

func extStateOf(dev string) (s extState, err error) {
	f, err := os.Open(dev)
	if err != nil {
		return s, fmt.Errorf("read the superblock: %w", err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, binary.Size(s))
	if _, err := f.ReadAt(b, 1024+0x34); err != nil {
		return s, fmt.Errorf("read the superblock: %w", err)
	}
	_, err = binary.Decode(b, binary.LittleEndian, &s)
	return s, err
}

// asksForCheck reports whether the filesystem is to be checked before it is mounted, as e2fsck -p decides (check_if_skip in e2fsck/unix.c).
func asksForCheck(dev string, now time.Time) (bool, error) {
	s, err := extStateOf(dev)
	if err != nil {
		return false, err
	}
	return s.State&extValid == 0 || s.State&extErrors != 0 ||
		s.MaxMounts > 0 && int(s.Mounts) >= int(s.MaxMounts) ||
		s.CheckInterval > 0 && now.Unix() >= int64(s.LastCheck)+int64(s.CheckInterval), nil
}

// hasErrors reports whether the kernel has seen errors in the filesystem.
func hasErrors(dev string) (bool, error) {
	s, err := extStateOf(dev)
	return s.State&extErrors != 0, err
}
