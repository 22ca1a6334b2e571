package vcenter

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The limits of a disk's capacity.
const (
	minDiskKB = 1 << 10
	maxDiskKB = 62 << 30
)

// newDisk is what somebody wants a disk to be.
type newDisk struct {
	name       string // datastore path
	capacityKB int64
	diskType   string
	adapter    string
	profile    string // "" for the datastore's default
}

// specOf reads a VirtualDiskSpec.
func specOf(name string, spec types.BaseVirtualDiskSpec) (newDisk, types.BaseMethodFault) {
	s, ok := spec.(types.BaseFileBackedVirtualDiskSpec)
	if !ok {
		return newDisk{}, &types.InvalidArgument{InvalidProperty: "spec"}
	}
	f := s.GetFileBackedVirtualDiskSpec()
	d := newDisk{name: name, capacityKB: f.CapacityKb, diskType: f.DiskType, adapter: f.AdapterType}
	id, fault := profileOf(f.Profile)
	d.profile = id
	return d, fault
}

// profileOf returns the ID of the one profile that a specification names, "" if it names none or the default.
func profileOf(specs []types.BaseVirtualMachineProfileSpec) (string, types.BaseMethodFault) {
	if len(specs) > 1 {
		return "", &types.InvalidArgument{InvalidProperty: "profile"}
	}
	for _, s := range specs {
		if p, ok := s.(*types.VirtualMachineDefinedProfileSpec); ok {
			return p.ProfileId, nil
		}
	}
	return "", nil
}

// check refuses what no datastore could make.
func (d newDisk) check() types.BaseMethodFault {
	kinds := types.VirtualDiskType("").Strings()
	adapters := types.VirtualDiskAdapterType("").Strings()
	switch {
	case !strings.HasSuffix(d.name, diskSuffix) || strings.HasSuffix(d.name, extentSuffix):
		return &types.InvalidDatastorePath{DatastorePath: d.name}
	case d.capacityKB < minDiskKB || d.capacityKB > maxDiskKB:
		return &types.InvalidArgument{InvalidProperty: "capacityKb"}
	case !slices.Contains(kinds, d.diskType):
		return &types.InvalidArgument{InvalidProperty: "diskType"}
	case d.adapter != "" && !slices.Contains(adapters, d.adapter):
		return &types.InvalidArgument{InvalidProperty: "adapterType"}
	}
	return nil
}

// makeDisk makes descriptor and extent, if the datastore can honour the profile and has the space.
func (v *VCenter) makeDisk(want newDisk) (diskFile, types.BaseMethodFault) {
	if fault := want.check(); fault != nil {
		return diskFile{}, fault
	}
	file, fault := v.resolve(want.name)
	if fault != nil {
		return diskFile{}, fault
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return diskFile{}, &types.FileNotFound{FileFault: types.FileFault{File: want.name}}
	}
	if _, err := os.Stat(file); err == nil {
		return diskFile{}, &types.FileAlreadyExists{FileFault: types.FileFault{File: want.name}}
	}
	d := diskFile{
		file: file, extent: extentOf(file), datastore: datastoreOf(want.name), uuid: newDiskUUID(),
		capacity: want.capacityKB << 10, thin: want.diskType == string(types.VirtualDiskTypeThin),
	}
	if fault := v.spbm.placeable(want.profile, d.datastore, want.name); fault != nil {
		return diskFile{}, fault
	}
	v.hw.Lock()
	defer v.hw.Unlock()
	if fault := v.claimSpace(d, want.profile); fault != nil {
		return diskFile{}, fault
	}
	if fault := d.size(want.name); fault != nil {
		return diskFile{}, fault
	}
	if fault := d.write(want.name); fault != nil {
		return diskFile{}, fault
	}
	if want.profile != "" {
		v.applied[d.uuid] = want.profile
	}
	v.remeasure(d.datastore)
	return d, nil
}

func datastoreOf(name string) string {
	ds, _, _ := strings.Cut(strings.TrimPrefix(name, "["), "]")
	return ds
}

// run starts a task of the disk manager and returns what the SOAP layer wants.
func (s *shadow) run(ctx *simulator.Context, method string, work job) (*types.ManagedObjectReference, *soap.Fault) {
	ref, fault := s.v.start(ctx, operation{method: method, entity: s.self, run: work})
	if fault != nil {
		return nil, simulator.Fault("", fault)
	}
	return &ref, nil
}

