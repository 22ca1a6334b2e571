package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// AttachDiskTask adds a first class disk to the machine's hardware, by the rules of every other disk. As the API documents, it is not
// idempotent: a machine that has the disk is refused.
func (s *shadow) AttachDiskTask(ctx *simulator.Context, req *types.AttachDisk_Task) soap.HasFault {
	body := new(methods.AttachDisk_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "AttachDisk_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.attachFirstClass(ctx, s.self, req)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.AttachDisk_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) attachFirstClass(ctx *simulator.Context, ref types.ManagedObjectReference, req *types.AttachDisk_Task) types.BaseMethodFault {
	o, ok := v.firstClassByID(req.Datastore, req.DiskId)
	if !ok {
		return new(types.NotFound)
	}
	m, ok := v.look(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	controller := req.ControllerKey
	if controller == 0 {
		var fault types.BaseMethodFault
		if controller, fault = onlyController(m); fault != nil {
			return fault
		}
	}
	return v.reconfigure(ctx, ref, oneChange(types.VirtualDeviceConfigSpecOperationAdd, &types.VirtualDisk{
		VDiskId: &o.id,
		VirtualDevice: types.VirtualDevice{
			Key: -1, ControllerKey: controller, UnitNumber: req.UnitNumber,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: o.name},
				DiskMode:                     string(types.VirtualDiskModePersistent),
			},
		},
	}))
}

// onlyController returns the key of the machine's only SCSI controller with a free unit. With none MissingController, with several the
// caller has to say which: both as the API documents.
func onlyController(m machine) (int32, types.BaseMethodFault) {
	p := planner{vm: m, result: plan{devices: m.devices}}
	var found []int32
	for _, d := range m.devices {
		if _, ok := d.(types.BaseVirtualSCSIController); !ok {
			continue
		}
		taken := p.taken(d.GetVirtualDevice().Key)
		taken[controllerUnit] = true
		if int32(len(taken)) < p.units(d) {
			found = append(found, d.GetVirtualDevice().Key)
		}
	}
	switch len(found) {
	case 0:
		return 0, new(types.MissingController)
	case 1:
		return found[0], nil
	}
	return 0, p.noController(0, 0)
}

// DetachDiskTask takes a first class disk from the machine's hardware.
func (s *shadow) DetachDiskTask(ctx *simulator.Context, req *types.DetachDisk_Task) soap.HasFault {
	body := new(methods.DetachDisk_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "DetachDisk_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.detachFirstClass(ctx, s.self, req.DiskId)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.DetachDisk_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) detachFirstClass(ctx *simulator.Context, ref types.ManagedObjectReference, id types.ID) types.BaseMethodFault {
	o, ok := v.firstClassByID(types.ManagedObjectReference{}, id)
	if !ok {
		return new(types.NotFound)
	}
	m, ok := v.look(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	file, fault := v.resolve(o.name)
	if fault != nil {
		return fault
	}
	disk := v.diskAt(m, file)
	if disk == nil {
		return new(types.NotFound)
	}
	return v.reconfigure(ctx, ref, oneChange(types.VirtualDeviceConfigSpecOperationRemove, &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{Key: disk.Key},
	}))
}
