package esx_test

import (
	"testing"

	"github.com/mooring-sh/mooring"
)

func TestAVolumeLivesFromCreateToDelete(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	ctx := t.Context()
	spec := mooring.Spec{Name: "db", Size: 20 * mooring.MB, FSType: mooring.Ext4}
	vol, err := h.Create(ctx, spec, mooring.Given{Size: true})
	if err != nil {
		t.Fatal(err)
	}
	if vol.Format != mooring.FormatNone || vol.Disk == "" || vol.FSUUID == "" || vol.Spec != spec {
		t.Errorf("got %+v", vol)
	}
	names, err := h.Names(ctx)
	if err != nil || len(names) != 1 || names[0] != "db" {
		t.Errorf("got names %v, %v", names, err)
	}
	if err := h.Attach(ctx, vol); err != nil {
		t.Fatal(err)
	}
	m, err := h.Machine(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", m)
	if err := h.SetFormat(ctx, vol, mooring.FormatDone); err != nil {
		t.Fatal(err)
	}
	if err := h.Detach(ctx, vol); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(ctx, vol); err != nil {
		t.Fatal(err)
	}
}
