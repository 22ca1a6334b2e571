package images

import (
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Manifest is the record of what a registry must have. The zero value knows of nothing. It is not for use by several goroutines at a time while one of
// them changes it.
//
// What it records of a blob is its size as the images' manifests have it, and so what must be there, even where the storage was damaged already.
type Manifest struct {
	taken  time.Time
	right  time.Time // when it was last compared, and nothing was wrong
	round  time.Time
	proved time.Time
	behind bool
	// database says that the tags are a database's: what the storage has of them, if anything, is not what users see.
	database bool

	digests      table
	blobs        []blob       // by the digest's id; recorded ones have a size of 0 or more, or unknownSize
	damaged      map[id]int64 // the blobs that were hashed and not right, and since when that is known, in milliseconds since 1970
	images       map[id]image
	repositories map[string]*repository
	words        map[string]string // media types, each once
}

// blob is what is known of a blob. Images' manifests are blobs.
type blob struct {
	size     int64
	changed  int64 // the file's ctime when it was last seen, in nanoseconds since 1970; 0: not known
	verified int64 // when it was hashed and right, in milliseconds since 1970; 0: never
}

const (
	unrecorded  = -2 // the size of what is no blob of the manifest, or no longer
	unknownSize = registry.UnknownSize
)

// image is what an image's manifest refers to. It never changes: its digest would.
type image struct {
	media     string // of the artifact if it has one, else of the image's manifest
	subject   id     // what a referrer is about; none if it is no referrer
	blobs     []id   // but the foreign ones, which are elsewhere
	manifests []id
	sizes     []int64 // of the blobs, where it says another than is recorded of one; else nil
}

type repository struct {
	revisions map[id]struct{}
	tags      map[string]tag
}

type tag struct {
	target id
	moved  int64 // when the registry wrote it, in nanoseconds since 1970
}

// Taken returns when the storage was last compared with the manifest; what came later may be missing in it. Zero: never.
func (m *Manifest) Taken() time.Time { return m.taken }

// Proved returns when all blobs had last been hashed; zero: never.
func (m *Manifest) Proved() time.Time { return m.proved }

// Round returns when the rehashing of all blobs began that is under way, or was the last to end; zero: never.
func (m *Manifest) Round() time.Time { return m.round }

// Behind reports whether the newest generation was lost or damaged, so that this one may lack what came later.
func (m *Manifest) Behind() bool { return m.behind }

func (m *Manifest) tagsElsewhere() bool { return m != nil && m.database }

// Empty reports whether nothing was ever recorded.
func (m *Manifest) Empty() bool { return m == nil || m.taken.IsZero() }

// Count says how much a manifest has.
type Count struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Images       int   `json:"images"` // images' manifests, each once: those of indexes and artifacts, too
	Blobs        int   `json:"blobs"`  // with the images' manifests
	Bytes        int64 `json:"bytes"`
	Verified     int   `json:"verified"` // of the blobs
	// Oldest is when that blob was hashed of which it is the longest time ago; zero if one never was.
	Oldest time.Time `json:"oldest,omitzero"`
}

// Count counts.
func (m *Manifest) Count() Count {
	c := Count{Repositories: len(m.repositories)}
	images := make(map[id]struct{}, len(m.images))
	for _, r := range m.repositories {
		c.Tags += len(r.tags)
		for i := range r.revisions {
			images[i] = struct{}{}
		}
	}
	c.Images = len(images)
	oldest := int64(math.MaxInt64)
	for i := range m.blobs {
		b := &m.blobs[i]
		if b.size == unrecorded {
			continue
		}
		c.Blobs++
		c.Bytes += max(b.size, 0)
		oldest = min(oldest, b.verified)
		if b.verified != 0 {
			c.Verified++
		}
	}
	if c.Blobs > 0 && oldest != 0 {
		c.Oldest = time.UnixMilli(oldest)
	}
	return c
}

