package plugin

import (
	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// Observation is what a plan is made from.
type Observation = observation

// Action is one line of a plan.
type Action = action

// Step is what a plan does about a volume.
type Step = step

// Plan makes a plan.
func Plan(o Observation) []Action { return plan(o) }

// Hold is one more Mount.
func Hold(hs []ledger.Holder, id mooring.MountID, boot mooring.BootID, dockerd ledger.Instance) []ledger.Holder {
	return hold(hs, id, boot, dockerd)
}

// LetGo is one Unmount.
func LetGo(hs []ledger.Holder, id mooring.MountID) ([]ledger.Holder, bool) { return letGo(hs, id) }

// Settle is Docker's API answering.
func Settle(hs []ledger.Holder, current ledger.Instance, running int) []ledger.Holder {
	return settle(hs, current, running, notOf(current))
}

// Mounts is what the kernel says.
type Mounts = map[mooring.Name]guest.Mount

// Observed is what the doctor's checks are made from.
type Observed = observed

// Examine makes the doctor's checks.
func Examine(o Observed) []admin.Check { return examine(o) }
