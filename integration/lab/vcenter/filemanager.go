package vcenter

import (
	"os"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// MakeDirectory makes a directory, but not at the top level of vSAN, where only the namespace manager can.
func (s *shadow) MakeDirectory(ctx *simulator.Context, req *types.MakeDirectory) soap.HasFault {
	if fault := s.v.topLevel(req.Name); fault != nil {
		return &methods.MakeDirectoryBody{Fault_: simulator.Fault(describe(fault), fault)}
	}
	return s.v.reg.FileManager().MakeDirectory(ctx, req)
}

// topLevel returns a fault if the path is, or needs, a top-level directory of vSAN that does not exist.
func (v *VCenter) topLevel(name string) types.BaseMethodFault {
	var p object.DatastorePath
	if !p.FromString(name) {
		return nil // vcsim refuses it
	}
	ds := v.datastore(p.Datastore)
	if ds == nil || ds.Summary.Type != vsanType {
		return nil
	}
	top, _, _ := strings.Cut(strings.Trim(p.Path, "/"), "/")
	dir, fault := v.resolve((&object.DatastorePath{Datastore: p.Datastore, Path: top}).String())
	if fault != nil {
		return fault
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	return withMessage(&types.CannotCreateFile{FileFault: types.FileFault{File: name}}, "vob.vsan.toplevel",
		"A top-level directory of a vSAN datastore is a namespace object: use DatastoreNamespaceManager.CreateDirectory")
}

// attachedBelow returns a fault if a virtual machine has a disk at the file, or below it if it is a directory. The caller holds v.hw.
func (v *VCenter) attachedBelow(name string) types.BaseMethodFault {
	file, fault := v.resolve(name)
	if fault != nil {
		return fault
	}
	for _, e := range v.reg.All("VirtualMachine") {
		m, ok := v.look(e.Reference())
		if !ok || !m.on {
			continue
		}
		for _, d := range disks(m.devices) {
			disk, _ := fileOf(d)
			f, fault := v.readDisk(disk)
			if fault != nil {
				continue
			}
			if f.file == file || f.extent == file || strings.HasPrefix(f.file, file+"/") {
				return locked(name, m.name)
			}
		}
	}
	return nil
}

// DeleteDatastoreFileTask deletes a file or directory, unless a running machine has a disk there.
func (s *shadow) DeleteDatastoreFileTask(ctx *simulator.Context, req *types.DeleteDatastoreFile_Task) soap.HasFault {
	body := new(methods.DeleteDatastoreFile_TaskBody)
	ref, fault := s.run(ctx, "DeleteDatastoreFile_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		s.v.hw.Lock()
		defer s.v.hw.Unlock()
		if fault := s.v.attachedBelow(req.Name); fault != nil {
			return nil, fault
		}
		file, _ := s.v.resolve(req.Name)
		if _, err := os.Stat(file); err != nil {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
		}
		if err := os.RemoveAll(file); err != nil {
			return nil, &types.CannotDeleteFile{FileFault: types.FileFault{File: req.Name}}
		}
		s.v.remeasure(datastoreOf(req.Name))
		return nil, nil
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.DeleteDatastoreFile_TaskResponse{Returnval: *ref}
	return body
}

// MoveDatastoreFileTask renames a file or directory, unless a running machine has a disk there.
func (s *shadow) MoveDatastoreFileTask(ctx *simulator.Context, req *types.MoveDatastoreFile_Task) soap.HasFault {
	body := new(methods.MoveDatastoreFile_TaskBody)
	ref, fault := s.run(ctx, "MoveDatastoreFile_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		s.v.hw.Lock()
		defer s.v.hw.Unlock()
		return nil, s.v.moveFile(req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.MoveDatastoreFile_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) moveFile(req *types.MoveDatastoreFile_Task) types.BaseMethodFault {
	if fault := v.attachedBelow(req.SourceName); fault != nil {
		return fault
	}
	src, _ := v.resolve(req.SourceName)
	dst, fault := v.resolve(req.DestinationName)
	if fault != nil {
		return fault
	}
	if _, err := os.Stat(src); err != nil {
		return &types.FileNotFound{FileFault: types.FileFault{File: req.SourceName}}
	}
	if _, err := os.Stat(dst); err == nil && (req.Force == nil || !*req.Force) {
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: req.DestinationName}}
	}
	if err := os.Rename(src, dst); err != nil {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: req.SourceName}}
	}
	return nil
}
