package esx

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/pbm"
	pbmtypes "github.com/vmware/govmomi/pbm/types"

	"github.com/mooring-sh/mooring"
)

// Machine returns the virtual machine that we run in with its disks, and with their profiles and compliance as SPBM last reported them. When SPBM
// does not answer, the disks come without.
func (h *Host) Machine(ctx context.Context) (mooring.Machine, error) {
	p, err := h.place(ctx)
	if err != nil {
		return mooring.Machine{}, err
	}
	hw, err := h.readHardware(ctx, p)
	if err != nil {
		return mooring.Machine{}, err
	}
	m := mooring.Machine{
		Name:     p.vm.Name,
		BIOS:     strings.ToLower(p.vm.Config.Uuid),
		Instance: strings.ToLower(p.vm.Config.InstanceUuid),
	}
	entities := make([]pbmtypes.PbmServerObjectRef, 0, len(hw.disks))
	for _, d := range hw.disks {
		m.Disks = append(m.Disks, mooring.Attachment{Backing: d.backing, Disk: d.disk, Controller: d.slot.controller, Unit: d.slot.unit})
		entities = append(entities, pbmtypes.PbmServerObjectRef{
			ObjectType: string(pbmtypes.PbmObjectTypeVirtualDiskId), Key: fmt.Sprintf("%s:%d", p.vm.Self.Value, d.key),
		})
	}
	if err := h.session.report(ctx, entities, m.Disks); err != nil {
		h.log.Debug("ask for profiles and compliance", "vm", m.Name, "err", err)
	}
	return m, nil
}

// report fills in what SPBM knows of the disks, which entities name in the same order.
func (s *Session) report(ctx context.Context, entities []pbmtypes.PbmServerObjectRef, disks []mooring.Attachment) error {
	if len(entities) == 0 {
		return nil
	}
	c, err := s.spbm(ctx)
	if err != nil {
		return err
	}
	at := map[string]*mooring.Attachment{}
	for i, e := range entities {
		at[e.Key] = &disks[i]
	}
	if err := associations(ctx, c, entities, at); err != nil {
		return err
	}
	var results []pbmtypes.PbmComplianceResult
	err = read(ctx, func() (err error) {
		results, err = c.FetchComplianceResult(ctx, entities)
		return err
	})
	for _, r := range results {
		if d := at[r.Entity.Key]; d != nil {
			d.Compliance = r.ComplianceStatus
		}
	}
	return err
}

// associations fills in the disks' profiles and their names.
func associations(ctx context.Context, c *pbm.Client, entities []pbmtypes.PbmServerObjectRef, at map[string]*mooring.Attachment) error {
	var results []pbmtypes.PbmQueryProfileResult
	err := read(ctx, func() (err error) {
		results, err = c.QueryAssociatedProfiles(ctx, entities)
		return err
	})
	if err != nil {
		return err
	}
	some := false
	for _, r := range results {
		if d := at[r.Object.Key]; d != nil && len(r.ProfileId) > 0 {
			d.Profile, some = mooring.ProfileID(r.ProfileId[0].UniqueId), true
		}
	}
	if !some {
		return nil
	}
	list, err := profiles(ctx, c)
	if err != nil {
		return err
	}
	for _, d := range at {
		for _, p := range list {
			if p.ID == d.Profile {
				d.Policy = p.Name
			}
		}
	}
	return nil
}
