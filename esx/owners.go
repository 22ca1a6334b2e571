package esx

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// owner is a virtual machine that has a disk in its hardware list.
type owner struct {
	device

	vm    types.ManagedObjectReference
	name  string
	power types.VirtualMachinePowerState
}

// inUse says who has the disk, and what to do about it.
func (o owner) inUse(b mooring.Backing) error {
	switch o.power {
	case types.VirtualMachinePowerStatePoweredOn:
		return &mooring.HintError{
			Err:  fmt.Errorf("%s is attached to the virtual machine %s, which is powered on: %w", b, o.name, mooring.ErrInUse),
			Hint: "stop the containers that use the volume on " + o.name,
		}
	case types.VirtualMachinePowerStateSuspended:
		return &mooring.HintError{
			Err:  fmt.Errorf("%s is attached to the virtual machine %s, which is suspended: %w", b, o.name, mooring.ErrInUse),
			Hint: "resume " + o.name + " and stop the containers that use the volume there",
		}
	default:
		return &mooring.HintError{
			Err:  fmt.Errorf("%s is in the configuration of the virtual machine %s, which is powered off: %w", b, o.name, mooring.ErrInUse),
			Hint: "remove the disk from the configuration of " + o.name + ", keeping its file; otherwise that machine could not be powered on again",
		}
	}
}

// owners returns, for each of the disks, which virtual machines in view have it, our own among them. A machine whose hardware the account may not read,
// or that is being removed, is not in view.
func (h *Host) owners(ctx context.Context, p *place, ids []identity) ([][]owner, error) {
	found := make([][]owner, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	var content []types.ObjectContent
	err := read(ctx, func() error {
		v, err := view.NewManager(p.client).CreateContainerView(ctx, p.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
		if err != nil {
			return err
		}
		defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
		return v.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name", "runtime.powerState", "config.hardware.device"}, &content)
	})
	if err != nil {
		return nil, fmt.Errorf("look which virtual machines have the disk: %w", err)
	}
	for _, o := range content {
		o.MissingSet = nil
		var vm mo.VirtualMachine
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &vm); err != nil || vm.Config == nil {
			continue
		}
		disks := parseDisks(vm.Config.Hardware.Device)
		for i, id := range ids {
			if d := findDisks(disks, id); len(d) > 0 {
				found[i] = append(found[i], owner{device: d[0], vm: o.Obj, name: vm.Name, power: vm.Runtime.PowerState})
			}
		}
	}
	return found, nil
}
