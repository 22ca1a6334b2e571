package images

import (
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
)

// update returns the change that brings the manifest up to date with what was seen, but for what the verdict on it has found missing or moved without leave: that stays as it was. What is seen
// for the first time is taken in whatever its state, because it must be there. at is now.
func (m *Manifest) update(seen *Seen, v Verdict, at time.Time) *change {
	u := &updating{m: m, seen: seen, keep: v.keep, at: at, c: newChange(), needed: make(map[registry.Digest]int64)}
	names := make(map[string]bool, len(seen.Repositories))
	for i := range seen.Repositories {
		r := &inRepository{judge: &judge{seen: seen}, Repository: &seen.Repositories[i], rows: seen.Rows.repository(seen.Repositories[i].Name)}
		names[r.Name] = true
		u.images(r)
		u.tags(r)
	}
	u.repositories(names)
	u.blobs()
	u.fresh()
	if seen.Only == nil {
		u.forget()
	}
	u.times(v)
	return u.c
}

// updating is one update under way.
type updating struct {
	m      *Manifest
	seen   *Seen
	keep   map[item]struct{}
	at     time.Time
	c      *change
	in     string                    // the repository that the change is about
	needed map[registry.Digest]int64 // the blobs of the images that were seen, with their sizes: first as an image says it, then as it is recorded
	new    []registry.Digest         // images that the manifest does not know
}

// about makes what follows in the change be about a repository.
func (u *updating) about(repository string) {
	if u.in != repository {
		u.c.named(opRepository, repository)
		u.in = repository
	}
}

func (u *updating) kept(it item) bool {
	_, ok := u.keep[it]
	return ok
}

// images says which images have come to a repository, and which have gone.
func (u *updating) images(r *inRepository) {
	known := u.m.repositories[r.Name]
	if known == nil {
		known = new(repository)
		u.about(r.Name)
	}
	has := make(map[registry.Digest]bool, len(r.Revisions))
	for _, l := range r.Revisions {
		if l.Problem != "" || !r.counts(l.Name) {
			continue
		}
		has[l.Name] = true
		u.image(l.Name)
		if !u.m.has(r.Name, l.Name) {
			u.about(r.Name)
			u.c.about(opRevision, keyOf(l.Name))
		}
	}
	for i := range known.revisions {
		d := u.m.digests.keys[i].digest()
		if !has[d] && !u.kept(item{repository: r.Name, image: d}) {
			u.about(r.Name)
			u.c.about(opNoRevision, keyOf(d))
		}
	}
}

// image takes in what an image needs.
func (u *updating) image(d registry.Digest) {
	if _, ok := u.needed[d]; ok {
		return
	}
	u.needed[d] = registry.UnknownSize
	img := u.seen.Images[d]
	for _, ref := range img.Blobs {
		size, ok := u.needed[ref.Digest]
		if b := u.seen.Blobs[ref.Digest]; !ok || size != b.Size { // of two images that differ, the one that is right
			u.needed[ref.Digest] = ref.Size
		}
	}
	i := u.m.digests.find(keyOf(d))
	if _, known := u.m.images[i]; (!known || i == none) && (img.Err == nil || len(img.Blobs)+len(img.Manifests) > 0) {
		u.new = append(u.new, d)
	}
}

// fresh takes in the images that are new, with the sizes that they say where these are not those of the blobs.
func (u *updating) fresh() {
	for _, d := range u.new {
		img := u.seen.Images[d]
		var subject *key
		if img.Subject != "" {
			k := keyOf(img.Subject)
			subject = &k
		}
		var sizes []int64
		if slices.ContainsFunc(img.Blobs, func(ref Ref) bool { return ref.Size != registry.UnknownSize && ref.Size != u.needed[ref.Digest] }) {
			for _, ref := range img.Blobs {
				sizes = append(sizes, ref.Size)
			}
		}
		u.c.image(keyOf(d), img.Media, subject, keysOf(img.Blobs), keysOf(img.Manifests), sizes)
	}
}

func keysOf(refs []Ref) []key {
	keys := make([]key, len(refs))
	for i, ref := range refs {
		keys[i] = keyOf(ref.Digest)
	}
	return keys
}

