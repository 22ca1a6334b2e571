package esx

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	govmomisession "github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// Inspect returns what vCenter says of our virtual machine that matters to its volumes. What the account may not read is unknown; an error is only that vCenter cannot
// be asked, or does not know the machine.
func (h *Host) Inspect(ctx context.Context) (mooring.Inspection, error) {
	var in mooring.Inspection
	p, err := h.place(ctx)
	if err != nil {
		return in, err
	}
	if in.Machine, err = h.Machine(ctx); err != nil {
		return in, err
	}
	var vm mo.VirtualMachine
	names := []string{"config.extraConfig", "config.flags", "config.hardware.device", "snapshot", "runtime.host", "resourcePool"}
	seen, err := h.lenient(ctx, p.client, p.vm.Self, names, &vm)
	if err != nil {
		return in, fmt.Errorf("inspect %s: %w", p.vm.Name, err)
	}
	in.SnapshotsOK = mooring.FactOf(true)
	if slices.Contains(seen.refused, "snapshot") {
		in.SnapshotsOK = mooring.Unknown
	}
	if vm.Snapshot != nil {
		in.Snapshots = snapshotNames(vm.Snapshot.RootSnapshotList)
	}
	if vm.Config != nil {
		in.DiskUUIDs = diskUUIDs(vm.Config.ExtraConfig, vm.Config.Flags, seen)
		in.Controllers = len(parseHardware("", vm.Config.Hardware.Device).controllers)
	}
	if in.Twins, err = h.twins(ctx, p); err != nil {
		return in, err
	}
	in.HA = h.inspectHA(ctx, p, vm)
	in.Missing, in.RightsOK = h.missingRights(ctx, p)
	if _, err := h.session.Profiles(ctx); err != nil {
		in.Policies = err.Error()
	}
	return in, nil
}

// readable says which properties were answered, and which were refused.
type readable struct{ got, refused []string }

// lenient reads properties of one object, those that the account may read. An object that the account may not see at all has none.
func (h *Host) lenient(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, names []string, dst any) (readable, error) {
	var seen readable
	var content []types.ObjectContent
	err := read(ctx, func() error {
		res, err := property.DefaultCollector(c).RetrieveProperties(ctx, types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: ref}}, PropSet: []types.PropertySpec{{Type: ref.Type, PathSet: names}},
		}}})
		if err == nil {
			content = res.Returnval
		}
		return err
	})
	if c := classOf(err); c == permanent || c == done {
		return readable{refused: names}, nil
	}
	if err != nil {
		return seen, err
	}
	for i := range content {
		for _, m := range content[i].MissingSet {
			seen.refused = append(seen.refused, m.Path)
		}
		for _, p := range content[i].PropSet {
			seen.got = append(seen.got, p.Name)
		}
		content[i].MissingSet = nil
	}
	if len(content) == 0 {
		return readable{refused: names}, nil
	}
	return seen, mo.LoadObjectContent(content, dst)
}

// diskUUIDs says whether the guest sees the disks' UUIDs: by the machine's flag, or by the setting that makes it so.
func diskUUIDs(extra []types.BaseOptionValue, flags types.VirtualMachineFlagInfo, seen readable) mooring.Fact {
	for _, o := range extra {
		if v := o.GetOptionValue(); strings.EqualFold(v.Key, "disk.EnableUUID") {
			return mooring.FactOf(strings.EqualFold(fmt.Sprint(v.Value), "true"))
		}
	}
	switch {
	case flags.DiskUuidEnabled != nil:
		return mooring.FactOf(*flags.DiskUuidEnabled)
	case slices.Contains(seen.got, "config.extraConfig"):
		return mooring.No
	default:
		return mooring.Unknown
	}
}

func snapshotNames(trees []types.VirtualMachineSnapshotTree) []string {
	var names []string
	for _, t := range trees {
		names = append(append(names, t.Name), snapshotNames(t.ChildSnapshotList)...)
	}
	return names
}