// Entry is an image in a repository, under one of its tags.
type Entry struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"` // empty: the image has none, or is part of an index
	Digest     registry.Digest `json:"digest"`
	Media      string          `json:"media"`            // the artifact's type, else that of the image's manifest
	Blobs      int             `json:"blobs"`            // with all that an index refers to
	Bytes      int64           `json:"bytes"`            // of the image's manifest and all below it, each blob once
	Subject    registry.Digest `json:"subject,omitzero"` // what a referrer (a signature, an SBOM) is about
	Moved      time.Time       `json:"moved,omitzero"`   // when the tag was written
	// Verified is when the last of its blobs was hashed of which that is the longest time ago; zero if one never was.
	Verified time.Time `json:"verified,omitzero"`
}

// Entries lists the images by repository and tag, those without a tag last. Parts of an index that has a tag are not listed.
func (m *Manifest) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, name := range slices.Sorted(maps.Keys(m.repositories)) {
			if !m.entriesOf(name, yield) {
				return
			}
		}
	}
}

func (m *Manifest) entriesOf(name string, yield func(Entry) bool) bool {
	r := m.repositories[name]
	listed := make(map[id]bool)
	for _, tagName := range slices.Sorted(maps.Keys(r.tags)) {
		t := r.tags[tagName]
		e := m.entry(name, t.target, listed)
		e.Tag, e.Moved = tagName, nanoTime(t.moved)
		if !yield(e) {
			return false
		}
	}
	var rest []id
	parts := make(map[id]bool)
	for revision := range r.revisions {
		if !listed[revision] {
			rest = append(rest, revision)
			for _, part := range m.images[revision].manifests {
				parts[part] = true
			}
		}
	}
	slices.SortFunc(rest, func(a, b id) int { return slices.Compare(m.digests.keys[a][:], m.digests.keys[b][:]) })
	for _, revision := range rest {
		if !parts[revision] && !yield(m.entry(name, revision, listed)) {
			return false
		}
	}
	return true
}

// entry sums up an image and all below it, which it marks as listed.
func (m *Manifest) entry(repository string, top id, listed map[id]bool) Entry {
	e := Entry{Repository: repository, Digest: m.digests.keys[top].digest(), Media: m.images[top].media}
	if s, ok := m.images[top]; ok && s.subject != none {
		e.Subject = m.digests.keys[s.subject].digest()
	}
	oldest, complete := int64(0), true
	counted := map[id]bool{}
	var add func(i id)
	add = func(i id) {
		if counted[i] || m.blobs[i].size == unrecorded {
			return
		}
		counted[i] = true
		b := m.blobs[i]
		e.Bytes += max(b.size, 0)
		complete = complete && b.verified != 0
		if oldest == 0 || b.verified < oldest {
			oldest = b.verified
		}
		img, ok := m.images[i]
		if !ok {
			e.Blobs++
			return
		}
		listed[i] = true
		for _, below := range img.blobs {
			add(below)
		}
		for _, below := range img.manifests {
			add(below)
		}
	}
	add(top)
	listed[top] = true
	if complete && oldest != 0 {
		e.Verified = time.UnixMilli(oldest)
	}
	return e
}

// recorded returns the blob's id; none if the manifest does not have the blob.
func (m *Manifest) recorded(d registry.Digest) id {
	i := m.digests.find(keyOf(d))
	if i == none || m.blobs[i].size == unrecorded {
		return none
	}
	return i
}

// verified returns when the blob was last hashed and right; zero: never.
func (m *Manifest) verified(d registry.Digest) time.Time {
	i := m.recorded(d)
	if i == none || m.blobs[i].verified == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.blobs[i].verified)
}

// has reports whether the repository has the image, and repository may be unknown.
func (m *Manifest) has(repository string, d registry.Digest) bool {
	r, ok := m.repositories[repository]
	if !ok {
		return false
	}
	_, ok = r.revisions[m.digests.find(keyOf(d))]
	return ok
}

func nanoTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func timeNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
