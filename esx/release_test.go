package esx_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// G16: a machine may still write whose host is not known to have stopped it. Its power state is only what was last heard of then.
func TestG16MachineThatMayStillWrite(t *testing.T) {
	const (
		connected, disconnected = types.VirtualMachineConnectionStateConnected, types.VirtualMachineConnectionStateDisconnected
		on, off                 = types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff
		up, silent              = types.HostSystemConnectionStateConnected, types.HostSystemConnectionStateNotResponding
	)
	for name, c := range map[string]struct {
		machine types.VirtualMachineConnectionState
		power   types.VirtualMachinePowerState
		host    types.HostSystemConnectionState
		want    error
	}{
		"powered off":                          {connected, off, up, nil},
		"powered off, host not readable":       {connected, off, "", nil},
		"powered on":                           {connected, on, up, mooring.ErrInUse},
		"suspended":                            {connected, types.VirtualMachinePowerStateSuspended, up, mooring.ErrInUse},
		"host lost":                            {disconnected, on, silent, mooring.ErrFenced},
		"host lost, was off when last heard":   {disconnected, off, silent, mooring.ErrFenced},
		"host lost, machine not told yet":      {connected, off, silent, mooring.ErrFenced},
		"host cut off by an administrator":     {connected, off, types.HostSystemConnectionStateDisconnected, mooring.ErrFenced},
		"not readable":                         {"", off, "", mooring.ErrFenced},
		"its files cannot be read":             {types.VirtualMachineConnectionStateInaccessible, off, up, mooring.ErrFenced},
		"its power state is none of the three": {connected, "", up, mooring.ErrFenced},
	} {
		err := esx.StillWrites("docker1", c.machine, c.power, c.host, volume(1))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		hint, ok := errors.AsType[*mooring.HintError](err)
		if c.want != nil && (!ok || hint.Hint == "" || !strings.Contains(err.Error(), "docker1 may still write")) {
			t.Errorf("%s: got %v, want the machine named, and a hint", name, err)
		}
	}
}

// G6, G16: what is removed from the other machine's configuration is the one device, without a file operation; the states are vCenter's.
func TestG16ReleaseRemovesTheDeviceAndNothingElse(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol, kept := create(t, h, "db"), create(t, h, "kept")
	other := v.other()
	beside := disk(-2, 202, 13, kept, types.VirtualDiskModeIndependent_persistent)
	v.reconfigure(t, other.Self, adding(vol),
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: beside})
	set := func(power types.VirtualMachinePowerState, connection types.VirtualMachineConnectionState) {
		ctx := v.model.Service.Context
		v.model.Map().WithLock(ctx, other.Reference(), func() {
			other.Runtime.PowerState, other.Runtime.ConnectionState = power, connection
		})
	}
	for _, refused := range []struct {
		power      types.VirtualMachinePowerState
		connection types.VirtualMachineConnectionState
		want       error
	}{
		{types.VirtualMachinePowerStatePoweredOn, types.VirtualMachineConnectionStateConnected, mooring.ErrInUse},
		{types.VirtualMachinePowerStateSuspended, types.VirtualMachineConnectionStateConnected, mooring.ErrInUse},
		{types.VirtualMachinePowerStatePoweredOff, types.VirtualMachineConnectionStateDisconnected, mooring.ErrFenced},
	} {
		set(refused.power, refused.connection)
		before := v.count("ReconfigVM_Task")
		released, err := h.Release(t.Context(), vol, other.Name)
		if released || !errors.Is(err, refused.want) || v.count("ReconfigVM_Task") != before {
			t.Errorf("%s, %s: got %t, %v, want %v and no task", refused.power, refused.connection, released, err, refused.want)
		}
	}
	set(types.VirtualMachinePowerStatePoweredOff, types.VirtualMachineConnectionStateConnected)
	var operations []string
	v.refuse(func(method string, body any) types.BaseMethodFault {
		if req, ok := body.(*types.ReconfigVM_Task); ok {
			for _, c := range req.Spec.DeviceChange {
				change := c.GetVirtualDeviceConfigSpec()
				operations = append(operations, string(change.Operation)+string(change.FileOperation))
			}
		}
		return nil
	})
	if released, err := h.Release(t.Context(), vol, other.Name); !released || err != nil {
		t.Fatalf("got %t, %v, want it released", released, err)
	}
	if len(operations) != 1 || operations[0] != "remove" {
		t.Errorf("got changes %v, want one removal without a file operation", operations)
	}
	var disks []string
	for _, d := range other.Config.Hardware.Device {
		if b, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && strings.Contains(b.FileName, "dockvols") {
			disks = append(disks, b.FileName)
		}
	}
	if len(disks) != 1 || disks[0] != string(kept.Backing) {
		t.Errorf("the other machine has %v, want %s alone", disks, kept.Backing)
	}
	if _, err := h.Find(t.Context(), "db"); err != nil {
		t.Errorf("the released disk: %v", err)
	}
}

// G16: a machine that is busy may be busy with being powered on. Its state is read again before the next try.
func TestG16ReleaseLooksAgainBeforeEachTry(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	other := v.other()
	v.reconfigure(t, other.Self, adding(vol))
	setPower := func(s types.VirtualMachinePowerState) {
		v.model.Map().WithLock(v.model.Service.Context, other.Reference(), func() { other.Runtime.PowerState = s })
	}
	setPower(types.VirtualMachinePowerStatePoweredOff)
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method != "ReconfigVM_Task" {
			return nil
		}
		other.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOn // the handler has the machine's lock
		return &types.TaskInProgress{}
	})
	tasks := v.count("ReconfigVM_Task")
	if released, err := h.Release(t.Context(), vol, other.Name); released || !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("got %t, %v, want ErrInUse", released, err)
	}
	if n := v.count("ReconfigVM_Task") - tasks; n != 1 {
		t.Errorf("got %d tries, want 1", n)
	}
}

// G16: whose claim it is, and whose it is not, is said.
func TestG16ReleaseNamesWhoHasTheDisk(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	list := v.machines()
	var third *simulator.VirtualMachine
	for _, vm := range list {
		if vm != v.vm && vm != v.other() {
			third = vm
		}
	}
	if released, err := h.Release(t.Context(), vol, third.Name); released || err != nil {
		t.Errorf("nobody has it: got %t, %v, want nothing to release", released, err)
	}
	v.reconfigure(t, v.other().Self, adding(vol))
	released, err := h.Release(t.Context(), vol, third.Name)
	hint, ok := errors.AsType[*mooring.HintError](err)
	if released || !errors.Is(err, mooring.ErrInUse) || !ok || hint.Hint != "mooring volume release db --from "+v.other().Name {
		t.Errorf("another has it: got %t, %v, want %s named", released, err, v.other().Name)
	}
}
