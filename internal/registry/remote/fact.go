package remote

import (
	"slices"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Order is what a walk covers, and whom it tells. See and Progress are called by one goroutine at a time, of the walk's own, and hold it up while they run.
type Order struct {
	Workers int      // requests at a time; 0: 8
	Only    []string // as for [Registry.Expand]; empty: the whole catalogue
	// Skip tells whether a blob need not be read, because it was not long ago. The registry is still asked whether it has it. Nil: every blob is read.
	Skip     func(registry.Descriptor) bool
	See      func(Fact)     // may be nil
	Progress func(Progress) // after each fact, and while blobs are hashed; may be nil
}

// Kind is what a fact is about.
type Kind string

// The kinds of facts.
const (
	SawRepository Kind = "repository"     // its tags were listed
	SawTag        Kind = "tag"            // it was resolved
	SawManifest   Kind = "image manifest" // it was read, hashed and parsed: an image's, an index's, an artifact's, a referrer's
	SawReferrers  Kind = "referrers"      // only as a miss: they could not be listed
	SawBlob       Kind = "blob"           // it was hashed, once, and each further repository that needs it was asked for it
)

// Fact is one thing that a walk has seen, or missed.
type Fact struct {
	Kind       Kind
	Repository string
	Tag        string // of SawTag
	// Content is of SawTag (what the registry says), and of SawManifest and SawBlob (its size as it was found to be; a blob's media type is in the manifests).
	Content  registry.Descriptor
	Manifest registry.Manifest // of SawManifest
	// Asked: nothing was hashed here. The blob was, out of another repository, or not long ago, and this repository says that it has it; or it was damaged
	// out of two others, which is believed of all.
	Asked bool
	// Err says what is wrong; nil: nothing is. It wraps [mooring.ErrNotFound] for what is not there although something needs it, [mooring.ErrCorrupt] for what is
	// not what it should be, [mooring.ErrUnavailable] for what could not be had, [mooring.ErrInvalid] for what was refused.
	Err error
	// Needed are, of a miss, all tags of the repository that it belongs to, sorted.
	Needed []string
}

// Progress is how far a walk has come. All but Total, which grows as more becomes known, only ever grow.
type Progress struct {
	Repositories, AllRepositories int
	Tags, Manifests               int
	Blobs, AllBlobs               int
	Misses                        int
	Bytes, Total                  int64 // of blobs: hashed, and to be hashed as far as is known
}

// node is an image's manifest in a repository.
type node struct {
	repository *repository
	digest     registry.Digest
	tags       []string // that name it
	above      []*node  // indexes that have it, and what it refers to
	claims     []claim  // what the indexes say about it
	size       int64    // once it was read
	read       bool
}

// claim is the size that a manifest gives for what it names.
type claim struct {
	by   *node
	size int64
}

type repository struct {
	name      string
	manifests map[registry.Digest]*node
	// tagsOnly: it has no referrers API, so referrers are listed under a tag, as any image.
	tagsOnly bool
}

// tagsOf returns the names of all tags that lead to any of the nodes, each with the node that it names.
func tagsOf(nodes []*node) map[string]*node {
	found, seen := make(map[string]*node), make(map[*node]bool)
	for todo := slices.Clone(nodes); len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[n] {
			continue
		}
		seen[n] = true
		for _, tag := range n.tags {
			found[tag] = n
		}
		todo = append(todo, n.above...)
	}
	return found
}
