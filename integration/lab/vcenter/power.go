package vcenter

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// PowerOnVMTask starts a machine if no other that runs has one of its disks, and gives the guest its disks.
func (s *shadow) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	body := new(methods.PowerOnVM_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "PowerOnVM_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.powerOn(ctx, s.self)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.PowerOnVM_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) powerOn(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	m, ok := v.look(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	files, fault := v.takeLocks(m)
	if fault != nil {
		return fault
	}
	defer v.dropLocks(files)
	vm, ok := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	res, ok := vm.PowerOnVMTask(v.context(ctx.Session.UserName), &types.PowerOnVM_Task{This: ref}).(*methods.PowerOnVM_TaskBody)
	if !ok {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	if res.Res == nil {
		return v.inner(res, types.ManagedObjectReference{})
	}
	if fault := v.inner(res, res.Res.Returnval); fault != nil {
		return fault
	}
	return v.plugAll(ctx, m)
}

// takeLocks reserves every disk of the machine, or returns the fault of the first that another machine has.
func (v *VCenter) takeLocks(m machine) ([]string, types.BaseMethodFault) {
	v.hw.Lock()
	defer v.hw.Unlock()
	var files []string
	var found []claim
	for _, d := range disks(m.devices) {
		name, shared := fileOf(d)
		f, fault := v.readDisk(name)
		if fault != nil {
			return nil, fault
		}
		if fault := v.conflict(f.file, name, m.ref, shared); fault != nil {
			return nil, fault
		}
		files = append(files, f.file)
		found = append(found, claim{vm: m.ref, name: m.name, on: true, shared: shared, disk: d})
	}
	for i, f := range files {
		v.reserved[f] = reservation{found[i]}
	}
	return files, nil
}

func (v *VCenter) dropLocks(files []string) {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, f := range files {
		delete(v.reserved, f)
	}
}

// guestDisks returns the disks that the guest of the machine is to have: all but those in the machine's own folder, from which it boots.
func (v *VCenter) guestDisks(m machine) []Disk {
	home, _ := v.resolve(m.config.folder)
	var out []Disk
	for _, d := range disks(m.devices) {
		name, _ := fileOf(d)
		f, fault := v.readDisk(name)
		if fault == nil && filepath.Dir(f.file) != home {
			out = append(out, asDisk(d, f))
		}
	}
	return out
}

func (v *VCenter) plugAll(ctx context.Context, m machine) types.BaseMethodFault {
	guest := v.guests[m.ref]
	if guest == nil {
		return nil
	}
	for _, d := range v.guestDisks(m) {
		if err := guest.Plug(ctx, d); err != nil {
			return guestFault("add", err)
		}
	}
	return nil
}

// PowerOffVMTask stops a machine, which lets go of its disks, and takes the disks from the guest.
func (s *shadow) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	body := new(methods.PowerOffVM_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "PowerOffVM_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.powerOff(ctx, s.self)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.PowerOffVM_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) powerOff(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	m, ok := v.look(ref)
	vm, isVM := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok || !isVM {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if guest := v.guests[ref]; guest != nil && m.on {
		for _, d := range v.guestDisks(m) {
			v.unplug(ctx, guest, d) // before anybody else can have the disk
		}
	}
	res, ok := vm.PowerOffVMTask(v.context(ctx.Session.UserName), &types.PowerOffVM_Task{This: ref}).(*methods.PowerOffVM_TaskBody)
	if !ok || res.Res == nil {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	return v.inner(res, res.Res.Returnval)
}

// PowerOnMultiVMTask is refused: vcsim would start the machines past the locks.
func (s *shadow) PowerOnMultiVMTask(*simulator.Context, *types.PowerOnMultiVM_Task) soap.HasFault {
	return &methods.PowerOnMultiVM_TaskBody{Fault_: simulator.Fault("power them on one by one", new(types.NotSupported))}
}

// DestroyTask deletes a machine that is off, and with it every disk in its configuration that no other machine has, but first class disks
// only if they are not to be kept (keepAfterDeleteVm).
func (s *shadow) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	body := new(methods.Destroy_TaskBody)
	ref, fault := s.v.start(ctx, operation{
		method: "Destroy_Task", entity: s.self, queue: true,
		run: func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.v.destroy(ctx, s.self)
		},
	})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.Destroy_TaskResponse{Returnval: ref}
	return body
}

func (v *VCenter) destroy(ctx *simulator.Context, ref types.ManagedObjectReference) types.BaseMethodFault {
	m, ok := v.look(ref)
	vm, isVM := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok || !isVM {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if m.on {
		return &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: types.VirtualMachinePowerStatePoweredOn,
		}
	}
	// vcsim would delete each disk by itself, whoever has it: take the disks from the configuration first.
	var bare []types.BaseVirtualDevice
	for _, d := range m.devices {
		if _, ok := d.(*types.VirtualDisk); !ok {
			bare = append(bare, d)
		}
	}
	v.reg.AtomicUpdate(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: bare}})
	v.hw.Lock()
	for _, d := range disks(m.devices) {
		delete(v.attached, association{ref, d.Key})
		name, _ := fileOf(d)
		f, fault := v.readDisk(name)
		if fault != nil {
			continue
		}
		v.consumed(f.file)
		v.deleteWithVM(f, name)
	}
	v.hw.Unlock()
	res, ok := vm.DestroyTask(v.context(ctx.Session.UserName), &types.Destroy_Task{This: ref}).(*methods.Destroy_TaskBody)
	if !ok || res.Res == nil {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	return v.inner(res, res.Res.Returnval)
}

