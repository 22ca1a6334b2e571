// Package mooring holds the nouns that every room of the house speaks of: volumes, the disks behind them, where those
// disks lie, and the errors that say what went wrong with them. The glossary in docs/ARCHITECTURE.md is binding.
//
// It uses the standard library only, does no I/O, and imports no other package of the project.
package mooring

import "time"

// DriverName is the name under which Docker knows the volume driver (docker volume create --driver=vmdk).
const DriverName = "vmdk"

// DataDir is the directory inside a formatted volume that Docker gets. It keeps lost+found and the mark away from
// copy-up and from databases that want an empty directory.
const DataDir = "data"

// MarkFile is the file, in the root of a volume's filesystem, that says that Mooring formatted it. It holds the format version.
const MarkFile = ".mooring"

// PolicyName is what the administrator calls a storage policy ("SW=2").
type PolicyName string

// ProfileID identifies a storage policy's SPBM object in vCenter (PbmProfileId.uniqueId).
type ProfileID string

// FSType names a filesystem that Mooring can make.
type FSType string

// The filesystems that Mooring can make.
const (
	Ext4 FSType = "ext4"
	XFS  FSType = "xfs"
)

// FSTypes lists the filesystems that Mooring can make, the default first.
func FSTypes() []FSType { return []FSType{Ext4, XFS} }

// FSUUID is the UUID chosen for a volume's filesystem before it is made, in lower case with dashes.
type FSUUID string

// MountID is the ID that dockerd gives with each Mount and Unmount.
type MountID string

// BootID identifies one run of the guest's kernel (/proc/sys/kernel/random/boot_id).
type BootID string

// Spec says what a volume is to be.
type Spec struct {
	Name   Name       `json:"name"`
	Size   Size       `json:"size"`
	FSType FSType     `json:"fstype"`
	Policy PolicyName `json:"policy,omitempty"`
}

// Given says which options of a Spec the user gave; the others are defaults, with which an existing volume need not agree.
type Given struct {
	Size, FSType, Policy bool
}

// Format says how far the formatting of a volume has come. It is written down beside the disk before each step.
type Format string

// The steps of formatting.
const (
	// FormatUnknown: the sidecar is missing, cannot be read, or names another disk. Such a volume works and is never formatted.
	FormatUnknown Format = ""
	// FormatNone: the disk was made by Mooring and never formatted.
	FormatNone Format = "none"
	// Formatting: mkfs may have begun; nobody has had the volume's filesystem yet.
	Formatting Format = "formatting"
	// FormatDone: the mark was written and synced. The volume is never formatted again.
	FormatDone Format = "done"
)

// Volume is what Docker and the user see, with the disk behind it. It is what the sidecar and the ledger record; it never
// holds the status of an attachment or of a mount.
type Volume struct {
	Spec

	Backing   Backing           `json:"backing"`
	Disk      DiskID            `json:"disk"`
	Profile   ProfileID         `json:"profile,omitempty"` // last applied
	FSUUID    FSUUID            `json:"fsuuid,omitempty"`  // chosen for it; empty if adopted without a sidecar
	Format    Format            `json:"format"`
	Created   time.Time         `json:"created,omitzero"`
	CreatedBy string            `json:"created_by,omitempty"` // the VM's name
	Labels    map[string]string `json:"labels,omitempty"`
}

// Capability is one rule of a profile, as SPBM has it: a capability instance with a single property of the same ID.
type Capability struct {
	Namespace string // "VSAN"
	ID        string // "stripeWidth"
	Value     any    // int32, bool or string (xsd:int, xsd:boolean, xsd:string)
}

// Attachment is a disk in a virtual machine's hardware list.
type Attachment struct {
	Backing    Backing
	Disk       DiskID
	Controller int32 // the key of the device's controller
	Unit       int32
	Profile    ProfileID  // as vCenter last reported it for the attached disk; empty if none
	Policy     PolicyName // the profile's name
	Compliance string     // SPBM's complianceStatus: compliant, nonCompliant, unknown, notApplicable; empty if not reported
}

// Machine is the virtual machine that Mooring runs in, as vCenter describes it.
type Machine struct {
	Name     string
	BIOS     string // config.uuid, lower case
	Instance string // config.instanceUuid, lower case: vCenter's identity for it, which a clone does not share
	Disks    []Attachment
}
