package esx

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// identity is what a disk is known by: its UUID, and its file where a UUID is not known.
type identity struct {
	disk    mooring.DiskID
	backing mooring.Backing
}

// device is a disk in a virtual machine's hardware list.
type device struct {
	identity

	key     int32
	slot    slot
	mode    string
	parents []mooring.Backing // files below the backing, where there are snapshots
	raw     types.BaseVirtualDevice
}

// hardware is a virtual machine's hardware list, as far as disks are concerned.
type hardware struct {
	version     string // config.changeVersion
	disks       []device
	controllers []controller // PVSCSI
	buses       []int32      // of all SCSI controllers
}

// readHardware returns the hardware of our machine.
func (h *Host) readHardware(ctx context.Context, p *place) (hardware, error) {
	var vm mo.VirtualMachine
	if err := h.session.property1(ctx, p.client, p.vm.Self, []string{"config.changeVersion", "config.hardware.device"}, &vm); err != nil {
		return hardware{}, fmt.Errorf("read the hardware of %s: %w", p.vm.Name, err)
	}
	if vm.Config == nil {
		return hardware{}, fmt.Errorf("read the hardware of %s: vCenter does not know it at the moment: %w", p.vm.Name, mooring.ErrUnavailable)
	}
	return parseHardware(vm.Config.ChangeVersion, vm.Config.Hardware.Device), nil
}

func parseHardware(version string, devices []types.BaseVirtualDevice) hardware {
	hw := hardware{version: version, disks: parseDisks(devices)}
	for _, d := range devices {
		scsi, ok := d.(types.BaseVirtualSCSIController)
		if !ok {
			continue
		}
		bus := scsi.GetVirtualSCSIController().BusNumber
		hw.buses = append(hw.buses, bus)
		if _, ok := d.(*types.ParaVirtualSCSIController); ok {
			hw.controllers = append(hw.controllers, controller{key: d.GetVirtualDevice().Key, bus: bus})
		}
	}
	for i := range hw.controllers {
		for _, d := range devices {
			if v := d.GetVirtualDevice(); v.ControllerKey == hw.controllers[i].key && v.UnitNumber != nil {
				hw.controllers[i].used = append(hw.controllers[i].used, *v.UnitNumber)
			}
		}
	}
	return hw
}

func parseDisks(devices []types.BaseVirtualDevice) []device {
	var list []device
	for _, d := range devices {
		disk, ok := d.(*types.VirtualDisk)
		if !ok {
			continue
		}
		v := device{key: disk.Key, slot: slot{controller: disk.ControllerKey}, raw: d}
		if disk.UnitNumber != nil {
			v.slot.unit = *disk.UnitNumber
		}
		var uuid string
		switch b := disk.Backing.(type) {
		case *types.VirtualDiskFlatVer2BackingInfo:
			uuid, v.mode, v.backing = b.Uuid, b.DiskMode, mooring.Backing(b.FileName)
			for parent := b.Parent; parent != nil; parent = parent.Parent {
				v.parents = append(v.parents, mooring.Backing(parent.FileName))
			}
		case *types.VirtualDiskSeSparseBackingInfo:
			uuid, v.mode, v.backing = b.Uuid, b.DiskMode, mooring.Backing(b.FileName)
			for parent := b.Parent; parent != nil; parent = parent.Parent {
				v.parents = append(v.parents, mooring.Backing(parent.FileName))
			}
		case types.BaseVirtualDeviceFileBackingInfo:
			v.backing = mooring.Backing(b.GetVirtualDeviceFileBackingInfo().FileName)
		}
		if id, err := mooring.ParseDiskID(uuid); err == nil {
			v.disk = id
		}
		list = append(list, v)
	}
	return list
}

// find returns the disks of the hardware list that are the one with this identity. More than one is a fault of the machine's configuration.
func (hw hardware) find(id identity) []device { return findDisks(hw.disks, id) }

// stranger returns the device that has vol's file and another disk's UUID.
func (hw hardware) stranger(vol mooring.Volume) (device, bool) {
	for _, d := range hw.disks {
		if vol.Disk != "" && d.disk != "" && d.disk != vol.Disk && sameFile(d.backing, vol.Backing) {
			return d, len(hw.find(identity{vol.Disk, vol.Backing})) == 0
		}
	}
	return device{}, false
}

func findDisks(list []device, id identity) []device {
	var found []device
	for _, d := range list {
		if d.is(id) {
			found = append(found, d)
		}
	}
	return found
}

// is tells whether d is the disk. The UUID decides; files are compared only where one of the two has none.
func (d device) is(id identity) bool {
	if d.disk != "" && id.disk != "" {
		return d.disk == id.disk
	}
	return sameFile(d.backing, id.backing) || slices.ContainsFunc(d.parents, func(b mooring.Backing) bool { return sameFile(b, id.backing) })
}

// hasVolumes tells whether a disk is attached that may be a volume: ours are independent, and lie in our folder.
func (hw hardware) hasVolumes() bool {
	return slices.ContainsFunc(hw.disks, func(d device) bool {
		return d.mode == string(types.VirtualDiskModeIndependent_persistent) || strings.HasPrefix(d.backing.File(), topFolder+"/")
	})
}

// vsanFolder matches the name that vSAN gives to a top-level folder, which stands in hardware lists in place of the folder's own.
var vsanFolder = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// sameFile tells whether two backings name one file, one of them perhaps by vSAN's name of the folder.
func sameFile(a, b mooring.Backing) bool {
	if a.Datastore() != b.Datastore() || a.File() == "" {
		return false
	}
	topA, restA, _ := strings.Cut(path.Clean(a.File()), "/")
	topB, restB, _ := strings.Cut(path.Clean(b.File()), "/")
	if restA != restB {
		return false
	}
	alias := func(x, y string) bool { return x == topFolder && vsanFolder.MatchString(y) }
	return topA == topB || alias(topA, topB) || alias(topB, topA)
}

// byFolderID returns the file by vSAN's own name of its top-level folder, in which some versions want it in a hardware list, or "" where there is no such name.
func (h *Host) byFolderID(ctx context.Context, p *place, b mooring.Backing) mooring.Backing {
	top, rest, _ := strings.Cut(b.File(), "/")
	if supported := p.ds.Capability.TopLevelDirectoryCreateSupported; supported == nil || *supported || vsanFolder.MatchString(top) {
		return ""
	}
	var folder string
	err := read(ctx, func() (err error) {
		url := strings.TrimSuffix(p.ds.Summary.Url, "/") + "/" + top
		folder, err = object.NewDatastoreNamespaceManager(p.client).ConvertNamespacePathToUuidPath(ctx, p.dc, url)
		return err
	})
	id := path.Base(folder)
	if err != nil || !vsanFolder.MatchString(id) {
		h.log.Debug("ask for the ID of a folder on vSAN", "backing", string(b), "err", err)
		return ""
	}
	return mooring.NewBacking(b.Datastore(), path.Join(id, rest))
}
