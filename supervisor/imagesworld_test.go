package supervisor_test

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

// images are a registry's images, and whoever proves them, with rules: nothing is read of a volume that is not mounted, a verification disturbs what else reads, and the manifest
// is kept only after it was compared.
type images struct {
	at         supervisor.Storage
	state      supervisor.ImagesState
	takes      time.Duration // tiers 1 and 2
	rehash     time.Duration // tier 3
	breaks     int           // so often a verification ends with an error
	missing    []string      // what is lost or damaged, by image
	torn       []string      // what was being pushed when the machine died
	hidden     []string      // what only tier 3 finds
	unmanifest bool          // there is no manifest yet
	tagsErr    string        // why the database does not tell its tags
	kept       time.Time     // until when the manifest was kept
	running    map[supervisor.Verb]reading
	compared   bool   // in this boot
	broken     string // which rule was broken
}

// reading is something that reads the storage.
type reading struct{ began, ends time.Time }

const imagesInStorage = 120

// read begins to read the storage.
func (w *world) read(v supervisor.Verb) {
	i := &w.images
	if i.running == nil {
		i.running = map[supervisor.Verb]reading{}
	}
	r := reading{began: w.now}
	_, verifying := i.running[supervisor.Verify]
	switch {
	case i.at.Volume != "" && w.volume(i.at.Volume).State != supervisor.VolumeMounted:
		i.broken = "reads a volume that is not mounted"
	case len(i.running) > 0 && (v == supervisor.Verify || verifying):
		i.broken = "verifies while something else reads"
	case v == supervisor.Keep && !i.compared:
		i.broken = "keeps a manifest that was not compared"
	}
	switch v {
	case supervisor.Verify:
		r.ends = w.now.Add(max(i.takes, time.Second))
		i.state.Progress = supervisor.Progress{Tier: 1}
	case supervisor.Rehash:
		r.ends = w.now.Add(max(i.rehash, time.Second))
	default:
	}
	i.running[v] = r
}

// readOn returns what has ended by now.
func (w *world) readOn() (ended []supervisor.Outcome) {
	i := &w.images
	for _, v := range []supervisor.Verb{supervisor.Verify, supervisor.Keep, supervisor.Rehash} {
		r, ok := i.running[v]
		if v == supervisor.Keep && ok {
			i.kept, i.unmanifest = w.now, false
		}
		if !ok || r.ends.IsZero() || w.now.Before(r.ends) {
			continue
		}
		delete(i.running, v)
		ended = append(ended, supervisor.Outcome{Action: supervisor.Action{Verb: v}, Began: r.began, At: w.now, Err: w.found(v)})
	}
	return ended
}

// found is what a tier came to that has ended.
func (w *world) found(v supervisor.Verb) string {
	i := &w.images
	i.state.Progress = supervisor.Progress{}
	if v == supervisor.Rehash {
		i.missing, i.hidden, i.state.Rehashed = append(i.missing, i.hidden...), nil, w.now
	} else if i.breaks > 0 {
		i.breaks--
		return "the storage cannot be read: input/output error"
	} else {
		i.state.Verdict, i.compared = w.verdict(), true
	}
	all := append(slices.Clone(i.missing), i.torn...)
	i.state.Damage = supervisor.Damage{At: w.now, Images: len(i.missing), Unfinished: len(i.torn), Worst: all[:min(len(all), 2)]}
	i.state.Findings = nil
	for _, name := range i.missing {
		image, text, _ := strings.Cut(name, ": ")
		repository, tag, _ := strings.Cut(image, ":")
		i.state.Findings = append(i.state.Findings, admin.Finding{Repository: repository, Tag: tag, Kind: "blob", Text: text})
	}
	return ""
}

func (w *world) verdict() supervisor.Verdict {
	i := w.images
	v := supervisor.Verdict{
		At: w.now, Manifest: i.kept, Images: imagesInStorage, Intact: imagesInStorage - len(i.missing), Blobs: 3 * imagesInStorage, Size: 5e9, Hashed: 10, Bytes: 2e8,
		Tags: mooring.Yes,
	}
	if i.unmanifest {
		v.Manifest = time.Time{}
	}
	if i.at.Tags != "" {
		switch {
		case !w.ready(w.service(i.at.Tags)):
			v.Tags, v.TagsErr = mooring.Unknown, ""
		case i.tagsErr != "":
			v.Tags, v.TagsErr = mooring.No, i.tagsErr
		}
	}
	return v
}

// letGo ends all that reads, as if by the end of its context; when nothing is under way any more that had not ended by itself.
func (w *world) letGo() (ended []supervisor.Outcome) {
	for _, v := range []supervisor.Verb{supervisor.Verify, supervisor.Keep, supervisor.Rehash} {
		r, ok := w.images.running[v]
		if !ok {
			continue
		}
		e := supervisor.Outcome{Action: supervisor.Action{Verb: v}, Began: r.began, At: w.now}
		if v == supervisor.Verify {
			e.Err = "let go"
		}
		ended = append(ended, e)
	}
	w.images.running, w.images.state.Progress = nil, supervisor.Progress{}
	return ended
}

// under returns what is under way of what reads.
func (w *world) under() (list []supervisor.Action) {
	for v := range w.images.running {
		list = append(list, supervisor.Action{Verb: v})
	}
	slices.SortFunc(list, func(a, b supervisor.Action) int { return cmp.Compare(a.Verb, b.Verb) })
	return list
}

// forget is the end of the supervisor: what it knew of services and images is gone, but for what it had written down.
func (w *world) forget() {
	w.asks = w.now
	i := &w.images
	i.running = nil
	i.state = supervisor.ImagesState{Rehashed: i.state.Rehashed}
}
