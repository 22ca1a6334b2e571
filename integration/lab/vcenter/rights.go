package vcenter

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Privileges that the lab knows.
const (
	privBrowse       = "Datastore.Browse"
	privFiles        = "Datastore.FileManagement"
	privAllocate     = "Datastore.AllocateSpace"
	privDatastore    = "Datastore.Config"
	privAddExisting  = "VirtualMachine.Config.AddExistingDisk"
	privAddNew       = "VirtualMachine.Config.AddNewDisk"
	privRemoveDisk   = "VirtualMachine.Config.RemoveDisk"
	privEditDevice   = "VirtualMachine.Config.EditDevice"
	privExtend       = "VirtualMachine.Config.DiskExtend"
	privAddRemove    = "VirtualMachine.Config.AddRemoveDevice"
	privAdvanced     = "VirtualMachine.Config.AdvancedConfig"
	privSettings     = "VirtualMachine.Config.Settings"
	privPowerOn      = "VirtualMachine.Interact.PowerOn"
	privReset        = "VirtualMachine.Interact.Reset"
	privPowerOff     = "VirtualMachine.Interact.PowerOff"
	privDelete       = "VirtualMachine.Inventory.Delete"
	privProfileView  = "StorageProfile.View"
	privProfileWrite = "StorageProfile.Update"
	privAll          = "lab.everything"
)

// PluginPrivileges returns what the volume plugin's account is to have: it may use disks and profiles, not make policies,
// nor touch the power or the existence of a virtual machine.
func PluginPrivileges() []string {
	return []string{
		privBrowse, privFiles, privAllocate, privDatastore,
		privAddExisting, privRemoveDisk, privEditDevice, privExtend,
		privProfileView,
	}
}

// allowed returns NoPermission if the account lacks a right that the call needs.
func (v *VCenter) allowed(user string, m *simulator.Method) types.BaseMethodFault {
	for _, need := range needs(m) {
		if !v.may(user, need) {
			return &types.NoPermission{Object: &m.This, PrivilegeId: need}
		}
	}
	return nil
}

// needs returns the privileges that a call requires, as the API's documentation has them. What is neither listed nor a mere look
// requires a privilege that only the administrator has.
func needs(m *simulator.Method) []string {
	switch m.Name {
	case "ReconfigVM_Task":
		if req, ok := m.Body.(*types.ReconfigVM_Task); ok {
			return reconfigNeeds(req.Spec)
		}
	case "PowerOnVM_Task", "PowerOnMultiVM_Task":
		return []string{privPowerOn}
	case "ResetVM_Task":
		return []string{privReset}
	case "PowerOffVM_Task", "SuspendVM_Task", "ShutdownGuest":
		return []string{privPowerOff}
	case "Destroy_Task", "UnregisterVM":
		return []string{privDelete}
	case "CreateVirtualDisk_Task", "CopyVirtualDisk_Task", "ExtendVirtualDisk_Task":
		return []string{privFiles, privAllocate}
	case "DeleteVirtualDisk_Task", "MoveVirtualDisk_Task", "SetVirtualDiskUuid", "MakeDirectory", "DeleteDatastoreFile_Task",
		"MoveDatastoreFile_Task", "CopyDatastoreFile_Task", "QueryVirtualDiskUuid", "QueryVirtualDiskInfo_Task":
		return []string{privFiles}
	case "CreateDisk_Task", "DeleteVStorageObject_Task", "ExtendDisk_Task", "RegisterDisk":
		return []string{privFiles}
	case "AttachDisk_Task":
		return []string{privAddExisting}
	case "DetachDisk_Task":
		return []string{privRemoveDisk}
	case "CreateDirectory", "DeleteDirectory":
		return []string{privDatastore}
	case "SearchDatastore_Task", "SearchDatastoreSubFolders_Task", "RefreshDatastore", "RefreshDatastoreStorageInfo":
		return []string{privBrowse}
	case "PbmCreate", "PbmDelete", "PbmUpdate":
		return []string{privProfileWrite}
	}
	if strings.HasPrefix(m.Name, "Pbm") {
		return []string{privProfileView}
	}
	if looksOnly(m.Name) {
		return nil
	}
	return []string{privAll}
}

// looksOnly says whether the method changes nothing but the caller's own session, filters and views.
func looksOnly(method string) bool {
	for _, prefix := range [...]string{"Retrieve", "Query", "Find", "Fetch", "WaitFor", "Has", "Get", "Validate"} {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	switch method {
	case "Login", "Logout", "CurrentTime", "SessionIsActive", "AcquireGenericServiceTicket", "AcquireCloneTicket", "CloneSession",
		"CreatePropertyCollector", "DestroyPropertyCollector", "CreateFilter", "DestroyPropertyFilter", "CheckForUpdates",
		"CancelWaitForUpdates", "ContinueRetrievePropertiesEx", "CancelRetrievePropertiesEx", "CreateContainerView",
		"CreateListView", "ModifyListView", "ResetListView", "DestroyView", "CreateCollectorForEvents", "CreateCollectorForTasks",
		"ReadNextEvents", "ReadPreviousEvents", "ReadNextTasks", "ReadPreviousTasks", "RewindCollector", "ResetCollector",
		"SetCollectorPageSize", "DestroyCollector", "ConvertNamespacePathToUuidPath", "ListVStorageObject":
		return true
	}
	return false
}

// reconfigNeeds returns the privileges that a reconfiguration requires, change by change.
func reconfigNeeds(spec types.VirtualMachineConfigSpec) []string {
	var out []string
	for _, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		_, isDisk := change.Device.(*types.VirtualDisk)
		switch {
		case !isDisk:
			out = append(out, privAddRemove)
		case change.Operation == types.VirtualDeviceConfigSpecOperationAdd && change.FileOperation != "":
			out = append(out, privAddNew, privAllocate)
		case change.Operation == types.VirtualDeviceConfigSpecOperationAdd:
			out = append(out, privAddExisting)
		case change.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			out = append(out, privRemoveDisk)
			if change.FileOperation != "" {
				out = append(out, privFiles)
			}
		default:
			out = append(out, privEditDevice)
		}
	}
	if len(spec.ExtraConfig) > 0 {
		out = append(out, privAdvanced)
	}
	if spec.Name != "" || spec.NumCPUs != 0 || spec.MemoryMB != 0 || spec.Uuid != "" || spec.InstanceUuid != "" {
		out = append(out, privSettings)
	}
	return out
}
