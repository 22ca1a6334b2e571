package plugin

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// step is what reconciliation does about one volume.
type step string

// The steps of a plan.
const (
	// keep: mounted and held in this boot. Nothing is touched.
	keep step = "keep"
	// adopt: mounted, and the ledger lost track of all who hold it. It is held by [unknownHolder] too, until Docker's API says otherwise.
	adopt step = "adopt"
	// restore: held in this boot or the one before, and present. It is checked and mounted before dockerd asks.
	restore step = "restore"
	// fetch: held, and not present. It is attached and mounted once the driver is ready.
	fetch step = "fetch"
	// idle: present or mounted, and held by nobody. It lingers, then it is unmounted and detached.
	idle step = "idle"
	// forget: the holders are void and nothing else is to be done.
	forget step = "forget"
	// foreign: what is mounted at the volume's directory is another disk. Nothing is touched, and it is reported.
	foreign step = "foreign"
)

// level is how loud a step is told. One that changes nothing is no news, however often the plugin is started.
func (s step) level() slog.Level {
	if s == keep || s == idle {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// observation is all that a plan is made from.
type observation struct {
	Records []ledger.Record
	Mounted map[mooring.Name]guest.Mount
	Present []mooring.DiskID
	Boot    mooring.BootID
	// Moved: the ledger was written by another virtual machine (a clone, or a restored copy). Its holders are void.
	Moved bool
	// Behind: the newest generation of the ledger was lost, and with it perhaps a volume or a holder.
	Behind bool
}

// action is one line of a plan.
type action struct {
	Name mooring.Name
	Step step
}

// plan says what to do about every volume at start, in the order of their names. It depends on o alone.
func plan(o observation) []action {
	var acts []action
	known := make(map[mooring.Name]bool)
	for _, r := range o.Records {
		name := r.Volume.Name
		known[name] = true
		if s := planOne(o, r); s != "" {
			acts = append(acts, action{Name: name, Step: s})
		}
	}
	for name := range o.Mounted {
		if !known[name] {
			acts = append(acts, action{Name: name, Step: adopt})
		}
	}
	slices.SortFunc(acts, func(a, b action) int { return cmp.Compare(a.Name, b.Name) })
	return acts
}

func planOne(o observation, r ledger.Record) step {
	m, mounted := o.Mounted[r.Volume.Name]
	present := r.Volume.Disk != "" && slices.Contains(o.Present, r.Volume.Disk)
	held := len(r.Holders) > 0
	switch {
	case mounted && m.Disk != "" && m.Disk != r.Volume.Disk:
		return foreign
	case mounted && o.Behind:
		return adopt
	case mounted && len(inBoot(r.Holders, o.Boot)) > 0:
		return keep
	case o.Moved && held:
		return forget
	case mounted:
		return idle
	case held && present:
		return restore
	case held:
		return fetch
	case present:
		return idle
	default:
		return ""
	}
}
