package policies_test

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/policies"
)

func TestCapabilitiesHaveSPBMsTypes(t *testing.T) {
	policy, err := policies.Parse(`(("stripeWidth" i2) ("forceProvisioning" i1) ("checksumDisabled" i0) ("replicaPreference" "Capacity")
		("cacheReservation" i50000))`)
	if err != nil {
		t.Fatal(err)
	}
	want := []mooring.Capability{
		{Namespace: "VSAN", ID: "stripeWidth", Value: int32(2)},
		{Namespace: "VSAN", ID: "forceProvisioning", Value: true},
		{Namespace: "VSAN", ID: "cacheReservation", Value: int32(50000)}, // five percent, on the same scale
		{Namespace: "VSAN", ID: "checksumDisabled", Value: false},
		{Namespace: "VSAN", ID: "replicaPreference", Value: "RAID-5/6 (Erasure Coding) - Capacity"},
	}
	if got := policy.Capabilities(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Profiles that the vSphere client made hold rules of which the ancestor knew nothing. None may vanish from what is shown.
func TestFromCapabilitiesReturnsWhatTheGrammarCannotSay(t *testing.T) {
	caps := []mooring.Capability{
		{Namespace: "VSAN", ID: "storageType", Value: "Allflash"},
		{Namespace: "VSAN", ID: "stripeWidth", Value: int32(2)},
		{Namespace: "tag", ID: "stripeWidth", Value: int32(2)},
		{Namespace: "VSAN", ID: "stripeWidth", Value: int32(3)},
		{Namespace: "VSAN", ID: "hostFailuresToTolerate", Value: int32(4)},
		{Namespace: "VSAN", ID: "iopsLimit", Value: "100"},
		{Namespace: "VSAN", ID: "iopsLimit", Value: int64(100)},
		{Namespace: "VSAN", ID: "forceProvisioning", Value: int32(1)},
		{Namespace: "VSAN", ID: "checksumDisabled", Value: true},
		{Namespace: "VSAN", ID: "proportionalCapacity", Value: true},
		{Namespace: "VSAN", ID: "replicaPreference", Value: "RAID-7"},
		{Namespace: "VSAN", ID: "replicaPreference", Value: int32(1)},
		{Namespace: "VSAN", ID: "cacheReservation", Value: nil},
	}
	policy, rest := policies.FromCapabilities(caps)
	if got, want := policy.String(), `(("stripeWidth" i2) ("checksumDisabled" i1))`; got != want {
		t.Errorf("policy %s, want %s", got, want)
	}
	want := append([]mooring.Capability{caps[0]}, caps[2:8]...)
	want = append(want, caps[9:]...)
	if !reflect.DeepEqual(rest, want) {
		t.Errorf("rest\n got %v\nwant %v", rest, want)
	}
}

// For every policy there is: its capabilities and its printed form make an equal policy, whole.
func TestCapabilitiesAndTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, rest := policies.FromCapabilities(rapid.SliceOfNDistinct(capability(), 1, 8,
			func(c mooring.Capability) string { return c.ID }).Draw(t, "capabilities"))
		if len(rest) != 0 {
			t.Fatalf("the grammar cannot say %v", rest)
		}
		again, rest := policies.FromCapabilities(policy.Capabilities())
		if len(rest) != 0 || !again.Equal(policy) {
			t.Fatalf("%s became %s and %v", policy, again, rest)
		}
		if _, err := policy.Demands(); err != nil {
			return // Parse refuses what no cluster can carry
		}
		if parsed, err := policies.Parse(policy.String()); err != nil || !parsed.Equal(policy) {
			t.Fatalf("%s parsed to %s, %v", policy, parsed, err)
		}
	})
}

// capability draws one of vSAN's capabilities with a value that vSAN allows.
func capability() *rapid.Generator[mooring.Capability] {
	number := func(id string, from, to int32) *rapid.Generator[mooring.Capability] {
		return rapid.Map(rapid.Int32Range(from, to), func(n int32) mooring.Capability {
			return mooring.Capability{Namespace: "VSAN", ID: id, Value: n}
		})
	}
	flag := func(id string) *rapid.Generator[mooring.Capability] {
		return rapid.Map(rapid.Bool(), func(b bool) mooring.Capability {
			return mooring.Capability{Namespace: "VSAN", ID: id, Value: b}
		})
	}
	preference := rapid.Map(
		rapid.SampledFrom([]string{"RAID-1 (Mirroring) - Performance", "RAID-5/6 (Erasure Coding) - Capacity"}),
		func(s string) mooring.Capability {
			return mooring.Capability{Namespace: "VSAN", ID: "replicaPreference", Value: s}
		})
	return rapid.OneOf(
		number("hostFailuresToTolerate", 0, 3), number("stripeWidth", 1, 12), number("proportionalCapacity", 0, 100),
		number("cacheReservation", 0, 1000000), number("iopsLimit", 0, 1<<31-1), flag("forceProvisioning"), flag("checksumDisabled"),
		preference,
	)
}
