package images

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Judge compares what was seen with the manifest; an empty manifest knows nothing, and then what was seen is judged by itself. wrong are the blobs that were hashed and turned out not to be right. Judge is pure.
//
// What it goes by is what a registry leaves behind. To delete a tag removes its directory; to delete an image removes the file of its revision link, and leaves the directory; garbage collection removes
// whole directories of revisions and blobs, and may leave links to blobs that are gone. None of that is damage, as long as nothing that is left needs what is gone. What is gone and needed by nothing
// may as well have been lost: it is listed as gone, and nothing can tell. A push writes blobs first, then the link of each, the image's manifest and its link, the tag's index, and the tag last, so
// what it leaves when it is cut off is needed by nothing either, but for links and images' manifests of zero bytes: those are damage, as they break what comes later.
func Judge(m *Manifest, seen *Seen, wrong map[registry.Digest]layout.Hashed) Verdict {
	j := &judge{
		m: m, seen: seen, bad: wrong, blocked: obstaclesOf(seen.Snapshot), needed: make(map[registry.Digest]struct{}), keep: make(map[item]struct{}),
		v: Verdict{At: seen.Taken, Findings: []Finding{}, New: []Difference{}, Gone: []Difference{}, Notes: []string{}},
	}
	for _, name := range j.names() {
		j.repository(name)
	}
	j.strays()
	j.problems()
	j.v.Notes = append(j.v.Notes, seen.Notes...)
	sortFindings(j.v.Findings)
	j.v.keep = j.keep
	return j.v
}

func sortFindings(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Image, b.Image), cmp.Compare(a.Digest, b.Digest),
			cmp.Compare(a.Kind, b.Kind))
	})
}

// judge is one judgement under way.
type judge struct {
	m       *Manifest
	seen    *Seen
	bad     map[registry.Digest]layout.Hashed
	blocked obstacles
	needed  map[registry.Digest]struct{} // the blobs that images need
	keep    map[item]struct{}
	v       Verdict
}

// item is something of the manifest that is missing without leave: it stays in the manifest.
type item struct {
	repository, tag string
	image           registry.Digest
}

