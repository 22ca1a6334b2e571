package vcenter

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// SearchDatastoreTask lists a folder as a datastore browser does: the files with the bytes of disks are not shown, disks
// have details, and patterns are matched without regard to case.
func (s *shadow) SearchDatastoreTask(ctx *simulator.Context, req *types.SearchDatastore_Task) soap.HasFault {
	body := new(methods.SearchDatastore_TaskBody)
	ref, fault := s.run(ctx, "SearchDatastore_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return s.v.search(ctx, s.self, req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.SearchDatastore_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) search(ctx *simulator.Context, browser types.ManagedObjectReference, req *types.SearchDatastore_Task) (
	types.AnyType, types.BaseMethodFault,
) {
	var p object.DatastorePath
	if !p.FromString(req.DatastorePath) {
		return nil, &types.InvalidDatastorePath{DatastorePath: req.DatastorePath}
	}
	if strings.Trim(p.Path, "/") == "" {
		return v.searchTop(ctx, browser, req)
	}
	dir, fault := v.resolve(req.DatastorePath)
	if fault != nil {
		return nil, fault
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.DatastorePath}}
	}
	ds := v.datastore(p.Datastore).Reference()
	res := types.HostDatastoreBrowserSearchResults{
		Datastore:  &ds,
		FolderPath: strings.TrimSuffix(req.DatastorePath, "/") + "/",
	}
	spec := req.SearchSpec
	if spec == nil {
		spec = new(types.HostDatastoreBrowserSearchSpec)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || hidden(e.Name()) || !matches(spec, e.Name()) {
			continue
		}
		if f := v.fileInfo(spec, p.Datastore, dir, info); f != nil {
			res.File = append(res.File, f)
		}
	}
	return res, nil
}

// SearchDatastoreSubFoldersTask lists a folder and all folders below it.
func (s *shadow) SearchDatastoreSubFoldersTask(ctx *simulator.Context, req *types.SearchDatastoreSubFolders_Task) soap.HasFault {
	body := new(methods.SearchDatastoreSubFolders_TaskBody)
	ref, fault := s.run(ctx, "SearchDatastoreSubFolders_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		var out types.ArrayOfHostDatastoreBrowserSearchResults
		fault := s.v.searchBelow(ctx, s.self, req.DatastorePath, req.SearchSpec, &out)
		return out, fault
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.SearchDatastoreSubFolders_TaskResponse{Returnval: *ref}
	return body
}

func (v *VCenter) searchBelow(ctx *simulator.Context, browser types.ManagedObjectReference, folder string,
	spec *types.HostDatastoreBrowserSearchSpec, out *types.ArrayOfHostDatastoreBrowserSearchResults,
) types.BaseMethodFault {
	found, fault := v.search(ctx, browser, &types.SearchDatastore_Task{This: browser, DatastorePath: folder, SearchSpec: spec})
	if fault != nil {
		return fault
	}
	if res, ok := found.(types.HostDatastoreBrowserSearchResults); ok {
		out.HostDatastoreBrowserSearchResults = append(out.HostDatastoreBrowserSearchResults, res)
	}
	dir, fault := v.resolve(folder)
	if fault != nil {
		return fault
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &types.FileNotFound{FileFault: types.FileFault{File: folder}}
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub := strings.TrimSuffix(folder, "/") + "/" + e.Name()
		if strings.HasSuffix(folder, "]") { // a root: "[vsanDatastore]"
			sub = folder + " " + e.Name()
		}
		if fault := v.searchBelow(ctx, browser, sub, spec, out); fault != nil {
			return fault
		}
	}
	return nil
}

// searchTop lists the root of a datastore, whose friendly names only vcsim knows.
func (v *VCenter) searchTop(ctx *simulator.Context, browser types.ManagedObjectReference, req *types.SearchDatastore_Task) (
	types.AnyType, types.BaseMethodFault,
) {
	b, ok := v.reg.Get(browser).(*simulator.HostDatastoreBrowser)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: browser}
	}
	res, ok := b.SearchDatastoreTask(v.context(ctx.Session.UserName), req).(*methods.SearchDatastore_TaskBody)
	if !ok || res.Res == nil {
		return nil, &types.SystemError{Reason: "the simulator refused"}
	}
	if fault := v.inner(res, res.Res.Returnval); fault != nil {
		return nil, fault
	}
	t, _ := v.reg.Get(res.Res.Returnval).(*simulator.Task)
	var out types.AnyType
	v.reg.WithLock(v.context(""), t, func() { out = t.Info.Result })
	return out, nil
}

