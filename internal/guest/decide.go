package guest

import (
	"fmt"

	"github.com/mooring-sh/mooring"
)

// step is what to do with a disk that is not mounted.
type step int

const (
	// refuse it, with a reason and a cure.
	refuse step = iota
	// look for the mark inside, without changing anything, and decide again.
	look
	// format it: mkfs, then the mark.
	format
	// open it: check and mount.
	open
)

// lookup is what looking for the mark inside brought.
type lookup int

const (
	notLooked lookup = iota
	markFound
	markAbsent // or the filesystem is not whole enough to be mounted
)

// situation is all that the decision rests on.
type situation struct {
	format    mooring.Format // as the sidecar has it
	formatted bool           // the ledger says that the volume was formatted, whatever the sidecar says
	chosen    mooring.FSUUID
	content   Content
	mark      lookup
}

// verdict is the decision. Why and cure are of a refusal.
type verdict struct {
	step      step
	why, cure string
}

// decide says what to do with a disk. It is pure, and the only place that allows mkfs: when the sidecar says that the disk was never
// formatted and nothing at all is found on it, or when it says that formatting had begun, so that nobody has had the filesystem yet,
// and what is found is what a killed mkfs leaves.
func decide(s situation) verdict {
	const anew = "if it may go, remove the volume and create it anew"
	ours := s.content.Kind == Filesystem && s.chosen != "" && s.content.UUID == s.chosen
	switch {
	case s.formatted || s.format == mooring.FormatDone:
		return decideFormatted(s)
	case s.format == mooring.FormatUnknown && s.content.Kind == Filesystem:
		return openIfChosen(s)
	case s.format == mooring.FormatUnknown:
		return verdict{
			step: refuse,
			why:  "it has no sidecar that says whether it was ever formatted, and " + s.content.String() + " is found on its disk",
			cure: "if it never held data, remove the volume and create it anew",
		}
	case s.format != mooring.FormatNone && s.format != mooring.Formatting:
		return verdict{step: refuse, why: fmt.Sprintf("its sidecar says %q about formatting, which this Mooring does not know", s.format), cure: "install a newer Mooring"}
	case s.chosen == "":
		return verdict{step: refuse, why: "its sidecar chose no UUID for the filesystem, so it is not formatted", cure: anew}
	case ours && s.mark == notLooked:
		return verdict{step: look}
	case ours && s.mark == markFound:
		return verdict{step: open}
	case s.content.Kind == Nothing:
		return verdict{step: format}
	case s.format == mooring.Formatting && (ours || s.content.Kind == Unexplained):
		return verdict{step: format}
	default:
		return verdict{step: refuse, why: "it was never formatted, yet " + s.content.String() + " is found on its disk; nothing was changed", cure: anew}
	}
}

// decideFormatted is for a volume that was formatted once: never again.
func decideFormatted(s situation) verdict {
	if s.content.Kind == Filesystem {
		return openIfChosen(s)
	}
	return verdict{
		step: refuse,
		why:  "it was formatted once, and now " + s.content.String() + " is found on its disk; nothing was changed",
		cure: "restore the disk from a backup; if it may go, remove the volume and create it anew",
	}
}

// openIfChosen opens a filesystem that is the one chosen for the volume, or any where none is known to have been chosen.
func openIfChosen(s situation) verdict {
	if s.chosen == "" || s.chosen == s.content.UUID {
		return verdict{step: open}
	}
	return verdict{
		step: refuse,
		why:  fmt.Sprintf("its filesystem is to have the UUID %s, and %s is found on its disk; nothing was changed", s.chosen, s.content),
		cure: "put the right disk in place",
	}
}