// twins names the other machines in view that have our BIOS UUID.
func (h *Host) twins(ctx context.Context, p *place) ([]string, error) {
	forms, err := uuidForms(h.where.VM)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, uuid := range forms {
		err := read(ctx, func() error {
			found, err := object.NewSearchIndex(p.client).FindAllByUuid(ctx, nil, uuid, true, nil)
			for _, f := range found {
				var vm mo.VirtualMachine
				if f.Reference() == p.vm.Self {
					continue
				}
				if _, err := h.lenient(ctx, p.client, f.Reference(), []string{"name"}, &vm); err != nil {
					return err
				}
				if !slices.Contains(names, vm.Name) {
					names = append(names, vm.Name)
				}
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for machines with BIOS UUID %s: %w", uuid, err)
		}
	}
	slices.Sort(names)
	return names, nil
}

// inspectHA says what HA would do, as far as the account sees the cluster.
func (h *Host) inspectHA(ctx context.Context, p *place, vm mo.VirtualMachine) mooring.HA {
	owner := h.computeOf(ctx, p, vm)
	switch {
	case owner == nil:
		return mooring.HA{}
	case owner.Type != "ClusterComputeResource":
		return mooring.HA{Enabled: mooring.No, Restart: mooring.No} // a host by itself
	}
	var cluster mo.ClusterComputeResource
	if _, err := h.lenient(ctx, p.client, *owner, []string{"name", "configurationEx"}, &cluster); err != nil {
		return mooring.HA{}
	}
	config, ok := cluster.ConfigurationEx.(*types.ClusterConfigInfoEx)
	if !ok {
		return mooring.HA{Cluster: cluster.Name}
	}
	return haOf(cluster.Name, *config, p.vm.Self)
}

// computeOf returns the cluster or host that the machine runs on, or nil if the account does not see it: by its host, or by its resource pool.
func (h *Host) computeOf(ctx context.Context, p *place, vm mo.VirtualMachine) *types.ManagedObjectReference {
	var host mo.HostSystem
	if vm.Runtime.Host != nil {
		if _, err := h.lenient(ctx, p.client, *vm.Runtime.Host, []string{"parent"}, &host); err == nil && host.Parent != nil {
			return host.Parent
		}
	}
	var pool mo.ResourcePool
	if vm.ResourcePool != nil {
		if _, err := h.lenient(ctx, p.client, *vm.ResourcePool, []string{"owner"}, &pool); err == nil && pool.Owner.Value != "" {
			return &pool.Owner
		}
	}
	return nil
}

// haOf reads what the cluster's configuration says of the machine. It is pure.
func haOf(cluster string, config types.ClusterConfigInfoEx, vm types.ManagedObjectReference) mooring.HA {
	ha := mooring.HA{Cluster: cluster, Override: mooring.No}
	if config.DasConfig.Enabled != nil {
		ha.Enabled = mooring.FactOf(*config.DasConfig.Enabled)
	}
	const disabled = string(types.ClusterDasVmSettingsRestartPriorityDisabled)
	priority := ""
	if d := config.DasConfig.DefaultVmSettings; d != nil {
		priority = d.RestartPriority
	}
	for _, o := range config.DasVmConfig {
		if o.Key != vm {
			continue
		}
		ha.Override = mooring.Yes
		own := string(o.RestartPriority) // before vSphere 4
		if o.DasSettings != nil && o.DasSettings.RestartPriority != "" {
			own = o.DasSettings.RestartPriority
		}
		if own != "" && own != string(types.ClusterDasVmSettingsRestartPriorityClusterRestartPriority) {
			priority = own
		}
	}
	ha.Restart = ha.Enabled
	if priority == disabled {
		ha.Restart = mooring.No
	}
	return ha
}

// missingRights asks vCenter which of the privileges that attaching and making volumes needs the account lacks.
func (h *Host) missingRights(ctx context.Context, p *place) ([]string, mooring.Fact) {
	session, err := govmomisession.NewManager(p.client).UserSession(ctx)
	if err != nil || session == nil || p.client.ServiceContent.AuthorizationManager == nil {
		return nil, mooring.Unknown
	}
	var missing []string
	for _, need := range [...]struct {
		entity types.ManagedObjectReference
		name   string
		privs  []string
	}{
		{p.vm.Self, p.vm.Name, []string{"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.RemoveDisk"}},
		{p.ds.Self, p.ds.Name, []string{"Datastore.Browse", "Datastore.FileManagement", "Datastore.AllocateSpace"}},
		{p.client.ServiceContent.RootFolder, "the root folder", []string{"StorageProfile.View"}},
	} {
		var res *types.HasPrivilegeOnEntitiesResponse
		err := read(ctx, func() (err error) {
			res, err = methods.HasPrivilegeOnEntities(ctx, p.client, &types.HasPrivilegeOnEntities{
				This: *p.client.ServiceContent.AuthorizationManager, Entity: []types.ManagedObjectReference{need.entity},
				SessionId: session.Key, PrivId: need.privs,
			})
			return err
		})
		if err != nil {
			h.log.Debug("ask for privileges", "err", err)
			return missing, mooring.Unknown
		}
		for _, e := range res.Returnval {
			for _, a := range e.PrivAvailability {
				if !a.IsGranted {
					missing = append(missing, a.PrivId+" on "+need.name)
				}
			}
		}
	}
	return missing, mooring.FactOf(len(missing) == 0)
}
