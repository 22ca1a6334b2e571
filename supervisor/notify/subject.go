package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	maxSubject = 250 // characters; a header's line may have 998 bytes
	maxNames   = 6   // of services in a subject
	maxImages  = 3
	longAgo    = 30 * time.Minute // after the end of a recovery: what is told then is about what came later
)

// Subject says in a line what became of the stack: whether it is back, how long it was down and when, and what is not back.
func Subject(machine string, rep admin.Recovery, now time.Time) string {
	missing := missing(rep)
	down := downtime(rep)
	var text string
	switch {
	case rep.Phase == string(supervisor.Failed):
		text = "the stack is NOT back" + down
	case !rep.Ended.IsZero() && now.Sub(rep.Ended) >= longAgo:
		text = "the stack does not stay up"
		switch {
		case missing == "" && rep.Images != nil && rep.Images.Damaged+rep.Images.Others > 0:
			text = "the stack runs"
		case missing == "":
			text = "the stack is well"
		}
	case rep.Phase != string(supervisor.Settled):
		text = "the stack is coming back, " + rep.Phase + down
	case rep.Damaged && missing == "": // of images
		text = "the stack is back WITH DAMAGE" + down
	case rep.Damaged:
		text = "the stack is back IN PART" + down
	default:
		text = "the stack is back" + down
	}
	if missing != "" {
		text += "; " + missing
	}
	if rep.Images != nil {
		text += "; " + proof(*rep.Images)
	}
	return line(machine + ": " + text)
}

// missing names what is not as it should be; empty: nothing.
func missing(rep admin.Recovery) string {
	var names []string
	for _, s := range rep.Services {
		if !s.Ready && !s.Stopped {
			names = append(names, s.Name)
		}
	}
	if len(names) > maxNames {
		names = append(names[:maxNames:maxNames], fmt.Sprintf("and %d more", len(names)-maxNames))
	}
	if len(names) > 0 {
		return "not up: " + strings.Join(names, ", ")
	}
	for _, c := range rep.Conditions {
		if c.Severity == admin.Failing && c.Code != "images-damaged" { // the proof says that
			return c.Title
		}
	}
	return ""
}

// proof says how many images were proved, and names the first that are not as they were.
func proof(i admin.Images) string {
	var names []string
	more := 0
	known := make(map[string]bool)
	for _, f := range i.Findings {
		name := f.Name()
		switch {
		case f.Unfinished || known[name]:
		case len(names) < maxImages:
			names = append(names, name)
		default:
			more++
		}
		known[name] = true
	}
	text := i.Headline()
	if len(names) > 0 {
		text += ": " + strings.Join(names, ", ")
	}
	if more > 0 {
		text += " and more"
	}
	return text
}

// downtime says for how long the stack was down, and from when to when.
func downtime(rep admin.Recovery) string {
	from, since := rep.Died, "the machine ended at "
	if from.IsZero() {
		from, since = rep.Began, "the recovery began at "
	}
	at := since + from.Format("2006-01-02 15:04:05 MST")
	if rep.Ended.IsZero() || rep.Phase == string(supervisor.Failed) {
		return ", " + at
	}
	end := rep.Ended.In(from.Location())
	layout := "15:04:05"
	if end.YearDay() != from.YearDay() || end.Year() != from.Year() {
		layout = "2006-01-02 15:04:05"
	}
	return fmt.Sprintf(" after %s (%s, back at %s)", end.Sub(from).Round(time.Second), at, end.Format(layout))
}

// line keeps what others named from breaking the line, and the line from growing too long.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if r := []rune(text); len(r) > maxSubject {
		return string(r[:maxSubject-1]) + "…"
	}
	return text
}
