package images

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Tags tells what a registry that keeps its tags in a database (Harbor from 2.15 on) has in it. The errors wrap mooring.ErrUnavailable if the database does not answer, and mooring.ErrCorrupt if
// its answer makes no sense.
type Tags interface {
	// Mark returns a text that is another one when tags or images have come, gone or moved. It is cheap.
	Mark(ctx context.Context) (string, error)
	// Rows returns all tags and images, of one moment.
	Rows(ctx context.Context) (*Rows, error)
}

// Needs is a [Tags] that can be asked for the blobs of some images, so that those of all, which are many, need not be in its Rows. It is asked about images whose own manifests are lost.
type Needs interface {
	// Needs returns the blobs that these images need, as far as the database knows, but what is elsewhere (foreign layers).
	Needs(ctx context.Context, images []registry.Digest) (map[registry.Digest][]Ref, error)
}

// Rows is what the database says.
type Rows struct {
	Repositories []RowRepository           // sorted by name
	Blobs        map[registry.Digest]int64 // the sizes in bytes of the blobs that its images name, but what is elsewhere
}

// RowRepository is what the database says of a repository.
type RowRepository struct {
	Name   string
	Images []RowImage // sorted by digest
	Tags   []RowTag   // sorted by name
}

// RowImage is what the database says of an image: that it must be there.
type RowImage struct {
	Digest registry.Digest
	Media  string            // of the image's manifest
	Parts  []registry.Digest // of an index
	Blobs  []registry.Digest // but the image's manifest; nil: not told
}

// RowTag is what the database says of a tag.
type RowTag struct {
	Name   string
	Target registry.Digest
	Pushed time.Time // when it was made, or moved
}

// repository returns what the database says of the repository, nil if it does not know it.
func (r *Rows) repository(name string) *RowRepository {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.Repositories, name, func(r RowRepository, name string) int { return cmp.Compare(r.Name, name) })
	if !ok {
		return nil
	}
	return &r.Repositories[i]
}

// image returns what the database says of the image, nil if it does not know it.
func (r *RowRepository) image(d registry.Digest) *RowImage {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.Images, d, func(img RowImage, d registry.Digest) int { return cmp.Compare(img.Digest, d) })
	if !ok {
		return nil
	}
	return &r.Images[i]
}
