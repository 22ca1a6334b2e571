package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Machines returns the inventory with every machine's disks.
func (v *VCenter) Machines() []Machine {
	var out []Machine
	for _, e := range v.reg.All("VirtualMachine") {
		m, ok := v.look(e.Reference())
		if !ok {
			continue
		}
		vm := Machine{Name: m.name, BIOS: m.config.bios, Instance: m.config.instance, Runs: m.on}
		vm.PoweredOn = m.state == types.VirtualMachinePowerStatePoweredOn
		vm.Suspended = m.state == types.VirtualMachinePowerStateSuspended
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
