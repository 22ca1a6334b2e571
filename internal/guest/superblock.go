package guest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

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