// hidden says whether a browser keeps the file to itself.
func hidden(name string) bool {
	return strings.HasSuffix(name, extentSuffix) || strings.HasSuffix(name, "~")
}

// matches says whether the name fits one of the patterns; no pattern fits all.
func matches(spec *types.HostDatastoreBrowserSearchSpec, name string) bool {
	fold := spec.SearchCaseInsensitive == nil || *spec.SearchCaseInsensitive
	for _, p := range spec.MatchPattern {
		n := name
		if fold {
			p, n = strings.ToLower(p), strings.ToLower(n)
		}
		if ok, err := path.Match(p, n); err == nil && ok {
			return true
		}
	}
	return len(spec.MatchPattern) == 0
}

// fileInfo describes a file in the detail that was asked for, or returns nil if none of the queries is for it.
func (v *VCenter) fileInfo(spec *types.HostDatastoreBrowserSearchSpec, datastore, dir string, info fs.FileInfo) types.BaseFileInfo {
	flags := spec.Details
	if flags == nil {
		flags = new(types.FileQueryFlags)
	}
	base := types.FileInfo{Path: info.Name()}
	if flags.FileSize {
		base.FileSize = info.Size()
	}
	if flags.Modification {
		t := info.ModTime()
		base.Modification = &t
	}
	isDisk := strings.HasSuffix(info.Name(), diskSuffix) && !info.IsDir()
	var disk *types.VmDiskFileQueryFlags
	wanted := len(spec.Query) == 0
	for _, q := range spec.Query {
		switch q := q.(type) {
		case *types.FolderFileQuery:
			wanted = wanted || info.IsDir()
		case *types.VmDiskFileQuery:
			wanted = wanted || isDisk
			disk = q.Details
		case *types.FileQuery:
			wanted = true
		}
	}
	switch {
	case !wanted:
		return nil
	case info.IsDir():
		return &types.FolderFileInfo{FileInfo: base}
	case isDisk && (flags.FileType || len(spec.Query) > 0):
		return v.diskInfo(base, disk, datastore, filepath.Join(dir, info.Name()), flags.FileSize)
	}
	return &base
}

// diskInfo adds what the descriptor says. A disk's size is what it takes on the datastore, not its capacity.
func (v *VCenter) diskInfo(base types.FileInfo, want *types.VmDiskFileQueryFlags, datastore, file string, size bool) types.BaseFileInfo {
	out := &types.VmDiskFileInfo{FileInfo: base}
	d, fault := v.readDescriptor(file, (&object.DatastorePath{Datastore: datastore, Path: base.Path}).String())
	if fault != nil {
		return out
	}
	if size {
		out.FileSize = use{extent: d.extent, copies: 1}.bytes()
	}
	if want == nil {
		return out
	}
	if want.CapacityKb {
		out.CapacityKb = d.capacity >> 10
	}
	if want.DiskType {
		out.DiskType = "VirtualDiskFlatVer2BackingInfo"
	}
	if want.ControllerType != nil && *want.ControllerType {
		out.ControllerType = "VirtualLsiLogicController"
	}
	if want.Thin != nil && *want.Thin {
		out.Thin = &d.thin
	}
	if want.HardwareVersion {
		out.HardwareVersion = 21
	}
	return out
}