// tags says which tags of a repository have come, moved and gone.
func (u *updating) tags(r *inRepository) {
	if u.seen.TagsUnknown {
		return
	}
	known := u.m.repositories[r.Name]
	if known == nil {
		known = new(repository)
	}
	seen := make(map[string]bool)
	for _, t := range r.seenTags() {
		seen[t.name] = true
		if t.target == "" || u.kept(item{repository: r.Name, tag: t.name}) {
			continue
		}
		k := keyOf(t.target)
		if was, had := known.tags[t.name]; !had || u.m.digests.keys[was.target] != k || was.moved != timeNano(t.moved) {
			u.about(r.Name)
			u.c.tag(t.name, k, timeNano(t.moved))
		}
	}
	for name := range known.tags {
		if !seen[name] && !u.kept(item{repository: r.Name, tag: name}) {
			u.about(r.Name)
			u.c.named(opNoTag, name)
		}
	}
}

// repositories says which repositories have gone. One of which something is missing without leave stays.
func (u *updating) repositories(seen map[string]bool) {
	keep := make(map[string]bool)
	for it := range u.keep {
		keep[it.repository] = true
	}
	for name := range u.m.repositories {
		if !seen[name] && !keep[name] && (u.seen.Only == nil || u.seen.Only[name]) {
			u.c.named(opNoRepository, name)
			u.in = ""
		}
	}
}

// blobs says what has changed about blobs.
func (u *updating) blobs() {
	for d, size := range u.needed {
		u.blob(d, size)
	}
	for d, b := range u.seen.Blobs {
		if _, ok := u.needed[d]; !ok && b.Size >= 0 {
			u.blob(d, registry.UnknownSize)
		}
	}
}

// blob says what has changed about a blob, which has to have that size.
func (u *updating) blob(d registry.Digest, size int64) {
	found, there := u.seen.Blobs[d]
	there = there && found.Size >= 0
	i := u.m.recorded(d)
	was := blob{size: unrecorded}
	if i != none {
		was = u.m.blobs[i]
	}
	now := blob{size: size, changed: max(was.changed, 0), verified: max(was.verified, 0)}
	img, isImage := u.seen.Images[d]
	switch {
	case was.size >= 0 && was.verified != 0:
		now.size = was.size // whatever an image's manifest says
	case now.size != registry.UnknownSize:
	case there:
		now.size = found.Size
	}
	if there && found.Size == now.size && timeNano(found.Changed) != was.changed {
		now.changed, now.verified = timeNano(found.Changed), 0 // it was written anew
	}
	if isImage && img.hashed && img.Err == nil && there {
		now.verified = u.at.UnixMilli()
	}
	if now != was {
		u.c.blob(keyOf(d), now)
	}
	u.needed[d] = now.size
}

// forget says which blobs are no longer there, and needed by nothing.
func (u *updating) forget() {
	kept := make(map[id]bool)
	for it := range u.keep {
		if it.image == "" {
			continue
		}
		i := u.m.digests.find(keyOf(it.image))
		kept[i] = true
		for _, below := range u.m.images[i].blobs {
			kept[below] = true
		}
	}
	for n := range u.m.blobs {
		i := id(n)
		if u.m.blobs[i].size == unrecorded || kept[i] {
			continue
		}
		d := u.m.digests.keys[i].digest()
		_, needed := u.needed[d]
		if b, there := u.seen.Blobs[d]; !needed && (!there || b.Size < 0) {
			u.c.about(opForget, u.m.digests.keys[i])
		}
	}
}

func (u *updating) times(v Verdict) {
	u.c.at(opTaken, u.seen.Taken)
	if u.seen.Only != nil {
		return
	}
	if !v.Damaged() {
		u.c.at(opRight, u.seen.Taken)
	}
	if u.m.behind {
		u.c.flag(opBehind, false)
		u.c.ops++
	}
	if database := u.seen.Rows != nil; database != u.m.database {
		u.c.flag(opDatabase, database)
		u.c.ops++
	}
}
