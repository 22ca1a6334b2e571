package images

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// coarse is how much the time of a file may be behind the clock: filesystems take theirs from the last tick, some from the last second.
const coarse = time.Second

// unanswered is how long before its push is answered a tag may be seen on a storage. A registry writes the tag first, then has it written to the disk, and then answers: what a refresh saw
// in between may be gone after a power cut, and nobody was told that it was there. A database shows nothing before it is durable.
const unanswered = 10 * time.Second

// seenTag is a tag as it was seen, on the storage or in the database.
type seenTag struct {
	name   string
	target registry.Digest // empty if its link is not valid
	pushed time.Time       // when target was last pushed under this tag; zero: not known
	moved  time.Time       // when the tag was written
	link   *layout.Link    // nil: it comes from the database
	index  []layout.Link
}

// seenTags returns the repository's tags, from where they are kept.
func (r *inRepository) seenTags() []seenTag {
	switch {
	case r.seen.TagsUnknown:
		return nil
	case r.seen.Rows != nil:
		if r.rows == nil {
			return nil
		}
		tags := make([]seenTag, len(r.rows.Tags))
		for i, t := range r.rows.Tags {
			tags[i] = seenTag{name: t.Name, target: t.Target, pushed: t.Pushed, moved: t.Pushed}
		}
		return tags
	}
	tags := make([]seenTag, len(r.Tags))
	for i := range r.Tags {
		tags[i] = tagOf(&r.Tags[i])
	}
	return tags
}

// tagOf returns a storage's tag. The registry writes a tag's link in its index anew with each push, so that tells when the image was last pushed under the tag.
func tagOf(t *layout.Tag) seenTag {
	s := seenTag{name: t.Name, link: &t.Current, index: t.Index, moved: t.Current.Changed}
	if t.Current.Problem == "" {
		s.target = t.Current.Target
		if l := findLink(t.Index, s.target); sound(l) {
			s.pushed = l.Changed
		}
	}
	return s
}

// tag judges a tag. Whether the image that it names is there is judged with the images.
func (r *inRepository) tag(t seenTag) {
	was, had := r.known.tags[t.name]
	var before registry.Digest
	if had {
		before = r.m.digests.keys[was.target].digest()
	}
	for i := range t.index {
		if l := &t.index[i]; l.Problem != "" && l.Problem != layout.LinkMissing {
			r.foundTag(IndexLink, t.name, "", l, fmt.Sprintf("the link to what the tag once was, %s, %s", l.Name.Short(), r.trouble(l)), l.Name)
		}
	}
	switch {
	case t.target == "":
		text := "the tag's link " + r.trouble(t.link)
		if r.seen.Remote {
			text = "the registry does not say what the tag names: " + t.link.Problem
		}
		if had {
			text += "; it was " + string(before)
		}
		r.foundTag(TagLink, t.name, before, t.link, text, "")
	case !had:
		if !r.m.Empty() {
			r.v.New = append(r.v.New, Difference{Repository: r.Name, Tag: t.name, Digest: t.target, Text: "the tag"})
		}
	case before == t.target:
	case r.pushedSince(t):
		r.v.New = append(r.v.New, Difference{Repository: r.Name, Tag: t.name, Digest: t.target, Text: "the tag, which was " + string(before)})
	case r.m.behind:
		text := "the tag, which was " + string(before) + " in a manifest that is not the newest"
		r.v.New = append(r.v.New, Difference{Repository: r.Name, Tag: t.name, Digest: t.target, Text: text})
	default:
		r.foundTag(TagMoved, t.name, t.target, nil, fmt.Sprintf("the tag names %s, which is older than the manifest, and nobody pushed it under this tag since; it was %s", t.target, before), "")
	}
}

// trouble says what is wrong with a tag's link.
func (r *inRepository) trouble(l *layout.Link) string {
	if r.unread(l) {
		return "cannot be read: " + l.Problem
	}
	return "is not valid: " + l.Problem
}

// unread reports whether nothing is known of what a link of the storage says, for its disk answers with an error.
func (r *inRepository) unread(l *layout.Link) bool {
	return l.Unread() && !r.seen.Remote
}

// pushedSince reports whether what the tag names came later than the manifest.
func (r *inRepository) pushedSince(t seenTag) bool {
	return !r.m.has(r.Name, t.target) || t.pushed.After(r.m.taken.Add(-coarse))
}

// foundTag lists a finding about a tag.
func (r *inRepository) foundTag(kind Kind, name string, image registry.Digest, l *layout.Link, text string, to registry.Digest) {
	f := Finding{Repository: r.Name, Tag: name, Image: image, Digest: image, Kind: kind, Text: text, link: l, to: to}
	if l != nil && r.unread(l) {
		f.Kind, f.link = Unreadable, nil
	}
	if to != "" {
		f.Digest = to
	}
	if was, had := r.known.tags[name]; had {
		f.LastRight = r.m.right
		f.Unfinished = r.seen.Rows == nil && !r.seen.Remote && nanoTime(was.moved).After(r.m.taken.Add(-unanswered))
	} else {
		f.Unfinished = !r.m.Empty()
	}
	r.v.Findings = append(r.v.Findings, f)
	r.keep[item{repository: r.Name, tag: name}] = struct{}{}
}

// goneTags lists the tags of the manifest that are no longer there.
func (r *inRepository) goneTags() {
	if r.seen.TagsUnknown {
		return
	}
	seen := make(map[string]bool, len(r.tags))
	for _, t := range r.tags {
		seen[t.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(r.known.tags)) {
		if seen[name] {
			continue
		}
		d := r.m.digests.keys[r.known.tags[name].target].digest()
		if err := r.blocked.to(tagPath(r.Name, name)); err != nil && r.seen.Rows == nil {
			r.foundTag(Unreadable, name, d, nil, fmt.Sprintf("the tag cannot be read: %v", err), "")
			continue
		}
		r.v.Gone = append(r.v.Gone, Difference{Repository: r.Name, Tag: name, Digest: d, Text: "the tag: " + deletedOrLost})
	}
}
