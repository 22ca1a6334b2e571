package esx

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// machine is a virtual machine in view, with its disks. Its power state is the last that vCenter heard of: it stands while the host answers.
type machine struct {
	ref        types.ManagedObjectReference
	name       string
	power      types.VirtualMachinePowerState
	connection types.VirtualMachineConnectionState
	host       *types.ManagedObjectReference
	version    string // config.changeVersion
	disks      []device
}

// owner is a virtual machine that has a disk in its hardware list.
type owner struct {
	device
	machine
}

// silent tells whether the machine's host has been lost: what the machine does there is not known.
func (m machine) silent() bool {
	return m.connection != "" && m.connection != types.VirtualMachineConnectionStateConnected
}

// inUse says who has the disk of the volume, and what to do about it.
func (o owner) inUse(name mooring.Name, b mooring.Backing) error {
	say := func(state, hint string) error {
		return &mooring.HintError{
			Err:  fmt.Errorf("%s is %s: %w", b, fmt.Sprintf(state, "the virtual machine "+o.name), mooring.ErrInUse),
			Hint: hint,
		}
	}
	switch {
	case o.silent():
		return say("attached to %s, whose host does not answer", "wait until the host of "+o.name+" answers, or "+o.name+" runs elsewhere")
	case o.power == types.VirtualMachinePowerStatePoweredOn:
		return say("attached to %s, which is powered on", "stop the containers that use the volume on "+o.name)
	case o.power == types.VirtualMachinePowerStateSuspended:
		return say("attached to %s, which is suspended", "resume "+o.name+" and stop the containers that use the volume there")
	default:
		return say("in the configuration of %s, which is powered off", "mooring volume release "+word(string(name))+" --from "+word(o.name))
	}
}

// word returns s as a shell takes it for one word.
func word(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+:,/", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// owners returns, for each of the disks, which virtual machines in view have it, our own among them.
func (h *Host) owners(ctx context.Context, p *place, ids []identity) ([][]owner, error) {
	found := make([][]owner, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	all, err := h.machines(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("look which virtual machines have the disk: %w", err)
	}
	for _, m := range all {
		for i, id := range ids {
			if d := findDisks(m.disks, id); len(d) > 0 {
				found[i] = append(found[i], owner{device: d[0], machine: m})
			}
		}
	}
	return found, nil
}

// machines returns all virtual machines in view. One whose hardware the account may not read, or that is being removed, is not in view.
func (h *Host) machines(ctx context.Context, p *place) ([]machine, error) {
	var content []types.ObjectContent
	err := read(ctx, func() error {
		v, err := view.NewManager(p.client).CreateContainerView(ctx, p.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
		if err != nil {
			return err
		}
		defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
		return v.Retrieve(ctx, []string{"VirtualMachine"}, []string{
			"name", "runtime.powerState", "runtime.connectionState", "runtime.host", "config.changeVersion", "config.hardware.device",
		}, &content)
	})
	if err != nil {
		return nil, err
	}
	all := make([]machine, 0, len(content))
	for _, o := range content {
		o.MissingSet = nil
		var vm mo.VirtualMachine
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &vm); err != nil || vm.Config == nil {
			continue
		}
		all = append(all, machine{
			ref: o.Obj, name: vm.Name, power: vm.Runtime.PowerState, connection: vm.Runtime.ConnectionState, host: vm.Runtime.Host,
			version: vm.Config.ChangeVersion, disks: parseDisks(vm.Config.Hardware.Device),
		})
	}
	return all, nil
}
