package vcenter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// Names of the inventory.
const (
	Datacenter     = "lab"
	Cluster        = "cluster"
	VSANDatastore  = "vsanDatastore"
	VMFSDatastore  = "vmfsDatastore"
	apiVersion     = "8.0.3.0"
	hardware       = "vmx-21"
	bootDiskKB     = 16 << 20
	pvscsiPerVM    = 4
	homeOption     = "vcsim.home"
	vmfsType       = "VMFS"
	pciKey         = 100
	scsiKey        = 1000 // of the first SCSI controller
	controllerUnit = 7    // the unit that a SCSI controller takes for itself
)

// building serialises the making of models: vcsim keeps licences and host templates in variables of its own, which it
// writes while it makes one.
var building sync.Mutex //nolint:gochecknoglobals // guards variables of another package

// build makes the model: a datacenter, a cluster with vSAN, a VMFS datastore, the virtual machines.
func (v *VCenter) build(ctx context.Context) error {
	building.Lock()
	defer building.Unlock()
	model := simulator.VPX()
	model.Datacenter, model.Datastore, model.Machine = 0, 0, 0
	model.ServiceContent.About.ApiVersion = apiVersion
	model.ServiceContent.About.Version = "8.0.3"
	if err := model.Create(); err != nil {
		return fmt.Errorf("create model: %w", err)
	}
	v.service, v.reg = model.Service, model.Service.Context.Map
	if err := v.moveHome(); err != nil {
		return err
	}
	c, err := vim25.NewClient(ctx, v.service)
	if err != nil {
		return fmt.Errorf("connect to simulator: %w", err)
	}
	v.content = c.ServiceContent
	dc, err := object.NewRootFolder(c).CreateDatacenter(ctx, Datacenter)
	if err != nil {
		return fmt.Errorf("create datacenter: %w", err)
	}
	v.dc = dc.Reference()
	folders, err := dc.Folders(ctx)
	if err != nil {
		return fmt.Errorf("find folders: %w", err)
	}
	cluster, hosts, err := v.addCluster(ctx, c, folders.HostFolder)
	if err != nil {
		return err
	}
	if err := v.addVMFS(ctx, hosts); err != nil {
		return err
	}
	if err := v.addHA(cluster, hosts); err != nil {
		return err
	}
	v.measure()
	pool, err := cluster.ResourcePool(ctx)
	if err != nil {
		return fmt.Errorf("find resource pool: %w", err)
	}
	v.spbm = newProfiles(v)
	v.service.RegisterSDK(v.spbm.registry())
	if !v.opts.Plain {
		v.reg.Handler = v.handle
	}
	for i, vm := range v.opts.VMs {
		if err := v.addVM(ctx, folders.VmFolder, pool, hosts[i%len(hosts)], vm); err != nil {
			return fmt.Errorf("create virtual machine %s: %w", vm.Name, err)
		}
	}
	return nil
}

// moveHome puts the simulator's files below the lab's directory, in place of the temporary one that it made.
func (v *VCenter) moveHome() error {
	dir, err := v.home()
	if err != nil {
		return err
	}
	for _, o := range v.reg.OptionManager().Setting {
		opt := o.GetOptionValue()
		if old, ok := opt.Value.(string); ok && opt.Key == homeOption {
			opt.Value = dir
			if err := os.Remove(old); err != nil {
				return fmt.Errorf("remove simulator's directory: %w", err)
			}
		}
	}
	return nil
}

func (v *VCenter) addCluster(ctx context.Context, c *vim25.Client, folder *object.Folder) (
	*object.ClusterComputeResource, []*object.HostSystem, error,
) {
	cluster, err := folder.CreateCluster(ctx, Cluster, types.ClusterConfigSpecEx{})
	if err != nil {
		return nil, nil, fmt.Errorf("create cluster: %w", err)
	}
	n := v.opts.Hosts
	if n == 0 {
		n = 3
	}
	var hosts []*object.HostSystem
	for i := range n {
		task, err := cluster.AddHost(ctx, types.HostConnectSpec{HostName: fmt.Sprintf("esx%d.lab", i+1)}, true, nil, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("add host: %w", err)
		}
		info, err := task.WaitForResult(ctx, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("add host: %w", err)
		}
		ref, _ := info.Result.(types.ManagedObjectReference)
		hosts = append(hosts, object.NewHostSystem(c, ref))
	}
	task, err := cluster.Reconfigure(ctx, &types.ClusterConfigSpecEx{VsanConfig: &types.VsanClusterConfigInfo{Enabled: new(true)}}, true)
	if err != nil {
		return nil, nil, fmt.Errorf("enable vSAN: %w", err)
	}
	if err := task.Wait(ctx); err != nil {
		return nil, nil, fmt.Errorf("enable vSAN: %w", err)
	}
	return cluster, hosts, nil
}

