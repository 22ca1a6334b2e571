package policies

import (
	"fmt"

	"github.com/mooring-sh/mooring"
)

// Demand says what a cluster must have so that an object with a policy can be placed on it.
type Demand struct {
	Layout   string // "RAID-0", "RAID-1", "RAID-5" or "RAID-6"
	Failures int    // hosts that may fail while the data stays readable
	Hosts    int    // hosts with vSAN storage, at least; more let vSAN repair after a failure
	Devices  int    // capacity devices over all of these, at least
	Forced   bool   // forceProvisioning: placed all the same on less, without the protection
}

// Demands returns what p demands. The error says that no cluster can fulfil it, and wraps [mooring.ErrInvalid].
//
// Mirroring keeps n+1 copies and needs n hosts more for witnesses, so that a majority survives n failures. Erasure coding
// is RAID-5 over four hosts for one failure and RAID-6 over six for two; vSAN has no other.
func (p Policy) Demands() (Demand, error) {
	if problem := p.contradiction(); problem != "" {
		return Demand{}, fmt.Errorf("policy %s: %s: %w", p, problem, mooring.ErrInvalid)
	}
	failures := int(p.rule(failuresToTolerate).Number)
	stripes := int(p.rule(stripeWidth).Number)
	d := Demand{Layout: "RAID-1", Failures: failures, Forced: p.rule(forceProvisioning).Number == 1}
	switch erasure := p.erasureCoding(); {
	case erasure && failures == 1:
		d.Layout, d.Hosts, d.Devices = "RAID-5", 4, 4*stripes
	case erasure:
		d.Layout, d.Hosts, d.Devices = "RAID-6", 6, 6*stripes
	case failures == 0:
		d.Layout, d.Hosts, d.Devices = "RAID-0", 1, stripes
	default:
		d.Hosts, d.Devices = 2*failures+1, (failures+1)*stripes
	}
	return d, nil
}

// erasureCoding says whether p asks for RAID-5 or RAID-6. Without failures to tolerate there is nothing to code for.
func (p Policy) erasureCoding() bool {
	return p.rule(replicaPreference).Text == "Capacity" && p.rule(failuresToTolerate).Number > 0
}

// contradiction says which rules of p exclude each other, or "".
func (p Policy) contradiction() string {
	if failures := p.rule(failuresToTolerate).Number; p.erasureCoding() && failures > 2 {
		return fmt.Sprintf(`erasure coding ("replicaPreference" "Capacity") tolerates 1 or 2 failures, not %d`, failures)
	}
	return ""
}

// Check returns nil if hosts are enough, and otherwise an error that says what is missing and wraps [mooring.ErrPolicy].
func (d Demand) Check(hosts int) error {
	if d.Forced || hosts >= d.Hosts {
		return nil
	}
	return fmt.Errorf("%w: %s that tolerates %s needs %s with vSAN storage, %d more than there are",
		mooring.ErrPolicy, d.Layout, count(d.Failures, "failure"), count(d.Hosts, "host"), d.Hosts-hosts)
}

// String says the demand as a phrase: "3 hosts and 4 capacity devices (RAID-1, tolerates 1 failure)".
func (d Demand) String() string {
	forced := ""
	if d.Forced {
		forced = "; placed on less if need be, without that protection"
	}
	return fmt.Sprintf("%s and %s (%s, tolerates %s%s)",
		count(d.Hosts, "host"), count(d.Devices, "capacity device"), d.Layout, count(d.Failures, "failure"), forced)
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
