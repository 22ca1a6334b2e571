package vcenter

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// The limits of a virtual machine's hardware.
const (
	maxSCSI     = 4
	scsiUnits   = 16 // 0 to 15
	pvscsiUnits = 64 // from hardware version 14 on
	manyTargets = 14
	firstDisk   = 2000
	wideDisk    = firstDisk + maxSCSI*scsiUnits // keys of disks at units that other controllers' keys would collide with
)

// planner checks a specification as a whole and says what the hardware is afterwards. It changes nothing.
type planner struct {
	vm      machine
	lookup  func(name string) (diskFile, types.BaseMethodFault)              // the disk of an existing file
	vacant  func(name string) (string, types.BaseMethodFault)                // the file that may be made
	lock    func(d diskFile, name string, shared bool) types.BaseMethodFault // is it free for this machine?
	profile func(id, datastore, name string) types.BaseMethodFault           // may this profile be used there?
	path    func(file string) string                                         // as the hardware list spells it
	result  plan
	keys    map[int32]int32 // of devices added by this specification, by the (negative) key that the caller gave
}

// plan is what a specification does.
type plan struct {
	devices           []types.BaseVirtualDevice // all of them, afterwards; new objects where anything changed
	rest              []types.BaseVirtualDeviceConfigSpec
	add               []addition
	remove            []removal
	grow              []growth
	addBus, removeBus []int // of SCSI controllers

	applied map[int32]string // profile by device key; "" takes it away
}

type addition struct {
	disk   *types.VirtualDisk
	file   diskFile
	name   string   // as the caller spelt it
	create *newDisk // set if the file is to be made
}

type removal struct {
	disk    *types.VirtualDisk
	file    diskFile
	destroy bool
}

type growth struct {
	disk     *types.VirtualDisk
	file     diskFile
	name     string
	capacity int64
}

// invalid is the fault of the change with that index.
func invalid(i int, property string) types.BaseMethodFault {
	return &types.InvalidDeviceSpec{
		InvalidVmConfig: types.InvalidVmConfig{Property: fmt.Sprintf("virtualDeviceSpec[%d].%s", i, property)},
		DeviceIndex:     int32(i),
	}
}

// run plans all changes in order, or returns the fault of the first that cannot be.
func (p *planner) run(spec types.VirtualMachineConfigSpec) (plan, types.BaseMethodFault) {
	if spec.ChangeVersion != "" && spec.ChangeVersion != p.vm.version {
		return plan{}, new(types.ConcurrentAccess)
	}
	p.result = plan{devices: slices.Clone(p.vm.devices), applied: map[int32]string{}}
	p.keys = map[int32]int32{}
	for i, c := range spec.DeviceChange {
		if fault := p.change(i, c.GetVirtualDeviceConfigSpec()); fault != nil {
			return plan{}, fault
		}
	}
	p.relink()
	return p.result, nil
}

func (p *planner) change(i int, c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
	disk, isDisk := c.Device.(*types.VirtualDisk)
	_, isSCSI := c.Device.(types.BaseVirtualSCSIController)
	switch {
	case c.Device == nil:
		return invalid(i, "device")
	case isSCSI && c.Operation == types.VirtualDeviceConfigSpecOperationAdd:
		return p.addController(i, c.Device)
	case isSCSI && c.Operation == types.VirtualDeviceConfigSpecOperationRemove:
		return p.removeController(i, c.Device.GetVirtualDevice().Key)
	case !isDisk:
		p.result.rest = append(p.result.rest, c)
		return nil
	case c.Operation == types.VirtualDeviceConfigSpecOperationAdd:
		return p.addDisk(i, c, disk)
	case c.Operation == types.VirtualDeviceConfigSpecOperationRemove:
		return p.removeDisk(i, c, disk)
	case c.Operation == types.VirtualDeviceConfigSpecOperationEdit:
		return p.editDisk(i, c, disk)
	}
	return invalid(i, "operation")
}

// index returns where in the planned devices the one with that key is, or -1.
func (p *planner) index(key int32) int {
	return slices.IndexFunc(p.result.devices, func(d types.BaseVirtualDevice) bool { return d.GetVirtualDevice().Key == key })
}

