package esx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

const vmdk = ".vmdk"

// Find returns the volume of that name as the datastore and the sidecar describe it; the error wraps [mooring.ErrNotFound] if
// there is no VMDK. Without a sidecar that can be believed its format is [mooring.FormatUnknown]. An intent that names no disk, of a create that was killed, is
// believed: it is written only where no VMDK is, so that the one that is there was made by it.
func (h *Host) Find(ctx context.Context, name mooring.Name) (mooring.Volume, error) {
	p, err := h.place(ctx)
	if err != nil {
		return mooring.Volume{}, err
	}
	f, err := h.look(ctx, p, name)
	if err != nil {
		return mooring.Volume{}, err
	}
	return f.volume(), nil
}

// Names lists the volumes of the group, completely, sorted, in one SearchDatastore task. An absent folder is an empty list.
func (h *Host) Names(ctx context.Context) ([]mooring.Name, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	files, err := h.search(ctx, p, p.backing(h.where.Group, "x").Folder(), diskQuery(), "*"+vmdk)
	if err != nil {
		return nil, err
	}
	names := make([]mooring.Name, 0, len(files))
	for _, f := range files {
		base, isDisk := strings.CutSuffix(f.GetFileInfo().Path, vmdk)
		if name, err := mooring.ParseName(base); isDisk && err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Delete removes the volume's VMDK, then its sidecar. A disk that any virtual machine in view has in its hardware stays: the
// error wraps [mooring.ErrInUse] and names the machine. An absent disk is deleted. A file that holds another disk than vol's stays ([mooring.ErrCorrupt]).
func (h *Host) Delete(ctx context.Context, vol mooring.Volume) error {
	p, err := h.place(ctx)
	if err != nil {
		return err
	}
	backing := vol.Backing
	if backing == "" {
		backing = p.backing(h.where.Group, vol.Name)
	}
	f, err := h.lookAt(ctx, p, vol.Name, backing)
	switch {
	case errors.Is(err, mooring.ErrNotFound):
	case err != nil:
		return err
	case vol.Disk != "" && f.disk != vol.Disk:
		return fmt.Errorf("%s holds the disk %s, not %s; nothing was deleted: %w", f.backing, f.disk, vol.Disk, mooring.ErrCorrupt)
	default:
		if err := h.deleteDisk(ctx, p, f); err != nil {
			return err
		}
	}
	h.setCondition(vol.Name, "", "")
	return h.deleteSidecar(ctx, p, sidecarOf(backing))
}

// deleteDisk removes the VMDK unless a machine has it. When vCenter was lost on the way, the second look decides.
func (h *Host) deleteDisk(ctx context.Context, p *place, f found) error {
	owners, err := h.owners(ctx, p, []identity{{f.disk, f.backing}})
	if err != nil {
		return err
	}
	if len(owners[0]) > 0 {
		return owners[0][0].inUse(f.name, f.backing)
	}
	dc := p.dc.Reference()
	for attempt := 1; ; attempt++ {
		res, err := methods.DeleteVirtualDisk_Task(ctx, p.client, &types.DeleteVirtualDisk_Task{
			This: *p.client.ServiceContent.VirtualDiskManager, Name: string(f.backing), Datacenter: &dc,
		})
		if err == nil {
			_, err = h.session.wait(ctx, p.client, res.Returnval)
		}
		c := classOf(err)
		switch {
		case err == nil, c == done:
			return nil
		case attempt < readAttempts && (c == busy || c == unknown) && !errors.Is(err, errStalled) && ctx.Err() == nil:
			if err := pause(ctx, readPause); err != nil {
				return explain(err)
			}
			if _, err := h.lookAt(ctx, p, f.name, f.backing); errors.Is(err, mooring.ErrNotFound) {
				return nil
			}
		default:
			return fmt.Errorf("delete %s: %w", f.backing, explain(err))
		}
	}
}

// deleteSidecar removes the sidecar and what killed writers of it have left.
func (h *Host) deleteSidecar(ctx context.Context, p *place, sidecar mooring.Backing) error {
	base := strings.TrimPrefix(sidecar.File(), sidecar.Folder().File()+"/")
	files, err := h.search(ctx, p, sidecar.Folder(), nil, literal(base)+"*")
	if err != nil {
		return err
	}
	for _, f := range files {
		name := f.GetFileInfo().Path
		rest, ours := strings.CutPrefix(name, base)
		if !ours || (rest != "" && !temporaryName.MatchString(rest)) {
			continue
		}
		if err := h.deleteFile(ctx, p, mooring.NewBacking(sidecar.Datastore(), sidecar.Folder().File()+"/"+name)); err != nil {
			return err
		}
	}
	return nil
}

// SetFormat writes f down beside the disk and returns when that is durable. An intent that names no disk yet names vol's from then on. The error wraps
// [mooring.ErrCorrupt] if the sidecar names another disk or cannot be read, [mooring.ErrNotFound] if there is none: such a volume is never formatted.
func (h *Host) SetFormat(ctx context.Context, vol mooring.Volume, f mooring.Format) error {
	p, err := h.place(ctx)
	if err != nil {
		return err
	}
	sidecar := sidecarOf(vol.Backing)
	for attempt := 1; ; attempt++ {
		known, err := h.readSidecar(ctx, p, sidecar)
		switch {
		case errors.Is(err, errSidecar):
			return fmt.Errorf("%s: %w: %w", sidecar, err, mooring.ErrCorrupt)
		case err != nil:
			return err
		case vol.Disk == "" || (known.Disk != vol.Disk && known.Disk != ""):
			return fmt.Errorf("%s names the disk %q, not %q: %w", sidecar, known.Disk, vol.Disk, mooring.ErrCorrupt)
		case known.Format == f && known.Disk == vol.Disk:
			return nil
		}
		known.Format, known.Disk = f, vol.Disk
		err = h.writeSidecar(ctx, p, known, true)
		if c := classOf(err); err == nil || attempt == readAttempts || (c != unknown && c != busy) || errors.Is(err, errStalled) {
			return err
		}
		if err := pause(ctx, readPause); err != nil {
			return explain(err)
		}
	}
}

// readSidecar returns what the sidecar says; errSidecar if it cannot be believed, [mooring.ErrNotFound] if it is absent.
func (h *Host) readSidecar(ctx context.Context, p *place, sidecar mooring.Backing) (mooring.Volume, error) {
	content, err := h.download(ctx, p, sidecar)
	if err != nil {
		return mooring.Volume{}, fmt.Errorf("read %s: %w", sidecar, err)
	}
	return decodeSidecar(content)
}

func (h *Host) writeSidecar(ctx context.Context, p *place, vol mooring.Volume, replace bool) error {
	content, err := encodeSidecar(vol)
	if err != nil {
		return err
	}
	return h.write(ctx, p, sidecarOf(vol.Backing), content, replace)
}

// found is a disk on the datastore with what lies beside it.
type found struct {
	name    mooring.Name
	backing mooring.Backing
	size    mooring.Size // 0: the datastore browser does not say
	disk    mooring.DiskID
	sidecar *mooring.Volume // nil: missing, or not to be believed
}

// look returns the disk of the volume of that name.
func (h *Host) look(ctx context.Context, p *place, name mooring.Name) (found, error) {
	return h.lookAt(ctx, p, name, p.backing(h.where.Group, name))
}

// lookAt returns the disk at backing; the error wraps [mooring.ErrNotFound] if there is none. The backing is filled in either way.
func (h *Host) lookAt(ctx context.Context, p *place, name mooring.Name, backing mooring.Backing) (found, error) {
	f := found{name: name, backing: backing}
	base := strings.TrimPrefix(backing.File(), backing.Folder().File()+"/")
	files, err := h.search(ctx, p, backing.Folder(), diskQuery(), literal(base))
	if err != nil {
		return f, err
	}
	i := slices.IndexFunc(files, func(i types.BaseFileInfo) bool { return i.GetFileInfo().Path == base })
	if i < 0 {
		return f, fmt.Errorf("volume %s: there is no %s: %w", name, backing, mooring.ErrNotFound)
	}
	if d, ok := files[i].(*types.VmDiskFileInfo); ok {
		f.size = mooring.Size(d.CapacityKb) << 10
	}
	if f.disk, err = h.queryUUID(ctx, p, backing); err != nil {
		return f, err
	}
	sidecar, err := h.believable(ctx, p, f)
	if err != nil {
		return f, err
	}
	f.sidecar = sidecar
	return f, nil
}

// believable reads the sidecar of a disk that is there. Because replacing a file is not promised to be atomic on every datastore, one that is missing
// or torn is read again before that is believed.
func (h *Host) believable(ctx context.Context, p *place, f found) (*mooring.Volume, error) {
	for attempt := 1; ; attempt++ {
		s, err := h.readSidecar(ctx, p, sidecarOf(f.backing))
		switch {
		case err == nil:
			if s.Disk != "" && s.Disk != f.disk {
				h.log.Debug("sidecar names another disk", "backing", string(f.backing), "disk", string(f.disk), "sidecar", string(s.Disk))
				return nil, nil
			}
			return &s, nil
		case !errors.Is(err, mooring.ErrNotFound) && !errors.Is(err, errSidecar):
			return nil, err
		case attempt == readAttempts:
			h.log.Debug("no sidecar that can be believed", "backing", string(f.backing), "err", err)
			return nil, nil
		}
		if err := pause(ctx, readPause/2); err != nil {
			return nil, explain(err)
		}
	}
}

// queryUUID returns the identity of the disk at backing. A disk that a running machine has open may refuse to be read; then that machine's hardware says it.
func (h *Host) queryUUID(ctx context.Context, p *place, backing mooring.Backing) (mooring.DiskID, error) {
	var uuid string
	err := read(ctx, func() (err error) {
		uuid, err = object.NewVirtualDiskManager(p.client).QueryVirtualDiskUuid(ctx, string(backing), p.dc)
		return err
	})
	if classOf(err) == ask {
		owners, scanErr := h.owners(ctx, p, []identity{{"", backing}})
		if scanErr == nil && len(owners[0]) > 0 && owners[0][0].disk != "" {
			return owners[0][0].disk, nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the UUID of %s: %w", backing, err)
	}
	return mooring.ParseDiskID(uuid)
}

// volume returns the volume that is found.
func (f found) volume() mooring.Volume {
	if f.sidecar == nil {
		return mooring.Volume{Spec: mooring.Spec{Name: f.name, Size: f.size}, Backing: f.backing, Disk: f.disk}
	}
	vol := *f.sidecar
	vol.Name, vol.Backing, vol.Disk = f.name, f.backing, f.disk
	if f.size > 0 {
		vol.Size = f.size
	}
	return vol
}

// now is the time that is written into a sidecar: whole seconds, UTC.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
