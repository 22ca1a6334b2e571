package esx_test

import (
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

func rules() []mooring.Capability {
	return []mooring.Capability{
		{Namespace: "VSAN", ID: "stripeWidth", Value: int32(2)},
		{Namespace: "VSAN", ID: "forceProvisioning", Value: true},
		{Namespace: "VSAN", ID: "replicaPreference", Value: "RAID-1 (Mirroring) - Performance"},
	}
}

func TestPolicyIsMadeFoundAndRemovedWithItsTypedRules(t *testing.T) {
	s := newSession(t, newVCSim(t).account())
	id, err := s.CreateProfile(t.Context(), "SW=2", "two stripes", rules())
	if err != nil {
		t.Fatal(err)
	}
	want := esx.Profile{ID: id, Name: "SW=2", Description: "two stripes", Capabilities: rules()}
	if got, err := s.FindProfile(t.Context(), "SW=2"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	list, err := s.Profiles(t.Context())
	if err != nil || !slices.ContainsFunc(list, func(p esx.Profile) bool { return p.ID == id }) ||
		!slices.IsSortedFunc(list, func(a, b esx.Profile) int { return strings.Compare(string(a.Name), string(b.Name)) }) {
		t.Errorf("got %+v, %v, want a sorted list with SW=2", list, err)
	}
	if _, err := s.CreateProfile(t.Context(), "SW=2", "", rules()); !errors.Is(err, mooring.ErrExists) {
		t.Errorf("made twice: got %v, want ErrExists", err)
	}
	if list, err := s.CompatibleDatastores(t.Context(), id); err != nil || !slices.Contains(list, "LocalDS_0") {
		t.Errorf("got compatible %v, %v, want LocalDS_0 by its name", list, err)
	}
	if err := s.DeleteProfile(t.Context(), "SW=2"); err != nil {
		t.Fatal(err)
	}
	for verb, err := range map[string]error{
		"find":   second(s.FindProfile(t.Context(), "SW=2")),
		"remove": s.DeleteProfile(t.Context(), "SW=2"),
	} {
		if !errors.Is(err, mooring.ErrPolicy) || !strings.Contains(err.Error(), "vSAN Default Storage Policy") {
			t.Errorf("%s after the removal: got %v, want ErrPolicy listing those there are", verb, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPolicyThatSPBMCouldNotHoldIsRefused(t *testing.T) {
	s, err := esx.NewSession(esx.Account{URL: "https://127.0.0.1:1", Username: "u"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		policy mooring.PolicyName
		rules  []mooring.Capability
	}{
		"no name":   {"", rules()},
		"long name": {mooring.PolicyName(strings.Repeat("x", 81)), rules()},
		"no rules":  {"x", nil},
		"an int":    {"x", []mooring.Capability{{Namespace: "VSAN", ID: "stripeWidth", Value: 2}}},
	} {
		if _, err := s.CreateProfile(t.Context(), c.policy, "", c.rules); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestVolumeWithAnUnknownPolicyIsRefusedNamingThoseThereAre(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	want := spec("db")
	want.Policy = "nope"
	_, err := h.Create(t.Context(), want, mooring.Given{Policy: true})
	if !errors.Is(err, mooring.ErrPolicy) || !strings.Contains(err.Error(), `"nope"`) || !strings.Contains(err.Error(), "vSAN Default Storage Policy") {
		t.Errorf("got %v, want ErrPolicy naming what was asked for and what there is", err)
	}
	if n := v.count("CreateVirtualDisk_Task"); n != 0 {
		t.Errorf("got %d disks made, want none", n)
	}
}

func TestVolumeRemembersItsPolicysProfile(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	id, err := newSession(t, v.account()).CreateProfile(t.Context(), "SW=2", "", rules())
	if err != nil {
		t.Fatal(err)
	}
	want := spec("db")
	want.Policy = "SW=2"
	vol, err := h.Create(t.Context(), want, mooring.Given{Policy: true})
	if err != nil || vol.Profile != id || v.readSidecar(t, vol).Profile != id {
		t.Errorf("got %+v, %v, want the profile %s", vol, err, id)
	}
}