func (p *planner) addDisk(i int, c *types.VirtualDeviceConfigSpec, want *types.VirtualDisk) types.BaseMethodFault {
	disk := *want
	backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || backing.FileName == "" {
		return invalid(i, "device.backing")
	}
	flat := *backing
	add := addition{disk: &disk, name: flat.FileName}
	_, shared := fileOf(want)
	if fault := p.backing(i, c, &add, shared); fault != nil {
		return fault
	}
	if fault := p.once(i, add.file.file); fault != nil {
		return fault
	}
	if fault := p.place(i, &disk); fault != nil {
		return fault
	}
	if fault := p.associate(c, disk.Key, datastoreOf(add.name), add.name); fault != nil {
		return fault
	}
	flat.FileName, flat.Uuid = p.path(add.file.file), add.file.uuid
	if flat.ThinProvisioned == nil {
		flat.ThinProvisioned = &add.file.thin
	}
	if flat.DiskMode == "" {
		flat.DiskMode = string(types.VirtualDiskModePersistent)
	}
	disk.Backing = &flat
	disk.CapacityInBytes, disk.CapacityInKB = add.file.capacity, add.file.capacity>>10
	disk.DeviceInfo = p.describe(disk.CapacityInKB)
	p.result.add = append(p.result.add, add)
	p.result.devices = append(p.result.devices, &disk)
	return nil
}

// backing finds the file of a disk to add, or what the file would be that the specification asks for.
func (p *planner) backing(i int, c *types.VirtualDeviceConfigSpec, add *addition, shared bool) types.BaseMethodFault {
	switch c.FileOperation { //nolint:exhaustive // the others are refused below
	case "":
		d, fault := p.lookup(add.name)
		if fault != nil {
			return fault
		}
		add.file = d
		return p.lock(d, add.name, shared)
	case types.VirtualDeviceConfigSpecFileOperationCreate:
		file, fault := p.vacant(add.name)
		if fault != nil {
			return fault
		}
		id, fault := profileOf(c.Profile)
		if fault != nil {
			return fault
		}
		kb := add.disk.CapacityInKB
		if kb == 0 {
			kb = add.disk.CapacityInBytes >> 10
		}
		kind := types.VirtualDiskTypePreallocated
		if b, ok := add.disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && b.ThinProvisioned != nil && *b.ThinProvisioned {
			kind = types.VirtualDiskTypeThin
		}
		add.create = &newDisk{name: add.name, capacityKB: kb, diskType: string(kind), profile: id}
		add.file = diskFile{file: file, datastore: datastoreOf(add.name), capacity: kb << 10}
		return add.create.check()
	}
	return invalid(i, "fileOperation")
}

// once refuses a file that the machine has already, or that comes twice.
func (p *planner) once(i int, file string) types.BaseMethodFault {
	for _, a := range p.result.add {
		if a.file.file == file {
			return invalid(i, "device.backing.fileName")
		}
	}
	for _, d := range disks(p.result.devices) {
		name, _ := fileOf(d)
		if f, fault := p.lookup(name); fault == nil && f.file == file {
			return invalid(i, "device.backing.fileName")
		}
	}
	return nil
}

// place gives the disk its controller, unit and key.
func (p *planner) place(i int, disk *types.VirtualDisk) types.BaseMethodFault {
	ckey := disk.ControllerKey
	if k, ok := p.keys[ckey]; ok {
		ckey = k
	}
	at := p.index(ckey)
	if at < 0 {
		return p.noController(i, ckey)
	}
	ctl, ok := p.result.devices[at].(types.BaseVirtualSCSIController)
	if !ok {
		return p.noController(i, ckey)
	}
	limit, taken := p.units(p.result.devices[at]), p.taken(ckey)
	unit := int32(-1)
	if disk.UnitNumber == nil {
		for u := range limit {
			if u != controllerUnit && !taken[u] {
				unit = u
				break
			}
		}
		if unit < 0 {
			return &types.TooManyDevices{InvalidVmConfig: types.InvalidVmConfig{Property: fmt.Sprintf("virtualDeviceSpec[%d]", i)}}
		}
	} else {
		unit = *disk.UnitNumber
		if unit < 0 || unit >= limit || unit == controllerUnit || taken[unit] {
			return invalid(i, "device.unitNumber")
		}
	}
	old := disk.Key
	disk.ControllerKey, disk.UnitNumber = ckey, &unit
	disk.Key = diskKey(ctl.GetVirtualSCSIController().BusNumber, unit)
	p.keys[old] = disk.Key
	return nil
}

func (p *planner) noController(i int, key int32) types.BaseMethodFault {
	f := &types.InvalidController{ControllerKey: key}
	f.DeviceIndex = int32(i)
	f.Property = fmt.Sprintf("virtualDeviceSpec[%d].device.controllerKey", i)
	return f
}

