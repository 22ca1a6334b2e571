package policies_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/policies"
)

// vSAN refuses an object whose policy its hosts cannot carry, with a fault that names no number; these numbers are VMware's.
func TestDemandsHostsByFailuresAndLayout(t *testing.T) {
	for text, want := range map[string]policies.Demand{
		`(("iopsLimit" i0))`:                                                                  {Layout: "RAID-1", Failures: 1, Hosts: 3, Devices: 2},
		`(("hostFailuresToTolerate" i0))`:                                                     {Layout: "RAID-0", Failures: 0, Hosts: 1, Devices: 1},
		`(("hostFailuresToTolerate" i0) ("stripeWidth" i3))`:                                  {Layout: "RAID-0", Failures: 0, Hosts: 1, Devices: 3},
		`(("hostFailuresToTolerate" i1))`:                                                     {Layout: "RAID-1", Failures: 1, Hosts: 3, Devices: 2},
		`(("hostFailuresToTolerate" i2))`:                                                     {Layout: "RAID-1", Failures: 2, Hosts: 5, Devices: 3},
		`(("hostFailuresToTolerate" i3))`:                                                     {Layout: "RAID-1", Failures: 3, Hosts: 7, Devices: 4},
		`(("stripeWidth" i2))`:                                                                {Layout: "RAID-1", Failures: 1, Hosts: 3, Devices: 4},
		`(("replicaPreference" "Capacity"))`:                                                  {Layout: "RAID-5", Failures: 1, Hosts: 4, Devices: 4},
		`(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i2))`:                    {Layout: "RAID-6", Failures: 2, Hosts: 6, Devices: 6},
		`(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i0))`:                    {Layout: "RAID-0", Failures: 0, Hosts: 1, Devices: 1},
		`(("replicaPreference" "Performance") ("hostFailuresToTolerate" i3))`:                 {Layout: "RAID-1", Failures: 3, Hosts: 7, Devices: 4},
		`(("forceProvisioning" i1) ("hostFailuresToTolerate" i1))`:                            {Layout: "RAID-1", Failures: 1, Hosts: 3, Devices: 2, Forced: true},
		`(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i1) ("stripeWidth" i2))`: {Layout: "RAID-5", Failures: 1, Hosts: 4, Devices: 8},
	} {
		policy, err := policies.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := policy.Demands(); got != want || err != nil {
			t.Errorf("%s demands %+v, %v\nwant %+v", text, got, err, want)
		}
	}
}

// Parse refuses such a policy; a profile that somebody made in vCenter may be one all the same.
func TestErasureCodingForThreeFailuresIsImpossible(t *testing.T) {
	policy, rest := policies.FromCapabilities([]mooring.Capability{
		{Namespace: policies.Namespace, ID: "hostFailuresToTolerate", Value: int32(3)},
		{Namespace: policies.Namespace, ID: "replicaPreference", Value: "RAID-5/6 (Erasure Coding) - Capacity"},
	})
	if len(rest) != 0 {
		t.Errorf("the grammar cannot say %v", rest)
	}
	if _, err := policy.Demands(); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "1 or 2 failures, not 3") {
		t.Errorf("Demands: %v, want an ErrInvalid that says why", err)
	}
}

func TestDemandCheckSaysWhatIsMissing(t *testing.T) {
	demand := policies.Demand{Layout: "RAID-5", Failures: 1, Hosts: 4, Devices: 4}
	for _, hosts := range []int{4, 5} {
		if err := demand.Check(hosts); err != nil {
			t.Errorf("%d hosts: %v", hosts, err)
		}
	}
	err := demand.Check(3)
	if want := "storage policy: RAID-5 that tolerates 1 failure needs 4 hosts with vSAN storage, 1 more than there are"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if !errors.Is(err, mooring.ErrPolicy) {
		t.Errorf("%v does not wrap ErrPolicy", err)
	}
	demand.Forced = true
	if err := demand.Check(1); err != nil {
		t.Errorf("forced: %v", err)
	}
}

func TestDemandPrintsAsAPhrase(t *testing.T) {
	for want, demand := range map[string]policies.Demand{
		"3 hosts and 4 capacity devices (RAID-1, tolerates 1 failure)": {Layout: "RAID-1", Failures: 1, Hosts: 3, Devices: 4},
		"1 host and 1 capacity device (RAID-0, tolerates 0 failures; placed on less if need be, without that protection)": {
			Layout: "RAID-0", Hosts: 1, Devices: 1, Forced: true,
		},
	} {
		if got := demand.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