// addHA makes the hosts known to HA, and switches HA on.
func (v *VCenter) addHA(ref *object.ClusterComputeResource, hosts []*object.HostSystem) error {
	v.cluster = &cluster{
		v: v, ref: ref.Reference(), ha: v.opts.HA.withDefaults(), wake: make(chan struct{}, 1),
		watched: map[types.ManagedObjectReference]*watch{},
	}
	for _, h := range hosts {
		obj, ok := v.reg.Get(h.Reference()).(*simulator.HostSystem)
		if !ok {
			return fmt.Errorf("find host %s: no such object", h.Reference().Value)
		}
		v.cluster.hosts = append(v.cluster.hosts, &host{ref: h.Reference(), name: obj.Name})
	}
	if v.opts.HA.Off {
		return nil
	}
	if fault := v.configureCluster(&types.ClusterConfigSpecEx{DasConfig: &types.ClusterDasConfigInfo{Enabled: new(true)}}); fault != nil {
		return fmt.Errorf("enable HA: %w", asError(fault))
	}
	v.cluster.mu.Lock()
	defer v.cluster.mu.Unlock()
	v.showRoles(v.context(""))
	return nil
}

// addVMFS adds a datastore that no vSAN policy can be honoured on.
func (v *VCenter) addVMFS(ctx context.Context, hosts []*object.HostSystem) error {
	dir := filepath.Join(v.opts.Dir, "datastores", VMFSDatastore)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create datastore: %w", err)
	}
	var ref types.ManagedObjectReference
	for _, h := range hosts {
		dss, err := h.ConfigManager().DatastoreSystem(ctx)
		if err != nil {
			return fmt.Errorf("create datastore: %w", err)
		}
		ds, err := dss.CreateLocalDatastore(ctx, VMFSDatastore, dir)
		if err != nil {
			return fmt.Errorf("create datastore: %w", err)
		}
		if ref.Value == "" { // vcsim returns a reference to nothing for the later hosts
			ref = ds.Reference()
		}
	}
	sctx := v.context("")
	obj := v.reg.Get(ref)
	v.reg.AtomicUpdate(sctx, obj, []types.PropertyChange{{Name: "summary.type", Val: vmfsType}})
	return nil
}

// addVM creates and starts a virtual machine with four PVSCSI controllers and a boot disk, and then gives it its guest:
// the boot disk is no business of the guest's.
func (v *VCenter) addVM(ctx context.Context, folder *object.Folder, pool *object.ResourcePool, host *object.HostSystem, vm VM) error {
	var controllers []types.BaseVirtualDeviceConfigSpec
	for bus := range int32(pvscsiPerVM) {
		ctl := &types.ParaVirtualSCSIController{}
		ctl.Key, ctl.ControllerKey, ctl.BusNumber = scsiKey+bus, pciKey, bus
		ctl.ScsiCtlrUnitNumber, ctl.SharedBus = controllerUnit, types.VirtualSCSISharingNoSharing
		controllers = append(controllers, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: ctl,
		})
	}
	task, err := folder.CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name: vm.Name, Uuid: vm.BIOS, InstanceUuid: vm.Instance, Version: hardware,
		GuestId:  string(types.VirtualMachineGuestOsIdentifierDebian12_64Guest),
		NumCPUs:  2,
		MemoryMB: 4096,
		Files:    &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s]", VSANDatastore)},
		ExtraConfig: []types.BaseOptionValue{
			&types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"},
		},
		DeviceChange: controllers,
	}, pool, host)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return err
	}
	ref, _ := info.Result.(types.ManagedObjectReference)
	m := object.NewVirtualMachine(folder.Client(), ref)
	if err := v.addBootDisk(ctx, m, vm.Name); err != nil {
		return err
	}
	if vm.Guest != nil {
		v.process(ref).guest = vm.Guest
	}
	if vm.Off {
		return nil
	}
	task, err = m.PowerOn(ctx)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// addBootDisk gives the machine its first disk, so that volumes are its second and later ones.
func (v *VCenter) addBootDisk(ctx context.Context, m *object.VirtualMachine, name string) error {
	if v.opts.Plain {
		return nil
	}
	unit := int32(0)
	task, err := m.Reconfigure(ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{
			Operation:     types.VirtualDeviceConfigSpecOperationAdd,
			FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate,
			Device: &types.VirtualDisk{
				CapacityInKB: bootDiskKB,
				VirtualDevice: types.VirtualDevice{
					Key: -1, ControllerKey: scsiKey, UnitNumber: &unit,
					Backing: &types.VirtualDiskFlatVer2BackingInfo{
						VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
							FileName: fmt.Sprintf("[%s] %s/%s.vmdk", VSANDatastore, name, name),
						},
						DiskMode:        string(types.VirtualDiskModePersistent),
						ThinProvisioned: new(true),
					},
				},
			},
		},
	}})
	if err != nil {
		return fmt.Errorf("add boot disk: %w", err)
	}
	if err := task.Wait(ctx); err != nil {
		return fmt.Errorf("add boot disk: %w", err)
	}
	return nil
}
