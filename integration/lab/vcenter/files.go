package vcenter

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vmdk"
)

const (
	diskSuffix   = ".vmdk"
	extentSuffix = "-flat.vmdk"
	vsanType     = string(types.HostFileSystemVolumeFileSystemTypeVsan)
)

// datastore returns the datastore of that name, or nil.
func (v *VCenter) datastore(name string) *simulator.Datastore {
	for _, e := range v.reg.All("Datastore") {
		if ds, ok := e.(*simulator.Datastore); ok && ds.Name == name {
			return ds
		}
	}
	return nil
}

// resolve returns the file on this machine that a datastore path names. vSAN keeps top-level directories under the UUID of
// their namespace object and knows their friendly names; both spellings end at the same file, which is therefore what disks are told apart by.
func (v *VCenter) resolve(name string) (string, types.BaseMethodFault) {
	var p object.DatastorePath
	if !p.FromString(name) || strings.Contains(p.Path, "..") {
		return "", &types.InvalidDatastorePath{DatastorePath: name}
	}
	ds := v.datastore(p.Datastore)
	if ds == nil {
		return "", &types.InvalidDatastore{Name: p.Datastore}
	}
	p.Path = strings.Trim(path.Clean(p.Path), "/")
	if p.Path == "." || p.Path == "" {
		return ds.Summary.Url, nil
	}
	if ds.Summary.Type != vsanType {
		return filepath.Join(ds.Summary.Url, p.Path), nil
	}
	m, ok := v.reg.Get(*v.content.DatastoreNamespaceManager).(*simulator.DatastoreNamespaceManager)
	if !ok {
		return "", &types.InvalidDatastore{Name: p.Datastore}
	}
	// vcsim takes whatever follows the datastore's URL, which has no slash at its end, for the path.
	body, ok := m.ConvertNamespacePathToUuidPath(v.context(""), &types.ConvertNamespacePathToUuidPath{
		This: m.Self, Datacenter: &v.dc, NamespaceUrl: ds.Summary.Url + p.Path,
	}).(*methods.ConvertNamespacePathToUuidPathBody)
	if !ok || body.Res == nil {
		return "", &types.InvalidDatastorePath{DatastorePath: name}
	}
	return body.Res.Returnval, nil
}

// canonical returns the datastore path of the file as hardware lists have it: on vSAN with the UUID of the top-level directory.
func (v *VCenter) canonical(file string) string {
	for _, e := range v.reg.All("Datastore") {
		ds, ok := e.(*simulator.Datastore)
		if !ok {
			continue
		}
		if rel, err := filepath.Rel(ds.Summary.Url, file); err == nil && !strings.HasPrefix(rel, "..") {
			return (&object.DatastorePath{Datastore: ds.Name, Path: rel}).String()
		}
	}
	return file
}

// diskFile is a virtual disk on a datastore.
type diskFile struct {
	file      string // the descriptor
	extent    string // the file with the bytes
	datastore string
	uuid      string
	capacity  int64 // bytes
	thin      bool
}

// extentOf returns the name of the file with the bytes of the disk that the descriptor file describes.
func extentOf(file string) string { return strings.TrimSuffix(file, diskSuffix) + extentSuffix }

// readDisk returns the disk that a datastore path names. A disk that vcsim itself made, with an empty extent and no UUID, is given both.
func (v *VCenter) readDisk(name string) (diskFile, types.BaseMethodFault) {
	file, fault := v.resolve(name)
	if fault != nil {
		return diskFile{}, fault
	}
	return v.readDescriptor(file, name)
}

func (v *VCenter) readDescriptor(file, name string) (diskFile, types.BaseMethodFault) {
	f, err := os.Open(file)
	if err != nil {
		return diskFile{}, &types.FileNotFound{FileFault: types.FileFault{File: name}}
	}
	defer func() { _ = f.Close() }()
	desc, err := vmdk.ParseDescriptor(f)
	if err != nil || len(desc.Extent) == 0 {
		return diskFile{}, &types.InvalidDiskFormat{InvalidFormat: types.InvalidFormat{}}
	}
	var p object.DatastorePath
	p.FromString(name)
	d := diskFile{
		file: file, extent: filepath.Join(filepath.Dir(file), desc.Extent[0].Info), datastore: p.Datastore,
		uuid: parseUUID(desc.DDB["uuid"]), capacity: desc.Capacity(), thin: desc.DDB["thinProvisioned"] == "1",
	}
	if d.uuid == "" {
		d.uuid = newDiskUUID()
		if fault := d.write(name); fault != nil {
			return diskFile{}, fault
		}
	}
	if st, err := os.Stat(d.extent); err != nil || st.Size() != d.capacity {
		if fault := d.size(name); fault != nil {
			return diskFile{}, fault
		}
	}
	return d, nil
}

// size gives the extent its size, sparse.
func (d diskFile) size(name string) types.BaseMethodFault {
	f, err := os.OpenFile(d.extent, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: name}}
	}
	err = f.Truncate(d.capacity)
	if cerr := f.Close(); err != nil || cerr != nil {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: name}}
	}
	return nil
}

// write writes the descriptor, in place of the former one in a single step.
func (d diskFile) write(name string) types.BaseMethodFault {
	desc := vmdk.NewDescriptor(vmdk.Extent{Size: d.capacity / vmdk.SectorSize, Info: filepath.Base(d.extent)})
	desc.CID, desc.ParentCID = 0xfffffffe, 0xffffffff
	desc.DDB = map[string]string{"uuid": formatUUID(d.uuid), "adapterType": "lsilogic", "virtualHWVersion": "21"}
	if d.thin {
		desc.DDB["thinProvisioned"] = "1"
	}
	fail := &types.CannotCreateFile{FileFault: types.FileFault{File: name}}
	tmp := d.file + "~"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fail
	}
	err = desc.Write(f)
	if cerr := f.Close(); err != nil || cerr != nil {
		return fail
	}
	if err := os.Rename(tmp, d.file); err != nil {
		return fail
	}
	return nil
}

// remove deletes the descriptor first, so that no descriptor ever lacks its extent.
func (d diskFile) remove(name string) types.BaseMethodFault {
	for _, f := range [...]string{d.file, d.extent} {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return &types.CannotDeleteFile{FileFault: types.FileFault{File: name}}
		}
	}
	return nil
}

// formatUUID spells a UUID as a descriptor does: "60 00 C2 9d 4c 2b 17 8d-8e 1a ...".
func formatUUID(uuid string) string {
	hex := strings.ReplaceAll(uuid, "-", "")
	var b strings.Builder
	for i := 0; i+1 < len(hex); i += 2 {
		switch i {
		case 0:
		case 16:
			b.WriteByte('-')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(hex[i : i+2])
	}
	return b.String()
}

// parseUUID returns a UUID in the form 8-4-4-4-12, from any spelling; "" if it is none.
func parseUUID(s string) string {
	hex := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(s))
	if len(hex) != 32 {
		return ""
	}
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}
