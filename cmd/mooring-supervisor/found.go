package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/images"
)

const (
	mostNotes = 20 // of a verdict that are kept in the journal
	mostWorst = 5  // findings that a condition names
)

// found is what is wrong, each thing once. The zero value has nothing.
type found struct {
	all  []admin.Finding
	know map[admin.Finding]bool // without the times
}

// newFound returns what was found.
func newFound(list []images.Finding) (f found) {
	f.add(list)
	return f
}

// add adds what was not known, and says whether there was anything.
func (f *found) add(list []images.Finding) (news bool) {
	if f.know == nil {
		f.know = make(map[admin.Finding]bool)
	}
	for _, one := range list {
		finding := admin.Finding{
			Repository: one.Repository, Tag: one.Tag, Image: string(one.Image), Digest: string(one.Digest), Kind: string(one.Kind), Text: one.Text, Unfinished: one.Unfinished,
		}
		if f.know[finding] {
			continue
		}
		f.know[finding] = true
		finding.LastRight = one.LastRight
		f.all, news = append(f.all, finding), true
	}
	return news
}

// tell returns all that is wrong, the gravest first, and how much damage that is.
func (f *found) tell(now time.Time) ([]admin.Finding, supervisor.Damage) {
	list := slices.Clone(f.all)
	slices.SortStableFunc(list, func(a, b admin.Finding) int { return cmp.Compare(gravity(a), gravity(b)) })
	d := supervisor.Damage{At: now}
	type image struct{ repository, tag, digest string }
	counted := make(map[image]bool)
	for _, one := range list {
		if len(d.Worst) < mostWorst {
			d.Worst = append(d.Worst, one.Line())
		}
		of := image{one.Repository, one.Tag, one.Image}
		if one.Image != "" {
			of.tag = "" // an image that several tags name is one
		}
		switch {
		case one.Repository == "":
			d.Others++
			continue
		case counted[of]:
			continue
		case one.Unfinished:
			d.Unfinished++
		default:
			d.Images++
		}
		counted[of] = true
	}
	return list, d
}

// gravity orders findings: lost images first, then what no image is known to need, then what was being pushed.
func gravity(f admin.Finding) int {
	switch {
	case f.Unfinished:
		return 2
	case f.Repository == "":
		return 1
	default:
		return 0
	}
}

// addChanges adds those that are not among all.
func addChanges(all []admin.Change, list []images.Difference) []admin.Change {
	known := make(map[admin.Change]bool, len(all))
	for _, c := range all {
		known[c] = true
	}
	all = slices.Clip(all)
	for _, d := range list {
		c := admin.Change{Repository: d.Repository, Tag: d.Tag, Digest: string(d.Digest), Text: d.Text}
		if !known[c] {
			known[c] = true
			all = append(all, c)
		}
	}
	return all
}
