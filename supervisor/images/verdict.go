package images

import (
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Kind says what is wrong, for programs. Its text is stable.
type Kind string

// What can be wrong.
const (
	BlobMissing  Kind = "blob-missing"  // a blob that an image needs has no file
	BlobSize     Kind = "blob-size"     // its file has another size than the image's manifest says
	BlobDamaged  Kind = "blob-damaged"  // its content was hashed, and is something else
	ImageMissing Kind = "image-missing" // the blob that is the image's manifest has no file
	ImageDamaged Kind = "image-damaged" // it was hashed, and is something else
	PartMissing  Kind = "part-missing"  // an index names an image that the repository does not have
	LayerLink    Kind = "layer-link"    // the repository's link to a blob is lost, empty or wrong
	RevisionLink Kind = "revision-link" // its link to an image's manifest is
	TagLink      Kind = "tag-link"      // a tag's current link is
	IndexLink    Kind = "index-link"    // one of the links to what a tag once was is
	TagMoved     Kind = "tag-moved"     // a tag names another image than before, and nobody pushed it
	Unreadable   Kind = "unreadable"    // the storage, or the registry, answered with an error: nothing is known
)

// Finding is one thing that is wrong with one image.
type Finding struct {
	Repository string          `json:"repository,omitempty"` // empty: a blob that no image needs, but that the registry would hand out
	Tag        string          `json:"tag,omitempty"`        // empty: no tag leads to the image
	Image      registry.Digest `json:"image,omitempty"`      // of the image's manifest
	Digest     registry.Digest `json:"digest,omitempty"`     // of what is wrong
	Kind       Kind            `json:"kind"`
	Text       string          `json:"text"` // for people: what is wrong, in a sentence
	// LastRight is when it was last seen right: content when it was last hashed, links and tags when the manifest was last refreshed. Zero: never.
	LastRight time.Time `json:"last_right,omitzero"`
	// Unfinished: it came after the manifest was refreshed, or, of a tag, so shortly before that it was perhaps not answered yet. A push that was under way when the machine died, and that nobody was
	// told had succeeded, leaves the same.
	Unfinished bool `json:"unfinished,omitempty"`

	link *layout.Link // that has to be made anew
	to   registry.Digest
}

// Difference is something that is otherwise than in the manifest, and right.
type Difference struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag,omitempty"`
	Digest     registry.Digest `json:"digest,omitempty"` // empty: the whole repository
	Text       string          `json:"text"`
}

// Verdict is what a verification found out.
type Verdict struct {
	At           time.Time `json:"at"` // when the storage was looked at
	Repositories int       `json:"repositories"`
	Tags         int       `json:"tags"`
	Images       int       `json:"images"` // images' manifests in repositories: those of indexes and artifacts, too
	Intact       int       `json:"intact"` // of which nothing that they need was found wrong
	Blobs        int       `json:"blobs"`  // that the images need, each once, with the images' manifests
	Bytes        int64     `json:"bytes"`
	Hashed       int       `json:"hashed"` // of these, hashed in this verification and right
	HashedBytes  int64     `json:"hashed_bytes"`

	Findings []Finding    `json:"findings"`
	New      []Difference `json:"new"`  // pushed since the manifest was refreshed, and judged from the storage itself
	Gone     []Difference `json:"gone"` // in the manifest and no longer there, without a trace of damage: deleted, or lost
	Notes    []string     `json:"notes"`

	keep map[item]struct{} // what of the manifest is missing, and stays in it
}

// Damaged reports whether anything is wrong.
func (v Verdict) Damaged() bool { return len(v.Findings) > 0 }

// Progress says how far a verification is.
type Progress struct {
	What     string        // "scanning", "reading the images' manifests", "hashing"
	Done     int           // things
	All      int           // 0: not known
	Bytes    int64         // hashed
	AllBytes int64         // to hash; 0: nothing is being hashed
	Wrong    int           // found wrong so far
	Left     time.Duration // until it is done, at the speed so far; 0: not known
}
