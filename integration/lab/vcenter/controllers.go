package vcenter

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// addController adds a SCSI controller on the next free bus.
func (p *planner) addController(i int, dev types.BaseVirtualDevice) types.BaseMethodFault {
	used := map[int32]bool{}
	for _, d := range p.result.devices {
		if c, ok := d.(types.BaseVirtualSCSIController); ok {
			used[c.GetVirtualSCSIController().BusNumber] = true
		}
	}
	if len(used) >= maxSCSI {
		return &types.TooManyDevices{InvalidVmConfig: types.InvalidVmConfig{Property: fmt.Sprintf("virtualDeviceSpec[%d]", i)}}
	}
	added := clone(dev)
	c, ok := added.(types.BaseVirtualSCSIController)
	if !ok {
		return invalid(i, "device")
	}
	ctl := c.GetVirtualSCSIController()
	for ctl.BusNumber = 0; used[ctl.BusNumber]; {
		ctl.BusNumber++
	}
	p.keys[ctl.Key] = scsiKey + ctl.BusNumber
	ctl.Key = scsiKey + ctl.BusNumber
	ctl.ScsiCtlrUnitNumber = controllerUnit
	ctl.DeviceInfo = &types.Description{Label: fmt.Sprintf("SCSI controller %d", ctl.BusNumber), Summary: "VMware paravirtual SCSI"}
	if ctl.SharedBus == "" {
		ctl.SharedBus = types.VirtualSCSISharingNoSharing
	}
	p.result.devices = append(p.result.devices, added)
	p.result.addBus = append(p.result.addBus, int(ctl.BusNumber))
	return nil
}

// removeController removes a SCSI controller that has no devices.
func (p *planner) removeController(i int, key int32) types.BaseMethodFault {
	at := p.index(key)
	if at < 0 || len(p.taken(key)) > 0 {
		return invalid(i, "device.key")
	}
	if c, ok := p.result.devices[at].(types.BaseVirtualSCSIController); ok {
		p.result.removeBus = append(p.result.removeBus, int(c.GetVirtualSCSIController().BusNumber))
	}
	p.result.devices = slices.Delete(p.result.devices, at, at+1)
	return nil
}

// relink makes every controller list its devices. Controllers are copied, because readers may hold the old ones.
func (p *planner) relink() {
	for i, d := range p.result.devices {
		if _, ok := d.(types.BaseVirtualController); !ok {
			continue
		}
		copied := clone(d)
		c, _ := copied.(types.BaseVirtualController)
		ctl := c.GetVirtualController()
		ctl.Device = nil
		for _, child := range p.result.devices {
			if dev := child.GetVirtualDevice(); dev.ControllerKey == ctl.Key && dev.Key != ctl.Key {
				ctl.Device = append(ctl.Device, dev.Key)
			}
		}
		p.result.devices[i] = copied
	}
}