// CreateVirtualDiskTask makes a disk with its real size, a random UUID and its profile.
func (s *shadow) CreateVirtualDiskTask(ctx *simulator.Context, req *types.CreateVirtualDisk_Task) soap.HasFault {
	body := new(methods.CreateVirtualDisk_TaskBody)
	ref, fault := s.run(ctx, "CreateVirtualDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		want, fault := specOf(req.Name, req.Spec)
		if fault != nil {
			return nil, fault
		}
		_, fault = s.v.makeDisk(want)
		return req.Name, fault
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CreateVirtualDisk_TaskResponse{Returnval: *ref}
	return body
}

// DeleteVirtualDiskTask deletes a disk that no virtual machine has.
func (s *shadow) DeleteVirtualDiskTask(ctx *simulator.Context, req *types.DeleteVirtualDisk_Task) soap.HasFault {
	body := new(methods.DeleteVirtualDisk_TaskBody)
	ref, fault := s.run(ctx, "DeleteVirtualDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		d, fault := s.v.readDisk(req.Name)
		if fault != nil {
			return nil, fault
		}
		s.v.hw.Lock()
		defer s.v.hw.Unlock()
		if fault := s.v.free(d.file, req.Name); fault != nil {
			return nil, fault
		}
		return nil, s.v.deleteDisk(d, req.Name)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.DeleteVirtualDisk_TaskResponse{Returnval: *ref}
	return body
}

// deleteDisk deletes the files and what is known of the disk. The caller holds v.hw.
func (v *VCenter) deleteDisk(d diskFile, name string) types.BaseMethodFault {
	if fault := d.remove(name); fault != nil {
		return fault
	}
	delete(v.applied, d.uuid)
	v.releaseSpace(d)
	v.remeasure(d.datastore)
	return nil
}

// ExtendVirtualDiskTask grows descriptor and extent of a disk that no virtual machine has.
func (s *shadow) ExtendVirtualDiskTask(ctx *simulator.Context, req *types.ExtendVirtualDisk_Task) soap.HasFault {
	body := new(methods.ExtendVirtualDisk_TaskBody)
	ref, fault := s.run(ctx, "ExtendVirtualDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		d, fault := s.v.readDisk(req.Name)
		if fault != nil {
			return nil, fault
		}
		s.v.hw.Lock()
		defer s.v.hw.Unlock()
		if fault := s.v.free(d.file, req.Name); fault != nil {
			return nil, fault
		}
		return nil, s.v.grow(d, req.NewCapacityKb<<10, req.Name)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ExtendVirtualDisk_TaskResponse{Returnval: *ref}
	return body
}

// grow makes the disk larger. The caller holds v.hw.
func (v *VCenter) grow(d diskFile, capacity int64, name string) types.BaseMethodFault {
	if capacity < d.capacity || capacity > maxDiskKB<<10 {
		return &types.InvalidArgument{InvalidProperty: "newCapacityKb"}
	}
	d.capacity = capacity
	if fault := v.claimSpace(d, v.applied[d.uuid]); fault != nil {
		return fault
	}
	if fault := d.size(name); fault != nil {
		return fault
	}
	fault := d.write(name)
	v.remeasure(d.datastore)
	if fault == nil {
		v.resized(d)
	}
	return fault
}

// MoveVirtualDiskTask renames a disk that no virtual machine has. Its UUID stays.
func (s *shadow) MoveVirtualDiskTask(ctx *simulator.Context, req *types.MoveVirtualDisk_Task) soap.HasFault {
	body := new(methods.MoveVirtualDisk_TaskBody)
	ref, fault := s.run(ctx, "MoveVirtualDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, s.v.moveDisk(req.SourceName, req.DestName)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.MoveVirtualDisk_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) moveDisk(from, to string) types.BaseMethodFault {
	d, fault := v.readDisk(from)
	if fault != nil {
		return fault
	}
	file, fault := v.vacant(to)
	if fault != nil {
		return fault
	}
	v.hw.Lock()
	defer v.hw.Unlock()
	if fault := v.free(d.file, from); fault != nil {
		return fault
	}
	moved := d
	moved.file, moved.extent, moved.datastore = file, extentOf(file), datastoreOf(to)
	if err := os.Rename(d.extent, moved.extent); err != nil {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: from}}
	}
	if fault := moved.write(to); fault != nil {
		return fault
	}
	if err := os.Remove(d.file); err != nil {
		return &types.CannotDeleteFile{FileFault: types.FileFault{File: from}}
	}
	v.releaseSpace(d)
	fault = v.claimSpace(moved, v.applied[d.uuid])
	v.remeasure(d.datastore)
	v.remeasure(moved.datastore)
	return fault
}

// vacant returns the file of a datastore path whose directory exists and which is not taken.
func (v *VCenter) vacant(name string) (string, types.BaseMethodFault) {
	file, fault := v.resolve(name)
	if fault != nil {
		return "", fault
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return "", &types.FileNotFound{FileFault: types.FileFault{File: name}}
	}
	if _, err := os.Stat(file); err == nil {
		return "", &types.FileAlreadyExists{FileFault: types.FileFault{File: name}}
	}
	return file, nil
}

// CopyVirtualDiskTask copies the bytes of a disk that no running virtual machine has to a new disk with a UUID of its own.
func (s *shadow) CopyVirtualDiskTask(ctx *simulator.Context, req *types.CopyVirtualDisk_Task) soap.HasFault {
	body := new(methods.CopyVirtualDisk_TaskBody)
	ref, fault := s.run(ctx, "CopyVirtualDisk_Task", func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, s.v.copyDisk(req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CopyVirtualDisk_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) copyDisk(req *types.CopyVirtualDisk_Task) types.BaseMethodFault {
	src, fault := v.readDisk(req.SourceName)
	if fault != nil {
		return fault
	}
	if fault := v.readable(src.file, req.SourceName); fault != nil {
		return fault
	}
	want := newDisk{name: req.DestName, capacityKB: src.capacity >> 10, diskType: string(types.VirtualDiskTypeThin)}
	if req.DestSpec != nil {
		if _, ok := req.DestSpec.(types.BaseFileBackedVirtualDiskSpec); ok {
			if want, fault = specOf(req.DestName, req.DestSpec); fault != nil {
				return fault
			}
			want.capacityKB = max(want.capacityKB, src.capacity>>10)
		}
	}
	if req.Force != nil && *req.Force {
		if fault := v.makeWay(req.DestName); fault != nil {
			return fault
		}
	}
	dst, fault := v.makeDisk(want)
	if fault != nil {
		return fault
	}
	if err := copySparse(src.extent, dst.extent); err != nil {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: req.DestName}}
	}
	return nil
}

// readable returns a fault if a running machine has the file.
func (v *VCenter) readable(file, name string) types.BaseMethodFault {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, c := range v.claims(file) {
		if c.on {
			return locked(name, c.name)
		}
	}
	return nil
}

// makeWay deletes the disk at the path, if there is one.
func (v *VCenter) makeWay(name string) types.BaseMethodFault {
	old, fault := v.readDisk(name)
	if fault != nil {
		return nil
	}
	v.hw.Lock()
	defer v.hw.Unlock()
	if fault := v.free(old.file, name); fault != nil {
		return fault
	}
	return v.deleteDisk(old, name)
}

// QueryVirtualDiskUuid answers with the UUID that the descriptor holds.
func (s *shadow) QueryVirtualDiskUuid(_ *simulator.Context, req *types.QueryVirtualDiskUuid) soap.HasFault { //nolint:revive // the API's name, found by reflection
	body := new(methods.QueryVirtualDiskUuidBody)
	d, fault := s.v.readDisk(req.Name)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.QueryVirtualDiskUuidResponse{Returnval: formatUUID(d.uuid)}
	return body
}

// SetVirtualDiskUuid writes the UUID into the descriptor of a disk that no virtual machine has.
func (s *shadow) SetVirtualDiskUuid(_ *simulator.Context, req *types.SetVirtualDiskUuid) soap.HasFault { //nolint:revive // the API's name, found by reflection
	body := new(methods.SetVirtualDiskUuidBody)
	d, fault := s.v.readDisk(req.Name)
	if fault == nil && parseUUID(req.Uuid) == "" {
		fault = &types.InvalidArgument{InvalidProperty: "uuid"}
	}
	if fault == nil {
		s.v.hw.Lock()
		defer s.v.hw.Unlock()
		if fault = s.v.free(d.file, req.Name); fault == nil {
			d.uuid = parseUUID(req.Uuid)
			fault = d.write(req.Name)
		}
	}
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = new(types.SetVirtualDiskUuidResponse)
	return body
}
