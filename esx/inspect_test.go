package esx_test

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// What HA would do for a machine is what the cluster says of it, then what it says of all.
func TestHAOfAMachine(t *testing.T) {
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}
	other := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-2"}
	settings := func(priority string) *types.ClusterDasVmSettings {
		return &types.ClusterDasVmSettings{RestartPriority: priority}
	}
	override := func(ref types.ManagedObjectReference, priority string) []types.ClusterDasVmConfigInfo {
		return []types.ClusterDasVmConfigInfo{{Key: ref, DasSettings: settings(priority)}}
	}
	for name, c := range map[string]struct {
		das       types.ClusterDasConfigInfo
		overrides []types.ClusterDasVmConfigInfo
		want      mooring.HA
	}{
		"on":      {types.ClusterDasConfigInfo{Enabled: new(true)}, nil, mooring.HA{Enabled: "yes", Restart: "yes", Override: "no"}},
		"off":     {types.ClusterDasConfigInfo{Enabled: new(false)}, nil, mooring.HA{Enabled: "no", Restart: "no", Override: "no"}},
		"unsaid":  {types.ClusterDasConfigInfo{}, nil, mooring.HA{Override: "no"}},
		"not me":  {types.ClusterDasConfigInfo{Enabled: new(true)}, override(other, "disabled"), mooring.HA{Enabled: "yes", Restart: "yes", Override: "no"}},
		"never":   {types.ClusterDasConfigInfo{Enabled: new(true)}, override(vm, "disabled"), mooring.HA{Enabled: "yes", Restart: "no", Override: "yes"}},
		"first":   {types.ClusterDasConfigInfo{Enabled: new(true)}, override(vm, "highest"), mooring.HA{Enabled: "yes", Restart: "yes", Override: "yes"}},
		"none is": {types.ClusterDasConfigInfo{Enabled: new(true), DefaultVmSettings: settings("disabled")}, nil, mooring.HA{Enabled: "yes", Restart: "no", Override: "no"}},
		"none but me": {
			types.ClusterDasConfigInfo{Enabled: new(true), DefaultVmSettings: settings("disabled")},
			override(vm, "high"),
			mooring.HA{Enabled: "yes", Restart: "yes", Override: "yes"},
		},
		"as the others": {
			types.ClusterDasConfigInfo{Enabled: new(true), DefaultVmSettings: settings("disabled")},
			override(vm, "clusterRestartPriority"),
			mooring.HA{Enabled: "yes", Restart: "no", Override: "yes"},
		},
	} {
		c.want.Cluster = "C"
		if got := esx.HAOf("C", types.ClusterConfigInfoEx{DasConfig: c.das, DasVmConfig: c.overrides}, vm); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// poor is vCenter's word on an account that lacks a privilege.
type poor struct {
	*simulator.AuthorizationManager

	lacks string
}

// HasPrivilegeOnEntities implements the method.
func (p *poor) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	res := p.AuthorizationManager.HasPrivilegeOnEntities(req)
	body, ok := res.(*methods.HasPrivilegeOnEntitiesBody)
	if !ok {
		return res
	}
	for _, e := range body.Res.Returnval {
		for i := range e.PrivAvailability {
			e.PrivAvailability[i].IsGranted = e.PrivAvailability[i].PrivId != p.lacks
		}
	}
	return body
}

// What doctor looks at is read from a vCenter, and an account that may not read it is told that it is not known.
func TestInspect(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	ctx, reg := v.model.Service.Context, v.model.Map()
	auth, ok := reg.Get(*v.model.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	if !ok {
		t.Fatal("the simulator has no authorization manager")
	}
	reg.Put(&poor{auth, "VirtualMachine.Config.RemoveDisk"})
	in, err := h.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if in.Machine.Name != v.vm.Name || in.DiskUUIDs == mooring.Yes || in.SnapshotsOK != mooring.Yes || len(in.Snapshots) != 0 || len(in.Twins) != 0 {
		t.Errorf("got %+v", in)
	}
	if want := []string{"VirtualMachine.Config.RemoveDisk on " + v.vm.Name}; !slices.Equal(in.Missing, want) || in.RightsOK != mooring.No {
		t.Errorf("rights: got %v, %q, want %v", in.Missing, in.RightsOK, want)
	}
	other := v.other()
	reg.WithLock(ctx, v.vm.Reference(), func() {
		v.vm.Config.ExtraConfig = append(v.vm.Config.ExtraConfig, &types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"})
		v.vm.Snapshot = &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{{
			Name: "before", ChildSnapshotList: []types.VirtualMachineSnapshotTree{{Name: "after"}},
		}}}
	})
	reg.WithLock(ctx, other.Reference(), func() {
		other.Config.Uuid, other.Runtime.PowerState = v.vm.Config.Uuid, types.VirtualMachinePowerStatePoweredOff
	})
	if in, err = h.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if in.DiskUUIDs != mooring.Yes || !slices.Equal(in.Snapshots, []string{"before", "after"}) || !slices.Equal(in.Twins, []string{other.Name}) {
		t.Errorf("got %+v, want UUIDs, two snapshots and a twin", in)
	}
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method == "HasPrivilegeOnEntities" {
			return &types.NoPermission{}
		}
		return nil
	})
	if in, err = h.Inspect(t.Context()); err != nil || in.RightsOK != mooring.Unknown {
		t.Errorf("rights that nobody tells: got %q, %v, want unknown", in.RightsOK, err)
	}
}