// diskKey is the key that vSphere gives to a disk at that place.
func diskKey(bus, unit int32) int32 {
	if unit < scsiUnits {
		return firstDisk + scsiUnits*bus + unit
	}
	return wideDisk + pvscsiUnits*bus + unit
}

// units returns how many units the controller has, its own included.
func (p *planner) units(ctl types.BaseVirtualDevice) int32 {
	version := 0
	_, _ = fmt.Sscanf(p.vm.config.hardware, "vmx-%d", &version)
	if _, ok := ctl.(*types.ParaVirtualSCSIController); ok && version >= manyTargets {
		return pvscsiUnits
	}
	return scsiUnits
}

func (p *planner) taken(ckey int32) map[int32]bool {
	out := map[int32]bool{}
	for _, d := range p.result.devices {
		if dev := d.GetVirtualDevice(); dev.ControllerKey == ckey && dev.UnitNumber != nil {
			out[*dev.UnitNumber] = true
		}
	}
	return out
}

// associate records the profile that comes with a disk.
func (p *planner) associate(c *types.VirtualDeviceConfigSpec, key int32, datastore, name string) types.BaseMethodFault {
	if len(c.Profile) == 0 {
		return nil
	}
	id, fault := profileOf(c.Profile)
	if fault != nil {
		return fault
	}
	p.result.applied[key] = id
	return p.profile(id, datastore, name)
}

// describe returns the next free "Hard disk N" and the disk's capacity, as the vSphere client shows them.
func (p *planner) describe(kb int64) *types.Description {
	n := 1
	for used := true; used; n++ {
		used = slices.ContainsFunc(disks(p.result.devices), func(d *types.VirtualDisk) bool {
			return d.DeviceInfo != nil && d.DeviceInfo.GetDescription().Label == fmt.Sprintf("Hard disk %d", n)
		})
		if !used {
			break
		}
	}
	return &types.Description{Label: fmt.Sprintf("Hard disk %d", n), Summary: fmt.Sprintf("%d KB", kb)}
}

func (p *planner) removeDisk(i int, c *types.VirtualDeviceConfigSpec, want *types.VirtualDisk) types.BaseMethodFault {
	at := p.index(want.Key)
	if at < 0 {
		return invalid(i, "device.key")
	}
	disk, ok := p.result.devices[at].(*types.VirtualDisk)
	if !ok {
		return invalid(i, "device.key")
	}
	name, _ := fileOf(disk)
	r := removal{disk: disk, destroy: c.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy}
	if c.FileOperation != "" && !r.destroy {
		return invalid(i, "fileOperation")
	}
	if d, fault := p.lookup(name); fault == nil {
		r.file = d // a disk whose file is gone can still be removed
	}
	p.result.devices = slices.Delete(p.result.devices, at, at+1)
	p.result.remove = append(p.result.remove, r)
	p.result.applied[want.Key] = ""
	return nil
}

func (p *planner) editDisk(i int, c *types.VirtualDeviceConfigSpec, want *types.VirtualDisk) types.BaseMethodFault {
	at := p.index(want.Key)
	if at < 0 || c.FileOperation != "" {
		return invalid(i, "device")
	}
	old, ok := p.result.devices[at].(*types.VirtualDisk)
	if !ok {
		return invalid(i, "device.key")
	}
	disk := *old
	name, _ := fileOf(old)
	capacity := max(want.CapacityInKB<<10, want.CapacityInBytes)
	switch {
	case capacity == 0 || capacity == old.CapacityInBytes:
	case capacity < old.CapacityInBytes:
		return &types.InvalidDeviceOperation{
			InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: int32(i)},
			BadOp:             types.VirtualDeviceConfigSpecOperationEdit,
		}
	default:
		d, fault := p.lookup(name)
		if fault != nil {
			return fault
		}
		disk.CapacityInBytes, disk.CapacityInKB = capacity, capacity>>10
		p.result.grow = append(p.result.grow, growth{disk: &disk, file: d, name: name, capacity: capacity})
	}
	if b, ok := want.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		if flat, ok := old.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			changed := *flat
			if b.DiskMode != "" {
				changed.DiskMode = b.DiskMode
			}
			if b.Sharing != "" {
				changed.Sharing = b.Sharing
			}
			disk.Backing = &changed
		}
	}
	p.result.devices[at] = &disk
	return p.associate(c, want.Key, datastoreOf(name), name)
}
