package vcenter

import (
	"os"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// firstClassDir is where vCenter puts first class disks for which no path is given.
const firstClassDir = "fcd"

// firstClass is a first class disk: a disk with an ID and an entry in a catalog of its own, whether or not a virtual machine has it.
type firstClass struct {
	id        types.ID
	datastore types.ManagedObjectReference
	name      string // datastore path of its backing
	keep      bool   // outlives a virtual machine that is deleted with it
}

// catalogOf is how vcsim keeps first class disks.
type catalogOf map[types.ManagedObjectReference]map[types.ID]*simulator.VStorageObject

// catalog gives vcsim's catalog to the function while nobody else uses it.
func (v *VCenter) catalog(use func(all catalogOf)) {
	m := v.reg.VStorageObjectManager()
	v.reg.WithLock(v.context(""), m, func() { use(m.Catalog()) })
}

// firstClassDisks returns what the catalog holds.
func (v *VCenter) firstClassDisks() []firstClass {
	var out []firstClass
	v.catalog(func(all catalogOf) {
		for ds, objects := range all {
			for id, o := range objects {
				b, ok := o.Config.Backing.(*types.BaseConfigInfoDiskFileBackingInfo)
				if !ok {
					continue
				}
				keep := o.Config.KeepAfterDeleteVm == nil || *o.Config.KeepAfterDeleteVm
				out = append(out, firstClass{id: id, datastore: ds, name: b.FilePath, keep: keep})
			}
		}
	})
	return out
}

// firstClassByID returns the first class disk with that ID, of any datastore if ds names none.
func (v *VCenter) firstClassByID(ds types.ManagedObjectReference, id types.ID) (firstClass, bool) {
	for _, o := range v.firstClassDisks() {
		if o.id == id && (ds.Value == "" || ds == o.datastore) {
			return o, true
		}
	}
	return firstClass{}, false
}

// firstClassAt returns the first class disk whose descriptor is the file.
func (v *VCenter) firstClassAt(file string) (firstClass, bool) {
	for _, o := range v.firstClassDisks() {
		if f, fault := v.resolve(o.name); fault == nil && f == file {
			return o, true
		}
	}
	return firstClass{}, false
}

// change lets the function change the catalog's entry, if there still is one.
func (v *VCenter) change(o firstClass, edit func(*simulator.VStorageObject)) {
	v.catalog(func(all catalogOf) {
		if entry := all[o.datastore][o.id]; entry != nil {
			edit(entry)
		}
	})
}

// forget takes the disk out of the catalog.
func (v *VCenter) forget(o firstClass) {
	v.catalog(func(all catalogOf) { delete(all[o.datastore], o.id) })
}

// consumed writes into the catalog which machines have the file, if it is that of a first class disk. The hardware lists are the truth,
// so this follows each change of one, whichever call made it. The caller holds v.hw.
func (v *VCenter) consumed(file string) {
	o, ok := v.firstClassAt(file)
	if !ok {
		return
	}
	var consumers []types.ID
	for _, c := range v.holders(file) {
		if m, ok := v.look(c.vm); ok {
			consumers = append(consumers, types.ID{Id: m.config.bios})
		}
	}
	v.change(o, func(entry *simulator.VStorageObject) { entry.Config.ConsumerId = consumers })
}

// resized writes the capacity into the catalog, if the disk is a first class one.
func (v *VCenter) resized(d diskFile) {
	if o, ok := v.firstClassAt(d.file); ok {
		v.change(o, func(entry *simulator.VStorageObject) { entry.Config.CapacityInMB = d.capacity >> 20 })
	}
}

// CreateDiskTask makes a disk with its real size, as the disk manager does, and enters it into the catalog.
func (s *shadow) CreateDiskTask(ctx *simulator.Context, req *types.CreateDisk_Task) soap.HasFault {
	body := new(methods.CreateDisk_TaskBody)
	ref, fault := s.run(ctx, "CreateDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		obj, fault := s.v.createFirstClass(req.Spec)
		if fault != nil {
			return nil, fault
		}
		return obj, nil
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CreateDisk_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) createFirstClass(spec types.VslmCreateSpec) (types.VStorageObject, types.BaseMethodFault) {
	backing, ok := spec.BackingSpec.(*types.VslmCreateSpecDiskFileBackingSpec)
	if !ok {
		return types.VStorageObject{}, &types.InvalidArgument{InvalidProperty: "spec.backingSpec"}
	}
	ds, ok := v.reg.Get(backing.Datastore).(*simulator.Datastore)
	if !ok {
		return types.VStorageObject{}, &types.InvalidDatastore{Datastore: &backing.Datastore}
	}
	id := types.ID{Id: newUUID()}
	kind, fault := diskType(backing.ProvisioningType)
	if fault != nil {
		return types.VStorageObject{}, fault
	}
	profile, fault := profileOf(spec.Profile)
	if fault != nil {
		return types.VStorageObject{}, fault
	}
	name, fault := v.firstClassPath(ds.Name, backing.Path, id)
	if fault != nil {
		return types.VStorageObject{}, fault
	}
	d, fault := v.makeDisk(newDisk{name: name, capacityKB: spec.CapacityInMB << 10, diskType: string(kind), profile: profile})
	if fault != nil {
		return types.VStorageObject{}, fault
	}
	obj := v.entry(id, spec, *backing, d)
	v.catalog(func(all catalogOf) {
		if all[ds.Self] == nil {
			all[ds.Self] = map[types.ID]*simulator.VStorageObject{}
		}
		all[ds.Self][id] = &simulator.VStorageObject{VStorageObject: obj, Metadata: spec.Metadata}
	})
	return obj, nil
}

// diskType returns the kind of disk that a provisioning type asks for.
func diskType(provisioning string) (types.VirtualDiskType, types.BaseMethodFault) {
	switch types.BaseConfigInfoDiskFileBackingInfoProvisioningType(provisioning) {
	case "", types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeThin:
		return types.VirtualDiskTypeThin, nil
	case types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeEagerZeroedThick:
		return types.VirtualDiskTypeEagerZeroedThick, nil
	case types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeLazyZeroedThick:
		return types.VirtualDiskTypePreallocated, nil
	}
	return "", &types.InvalidArgument{InvalidProperty: "spec.backingSpec.provisioningType"}
}

// firstClassPath returns the datastore path for a new disk: the one that is asked for, or one in a directory which is made when it is needed.
func (v *VCenter) firstClassPath(ds, asked string, id types.ID) (string, types.BaseMethodFault) {
	p := object.DatastorePath{Datastore: ds, Path: asked}
	if asked != "" {
		return p.String(), nil
	}
	p.Path = firstClassDir
	dir, fault := v.resolve(p.String())
	if fault != nil {
		return "", fault
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &types.CannotCreateFile{FileFault: types.FileFault{File: p.String()}}
	}
	p.Path = path.Join(firstClassDir, id.Id+diskSuffix)
	return p.String(), nil
}

// entry describes the disk as the catalog has it.
func (v *VCenter) entry(id types.ID, spec types.VslmCreateSpec, backing types.VslmCreateSpecDiskFileBackingSpec, d diskFile) types.VStorageObject {
	info := &types.BaseConfigInfoDiskFileBackingInfo{ProvisioningType: backing.ProvisioningType}
	if info.ProvisioningType == "" {
		info.ProvisioningType = string(types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeThin)
	}
	info.Datastore, info.FilePath, info.BackingObjectId = backing.Datastore, v.canonical(d.file), newUUID()
	return types.VStorageObject{Config: types.VStorageObjectConfigInfo{
		BaseConfigInfo: types.BaseConfigInfo{
			Id: id, Name: spec.Name, CreateTime: time.Now(), KeepAfterDeleteVm: spec.KeepAfterDeleteVm,
			RelocationDisabled: new(false), NativeSnapshotSupported: new(false), ChangedBlockTrackingEnabled: new(false),
			Backing: info,
		},
		CapacityInMB: spec.CapacityInMB, ConsumptionType: []string{string(types.VStorageObjectConsumptionTypeDisk)},
	}}
}

// RegisterDisk enters a plain disk into the catalog, where it stays what it is. vcsim enters it with no capacity, and once for each spelling of its path.
func (s *shadow) RegisterDisk(ctx *simulator.Context, req *types.RegisterDisk) soap.HasFault {
	s.v.hw.Lock()
	defer s.v.hw.Unlock()
	known := s.v.firstClassDisks()
	var body soap.HasFault
	m := s.v.reg.VStorageObjectManager()
	s.v.reg.WithLock(ctx, m, func() { body = m.RegisterDisk(ctx, req) })
	b, ok := body.(*methods.RegisterDiskBody)
	if !ok || b.Res == nil {
		return body
	}
	obj, fault := s.v.registered(b.Res.Returnval, known)
	if fault != nil {
		return &methods.RegisterDiskBody{Fault_: simulator.Fault(describe(fault), fault)}
	}
	b.Res.Returnval = obj
	return b
}

// registered puts right what vcsim entered, or takes it out again if the disk was known. The caller holds v.hw.
func (v *VCenter) registered(obj types.VStorageObject, known []firstClass) (types.VStorageObject, types.BaseMethodFault) {
	o, ok := v.firstClassByID(types.ManagedObjectReference{}, obj.Config.Id)
	if !ok {
		return obj, new(types.NotFound)
	}
	d, fault := v.readDisk(o.name)
	if fault != nil {
		v.forget(o)
		return obj, fault
	}
	for _, k := range known {
		if f, fault := v.resolve(k.name); fault == nil && f == d.file {
			v.forget(o)
			return obj, &types.AlreadyExists{Name: k.id.Id}
		}
	}
	v.change(o, func(entry *simulator.VStorageObject) {
		if b, ok := entry.Config.Backing.(*types.BaseConfigInfoDiskFileBackingInfo); ok { // somebody may be reading the old one
			backing := *b
			backing.FilePath = v.canonical(d.file)
			entry.Config.Backing = &backing
		}
		entry.Config.CapacityInMB = d.capacity >> 20
	})
	v.consumed(d.file)
	v.change(o, func(entry *simulator.VStorageObject) { obj = entry.VStorageObject })
	return obj, nil
}

// DeleteVStorageObjectTask deletes a first class disk that no virtual machine has.
func (s *shadow) DeleteVStorageObjectTask(ctx *simulator.Context, req *types.DeleteVStorageObject_Task) soap.HasFault {
	body := new(methods.DeleteVStorageObject_TaskBody)
	ref, fault := s.run(ctx, "DeleteVStorageObject_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, s.v.deleteFirstClass(req.Datastore, req.Id)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.DeleteVStorageObject_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) deleteFirstClass(ds types.ManagedObjectReference, id types.ID) types.BaseMethodFault {
	v.hw.Lock()
	defer v.hw.Unlock()
	o, ok := v.firstClassByID(ds, id)
	if !ok {
		return new(types.NotFound)
	}
	d, fault := v.readDisk(o.name)
	if fault != nil {
		return fault
	}
	if found := v.claims(d.file); len(found) > 0 {
		return inUse(o.name, found[0].name)
	}
	if fault := v.deleteDisk(d, o.name); fault != nil {
		return fault
	}
	v.forget(o)
	return nil
}

// ExtendDiskTask makes a first class disk larger, also while a virtual machine has it, and its guest notices.
func (s *shadow) ExtendDiskTask(ctx *simulator.Context, req *types.ExtendDisk_Task) soap.HasFault {
	body := new(methods.ExtendDisk_TaskBody)
	ref, fault := s.run(ctx, "ExtendDisk_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, s.v.extendFirstClass(ctx, req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ExtendDisk_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) extendFirstClass(ctx *simulator.Context, req *types.ExtendDisk_Task) types.BaseMethodFault {
	o, ok := v.firstClassByID(req.Datastore, req.Id)
	if !ok {
		return new(types.NotFound)
	}
	d, fault := v.readDisk(o.name)
	if fault != nil {
		return fault
	}
	capacity := req.NewCapacityInMB << 20
	if capacity < d.capacity || capacity > maxDiskKB<<10 {
		return &types.InvalidArgument{InvalidProperty: "newCapacityInMB"}
	}
	owner, attached := v.owner(d.file)
	if !attached {
		v.hw.Lock()
		defer v.hw.Unlock()
		if fault := v.free(d.file, o.name); fault != nil {
			return fault
		}
		return v.grow(d, capacity, o.name)
	}
	// The device must show the new capacity, and other operations on its machine wait: as a change of the hardware.
	q := v.queues.get(owner)
	q.Lock()
	defer q.Unlock()
	m, _ := v.look(owner)
	disk := v.diskAt(m, d.file)
	if disk == nil {
		return inUse(o.name, m.name) // it was detached this moment: the caller may ask again
	}
	return v.reconfigure(ctx, owner, oneChange(types.VirtualDeviceConfigSpecOperationEdit, &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{Key: disk.Key}, CapacityInKB: capacity >> 10,
	}))
}

// owner returns a machine that has the file.
func (v *VCenter) owner(file string) (types.ManagedObjectReference, bool) {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, c := range v.holders(file) {
		return c.vm, true
	}
	return types.ManagedObjectReference{}, false
}

// diskAt returns the machine's disk whose descriptor is the file, or nil.
func (v *VCenter) diskAt(m machine, file string) *types.VirtualDisk {
	found := disks(m.devices)
	i := slices.IndexFunc(found, func(d *types.VirtualDisk) bool {
		name, _ := fileOf(d)
		f, fault := v.resolve(name)
		return fault == nil && f == file
	})
	if i < 0 {
		return nil
	}
	return found[i]
}

func oneChange(op types.VirtualDeviceConfigSpecOperation, disk *types.VirtualDisk) types.VirtualMachineConfigSpec {
	return types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: op, Device: disk},
	}}
}
