package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// shadow stands in for a managed object in those methods where vcsim lacks a rule. vcsim finds its methods by name
// (ReconfigVM_Task is ReconfigVMTask). The object itself stays in the registry, so everything inside vcsim that
// asserts its type goes on working, and all other methods reach it.
type shadow struct {
	v    *VCenter
	self types.ManagedObjectReference
}

// Reference returns the object that the shadow stands for.
func (s *shadow) Reference() types.ManagedObjectReference { return s.self }

// Lock does nothing: vcsim locks the object of a call while it runs, and properties could not be read during a long one.
func (s *shadow) Lock() {}

// Unlock does nothing, as Lock does.
func (s *shadow) Unlock() {}

// shadowed lists the methods that the lab answers itself, by type of managed object.
func shadowed(kind, method string) bool {
	switch kind {
	case "VirtualMachine":
		switch method {
		case "ReconfigVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "ResetVM_Task", "SuspendVM_Task", "ShutdownGuest", "RebootGuest",
			"StandbyGuest", "Destroy_Task", "UnregisterVM", "AttachDisk_Task", "DetachDisk_Task", "CreateSnapshot_Task",
			"CreateSnapshotEx_Task", "RevertToCurrentSnapshot_Task", "CloneVM_Task", "MigrateVM_Task", "RelocateVM_Task":
			return true
		}
	case "VirtualMachineSnapshot":
		return method == "RevertToSnapshot_Task"
	case "Folder":
		return method == "RegisterVM_Task"
	case "HostSystem":
		switch method {
		case "EnterMaintenanceMode_Task", "ExitMaintenanceMode_Task", "DisconnectHost_Task", "ReconnectHost_Task":
			return true
		}
	case "Datacenter":
		return method == "PowerOnMultiVM_Task"
	case "VirtualDiskManager":
		switch method {
		case "CreateVirtualDisk_Task", "DeleteVirtualDisk_Task", "ExtendVirtualDisk_Task", "MoveVirtualDisk_Task",
			"CopyVirtualDisk_Task", "QueryVirtualDiskUuid", "SetVirtualDiskUuid":
			return true
		}
	case "VcenterVStorageObjectManager":
		switch method {
		case "CreateDisk_Task", "RegisterDisk", "DeleteVStorageObject_Task", "ExtendDisk_Task":
			return true
		}
	case "FileManager":
		switch method {
		case "MakeDirectory", "DeleteDatastoreFile_Task", "MoveDatastoreFile_Task":
			return true
		}
	case "HostDatastoreBrowser":
		return method == "SearchDatastore_Task" || method == "SearchDatastoreSubFolders_Task"
	case "Datastore":
		return method == "RefreshDatastore" || method == "RefreshDatastoreStorageInfo"
	case "SessionManager":
		return method == "AcquireGenericServiceTicket"
	}
	return false
}

// notFoundPrefix makes a reference that is in no registry. vcsim prefers what the session's registry holds for the
// reference of the call over what the handler returned; for a reference that it does not know, the handler's wins.
const notFoundPrefix = "lab:"

// handle sees every call of the SDK first: it counts, delays, checks rights, injects faults, and sends the call to a shadow
// where there is one.
func (v *VCenter) handle(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	v.counts.called(m.Name)
	if ctx.Session != nil && ctx.Session.UserName != "" {
		if fault := v.allowed(ctx.Session.UserName, m); fault != nil {
			return nil, fault
		}
	}
	if req, ok := m.Body.(*types.PostEvent); ok {
		if e, ok := req.EventToPost.(*types.EventEx); ok && !v.postable(e) {
			return nil, &types.InvalidArgument{InvalidProperty: "eventToPost.objectId"}
		}
	}
	shadowing := shadowed(m.This.Type, m.Name)
	if !shadowing || !isTask(m.Name) {
		v.faults.delay(ctx, m.Name)
		if fault := v.faults.next(m.Name); fault != nil {
			return nil, fault
		}
	}
	if !shadowing || ctx.Session == nil {
		return nil, nil
	}
	self := m.This
	if v.reg.Get(self) == nil {
		return nil, nil // vcsim answers ManagedObjectNotFound
	}
	m.This.Value = notFoundPrefix + self.Value
	return &shadow{v: v, self: self}, nil
}
