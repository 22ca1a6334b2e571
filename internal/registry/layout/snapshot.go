package layout

import (
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
)

// What a link's Problem says where it is not an I/O error's text.
const (
	LinkMissing = "missing"              // the directory is there and the file is not
	LinkEmpty   = "empty"                // no bytes, or zeros alone: what a power cut leaves of a file that is written in place
	LinkInvalid = "no digest"            // something that is not a digest, or more than one
	LinkLies    = "names another digest" // a valid digest, but not that of its directory
)

// Link is one link file.
//
// Not everything that looks wrong is damage. A revision or a layer that was deleted through the registry's API leaves its directory behind without the link ([LinkMissing]), and a garbage collection may
// leave links to layers that it removed.
type Link struct {
	Path    string          // relative to docker/registry/v2
	Name    registry.Digest // the digest that its directory is named after; empty for a tag's current link
	Target  registry.Digest // what it says; empty if it says nothing valid
	Size    int64           // of the file in bytes; -1: there is no file
	Changed time.Time       // when its content was last modified
	Problem string          // empty if the link is valid; else one of the Link constants, or an I/O error's text
}

// Unread reports whether the link's Problem is an I/O error: nothing is known of what the link says.
func (l *Link) Unread() bool {
	switch l.Problem {
	case "", LinkMissing, LinkEmpty, LinkInvalid, LinkLies:
		return false
	}
	return true
}

// Tag is one tag of a repository.
type Tag struct {
	Name    string
	Current Link   // to the image's manifest that the tag is now
	Index   []Link // to all that it ever was, sorted by digest
}

// Repository is what the storage says about one repository.
type Repository struct {
	Name      string
	Tags      []Tag  // sorted by name; none with Harbor from 2.15 on, which keeps them in its database
	Revisions []Link // to its images' manifests, sorted by digest
	Layers    []Link // to its other blobs, sorted by digest
}

// Blob is one blob's file, as found by its name. Nothing was read of it.
type Blob struct {
	Digest   registry.Digest
	Size     int64     // in bytes; -1: the directory is there without a file that could be read
	Modified time.Time // content (mtime)
	Changed  time.Time // content, name or owner (ctime)
	Inode    uint64
}

// Problem is something that could not be read, or that has no place in a registry's storage. The walk went on without it.
type Problem struct {
	Path string // relative to docker/registry/v2
	Err  error  // wraps mooring.ErrInvalid for a name or a kind of file that a registry does not make; else an I/O error
}

// Snapshot is what a storage contained while it was walked.
type Snapshot struct {
	Repositories []Repository // sorted by name
	Blobs        map[registry.Digest]Blob
	Problems     []Problem // sorted by path
	Taken        time.Time // when the walk began: what came later may be missing
}