// names returns the repositories to judge: those that were seen, those of the manifest, and those of the database.
func (j *judge) names() []string {
	names := make(map[string]bool)
	for _, r := range j.seen.Repositories {
		names[r.Name] = true
	}
	for name := range j.m.repositories {
		if j.seen.Only == nil || j.seen.Only[name] {
			names[name] = true
		}
	}
	if j.seen.Rows != nil {
		for _, r := range j.seen.Rows.Repositories {
			if j.seen.Only == nil || j.seen.Only[r.Name] {
				names[r.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (j *judge) repository(name string) {
	i, ok := slices.BinarySearchFunc(j.seen.Repositories, name, func(r layout.Repository, name string) int { return cmp.Compare(r.Name, name) })
	r := &layout.Repository{Name: name}
	if ok {
		r = &j.seen.Repositories[i]
	}
	in := &inRepository{judge: j, Repository: r, known: j.m.repositories[name], rows: j.seen.Rows.repository(name)}
	if in.known == nil {
		in.known = new(repository)
	}
	if !ok && in.rows == nil && j.blocked.to(repositoryPath(name)) == nil {
		if !j.seen.TagsUnknown || len(in.known.tags) == 0 {
			j.v.Gone = append(j.v.Gone, Difference{
				Repository: name, Text: fmt.Sprintf("the repository, with %d tags and %d images: %s", len(in.known.tags), len(in.known.revisions), deletedOrLost),
			})
			return
		}
	}
	j.v.Repositories++
	in.run()
}

const deletedOrLost = "deleted, or lost"

// strays are blobs that no image needs and that are damaged all the same: a registry would take one for the right one when an image with it is pushed.
func (j *judge) strays() {
	if j.seen.Remote {
		return
	}
	add := func(kind Kind, d registry.Digest, text string) {
		j.v.Findings = append(j.v.Findings, Finding{
			Digest: d, Kind: kind, LastRight: j.m.verified(d), Unfinished: !j.m.Empty() && j.m.recorded(d) == none,
			Text: text + "; no image needs it, but whoever pushes one that does is told that it is there",
		})
	}
	for d, h := range j.bad {
		if _, ok := j.needed[d]; !ok && !errors.Is(h.Err, mooring.ErrNotFound) {
			kind, text := hashedText(h)
			add(kind, d, text)
		}
	}
	for d, b := range j.seen.Blobs {
		if _, ok := j.needed[d]; ok || b.Size < 0 {
			continue
		}
		if _, ok := j.bad[d]; ok {
			continue
		}
		i := j.m.recorded(d)
		switch {
		case b.Size == 0 && d != emptyDigest:
			add(BlobDamaged, d, "the blob is empty")
		case i != none && j.m.blobs[i].verified != 0 && j.m.blobs[i].size != b.Size:
			add(BlobSize, d, fmt.Sprintf("the blob has %d bytes, and had %d when it was right", b.Size, j.m.blobs[i].size))
		}
	}
}

// emptyDigest is the digest of no bytes.
const emptyDigest registry.Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// hashedText says what is wrong with a blob that was hashed.
func hashedText(h layout.Hashed) (Kind, string) {
	switch {
	case errors.Is(h.Err, mooring.ErrNotFound):
		return BlobMissing, "the blob is not there"
	case errors.Is(h.Err, mooring.ErrCorrupt) && h.Got != "":
		return BlobDamaged, fmt.Sprintf("the blob is damaged: its %d bytes are %s", h.Read, h.Got)
	case errors.Is(h.Err, mooring.ErrCorrupt):
		return BlobDamaged, fmt.Sprintf("the blob is damaged: %v", h.Err)
	default:
		return Unreadable, fmt.Sprintf("the blob cannot be read: %v", h.Err)
	}
}

// problems lists what could not be read, whether or not something of the manifest lies there, and what has no place in a storage.
func (j *judge) problems() {
	for _, p := range j.seen.Problems {
		if errors.Is(p.Err, mooring.ErrInvalid) {
			j.v.Notes = append(j.v.Notes, fmt.Sprintf("%s has no place in a registry's storage: %v", p.Path, p.Err))
			continue
		}
		j.v.Findings = append(j.v.Findings, Finding{Kind: Unreadable, Text: fmt.Sprintf("%s cannot be read: %v", p.Path, p.Err)})
	}
	if !j.seen.Remote && j.seen.Rows == nil && !j.seen.TagsUnknown && j.seen.Only == nil && j.v.Images > 0 && j.v.Tags == 0 {
		j.v.Notes = append(j.v.Notes, "the storage has images and no tags: Harbor keeps them in its database only, from 2.15 on; name its container to have them judged, too")
	}
}

// blob judges a blob that an image needs.
func (j *judge) blob(ref Ref) (kind Kind, text string) {
	if _, ok := j.needed[ref.Digest]; !ok {
		j.needed[ref.Digest] = struct{}{}
		j.v.Blobs++
		j.v.Bytes += max(ref.Size, j.seen.Blobs[ref.Digest].Size, 0)
	}
	b, ok := j.seen.Blobs[ref.Digest]
	h, hashed := j.bad[ref.Digest]
	if ok && b.Size >= 0 && !errors.Is(h.Err, mooring.ErrNotFound) {
		if kind, text := j.size(ref, b); kind != "" {
			return kind, text
		}
	}
	switch {
	case hashed && !(j.seen.Cache && errors.Is(h.Err, mooring.ErrNotFound)):
		return hashedText(h)
	case ok && b.Size >= 0, j.seen.Cache:
		return "", ""
	}
	if err := j.blocked.to(blobPath(ref.Digest)); err != nil {
		return Unreadable, fmt.Sprintf("the blob cannot be read: %v", err)
	}
	return BlobMissing, "the blob is not there" + sayBytes(", and has to have %d bytes", ref.Size)
}

func sayBytes(format string, n int64) string {
	if n < 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// size compares a blob's size with what the image's manifest says; where that says nothing, with what is recorded.
func (j *judge) size(ref Ref, b layout.Blob) (Kind, string) {
	i := j.m.recorded(ref.Digest)
	want := ref.Size
	if want == registry.UnknownSize && i != none {
		want = j.m.blobs[i].size
	}
	if want == registry.UnknownSize || want == b.Size {
		return "", ""
	}
	text := fmt.Sprintf("the blob has %d bytes, and has to have %d", b.Size, want)
	if b.Size == 0 {
		text = fmt.Sprintf("the blob is empty, and has to have %d bytes", want)
	}
	if i != none && j.m.blobs[i].verified != 0 && j.m.blobs[i].size == b.Size {
		text += ": that is what the image's manifest says, but the blob was right when it was hashed, so the image was pushed onto damage: push it anew"
	}
	return BlobSize, text
}