// deleteWithVM deletes a disk of a machine that is being deleted, unless another machine has it, or it is a first class disk that is to stay.
// The caller holds v.hw.
func (v *VCenter) deleteWithVM(d diskFile, name string) {
	o, ok := v.firstClassAt(d.file)
	if len(v.claims(d.file)) > 0 || ok && o.keep {
		return
	}
	if fault := v.deleteDisk(d, name); fault != nil {
		v.log.Error("disk of a deleted virtual machine could not be deleted", "backing", name, "err", describe(fault))
		return
	}
	if ok {
		v.forget(o)
	}
}

// PowerOff stops the machine of that name, as somebody who pulls its plug.
func (v *VCenter) PowerOff(name string) error {
	return v.power(name, v.powerOff)
}

// PowerOn starts the machine of that name.
func (v *VCenter) PowerOn(name string) error {
	return v.power(name, v.powerOn)
}

func (v *VCenter) power(name string, do func(*simulator.Context, types.ManagedObjectReference) types.BaseMethodFault) error {
	m, err := v.find(name)
	if err != nil {
		return err
	}
	q := v.queues.get(m.ref)
	q.Lock()
	defer q.Unlock()
	if fault := do(v.context(v.admin.User), m.ref); fault != nil {
		return fmt.Errorf("power %s: %s", name, describe(fault))
	}
	return nil
}

// Machines returns the inventory with every machine's disks.
func (v *VCenter) Machines() []Machine {
	var out []Machine
	for _, e := range v.reg.All("VirtualMachine") {
		m, ok := v.look(e.Reference())
		if !ok {
			continue
		}
		vm := Machine{Name: m.name, BIOS: m.config.bios, Instance: m.config.instance, PoweredOn: m.on}
		if h, ok := v.reg.Get(m.host).(*simulator.HostSystem); ok {
			vm.Host = h.Name
		}
		for _, d := range disks(m.devices) {
			vm.Disks = append(vm.Disks, v.describeDisk(m, d))
		}
		out = append(out, vm)
	}
	sortMachines(out)
	return out
}

func (v *VCenter) describeDisk(m machine, d *types.VirtualDisk) Attached {
	name, _ := fileOf(d)
	a := Attached{Backing: name, Capacity: d.CapacityInBytes, Controller: d.ControllerKey}
	if d.UnitNumber != nil {
		a.Unit = *d.UnitNumber
	}
	if d.DeviceInfo != nil {
		a.Label = d.DeviceInfo.GetDescription().Label
	}
	if flat, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		a.UUID = flat.Uuid
	}
	v.hw.Lock()
	a.Profile = v.attached[association{m.ref, d.Key}]
	v.hw.Unlock()
	return a
}
