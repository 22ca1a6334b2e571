package plugin

import (
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/volume"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// local is what the kernel says of volumes at one moment.
type local struct {
	mounted map[mooring.Name]guest.Mount
	present []mooring.DiskID
}

// local asks the kernel about all volumes. What it cannot say counts as not mounted and not attached: these are for people to read.
func (d *Driver) local() local {
	present, err := d.Devices.Present()
	if err != nil {
		d.Log.Error("read devices", "err", err)
	}
	return local{d.mounted(), present}
}

// localOf asks the kernel about one volume alone: dockerd wants to know about each, and at a start of the machine everybody waits for dockerd.
func (d *Driver) localOf(vol mooring.Volume) local {
	l := local{mounted: d.mounted(vol.Name)}
	if vol.Disk != "" && d.Devices.Sees(vol.Disk) {
		l.present = []mooring.DiskID{vol.Disk}
	}
	return l
}

// mounted returns which of these volumes are mounted, or of all if none is named, as far as the kernel can say.
func (d *Driver) mounted(names ...mooring.Name) map[mooring.Name]guest.Mount {
	mounted, err := d.Devices.Mounted(names...)
	if err != nil {
		d.Log.Error("read mounts", "err", err)
	}
	return mounted
}

func (d *Driver) view(rec ledger.Record, l local) admin.View {
	vol := rec.Volume
	v := admin.NewView(vol)
	v.Mountpoint = mountpoint(l.mounted, rec)
	v.Mounted = v.Mountpoint != ""
	v.Attached = vol.Disk != "" && slices.Contains(l.present, vol.Disk)
	for _, h := range inBoot(rec.Holders, d.Boot) {
		v.Holders = append(v.Holders, admin.Holder{ID: h.ID, Count: h.Count})
	}
	v.PolicyApplied = vol.Policy
	if a, at, ok := d.sightings.attachment(vol.Disk); ok && v.Attached {
		v.PolicyReported, v.Compliance, v.PolicyReportedAt = a.Policy, a.Compliance, at
	}
	switch {
	case vol.Disk == "":
	case vol.Format == mooring.FormatUnknown, vol.FSUUID == "": // the ledger knows by now that it was formatted, not from a sidecar
		v.Sidecar = admin.SidecarMissing
	default:
		v.Sidecar = admin.SidecarPresent
	}
	v.Conditions = d.wrong(vol.Name)
	return v
}

// dockerVolume is what docker volume inspect shows. Its Status has the ancestor's keys where they mean the same.
func (d *Driver) dockerVolume(rec ledger.Record) *volume.Volume {
	v := d.view(rec, d.localOf(rec.Volume))
	out := &volume.Volume{Name: string(v.Name), Mountpoint: v.Mountpoint}
	if !v.Created.IsZero() {
		out.CreatedAt = v.Created.UTC().Format(time.RFC3339)
	}
	if v.Disk == "" { // another host's: only its name is known here
		out.Status = map[string]any{"status": "listed"}
		return out
	}
	out.Status = map[string]any{
		"status":     attachedText(v.Attached),
		"capacity":   map[string]any{"size": v.Size},
		"datastore":  v.Datastore,
		"fstype":     string(v.FSType),
		"diskformat": "thin",
		"attach-as":  "independent_persistent",
		"access":     "read-write",
		"disk":       string(v.Disk),
		"sidecar":    string(v.Sidecar),
	}
	if v.CreatedBy != "" {
		out.Status["created by VM"] = v.CreatedBy
	}
	if v.PolicyApplied != "" {
		out.Status["vsan-policy-name"] = string(v.PolicyApplied)
	}
	if v.PolicyReported != "" {
		out.Status["policy reported by vCenter"] = map[string]any{
			"policy": string(v.PolicyReported), "compliance": v.Compliance, "at": v.PolicyReportedAt.UTC().Format(time.RFC3339),
		}
	} else if v.PolicyApplied != "" {
		out.Status["policy reported by vCenter"] = "none while detached; last applied: " + string(v.PolicyApplied)
	}
	for _, c := range v.Conditions {
		out.Status["condition "+c.Code] = c.Text
	}
	return out
}

func attachedText(attached bool) string {
	if attached {
		return "attached"
	}
	return "detached"
}

func (d *Driver) listResponse() volume.ListResponse {
	res := volume.ListResponse{Volumes: []*volume.Volume{}}
	mounted := d.mounted()
	for _, rec := range d.Ledger.All() {
		res.Volumes = append(res.Volumes, &volume.Volume{Name: string(rec.Volume.Name), Mountpoint: mountpoint(mounted, rec)})
	}
	return res
}

// Status is the driver on one screen.
func (d *Driver) status() admin.Status {
	mounted := d.mounted()
	st := admin.Status{Conditions: d.wrong("")}
	for _, rec := range d.Ledger.All() {
		st.Volumes++
		if mountpoint(mounted, rec) != "" {
			st.Mounted++
		}
		if len(inBoot(rec.Holders, d.Boot)) > 0 {
			st.Held++
		}
	}
	d.sightings.mu.Lock()
	defer d.sightings.mu.Unlock()
	st.VM = d.sightings.machine.Name
	st.VCenter.Reachable = d.sightings.err == nil && !d.sightings.at.IsZero()
	if d.sightings.err != nil {
		st.VCenter.Error = d.sightings.err.Error()
	}
	return st
}
