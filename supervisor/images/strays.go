package images

import (
	"fmt"
	"slices"

	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// setStraysAside moves away what a push that was cut off has left of a blob: what is damaged, is needed by no image, and was never known to be right. A registry before 3.1 writes an image's manifest
// in place, so a power cut leaves it with no bytes, or zeros. When the push is made again, which nobody was told had succeeded, the registry finds that the file is there, keeps it, and
// acknowledges an image that cannot be read. Nothing is deleted; the findings become notes.
func setStraysAside(s *layout.Storage, m *Manifest, v *Verdict) {
	v.Findings = slices.DeleteFunc(v.Findings, func(f Finding) bool {
		if f.Kind != BlobDamaged || f.Repository != "" || !f.Unfinished && !m.Empty() {
			return false
		}
		moved, err := s.Aside(f.Digest)
		if err != nil {
			v.Notes = append(v.Notes, fmt.Sprintf("the blob %s could not be moved aside: %v", f.Digest, err))
			return false
		}
		v.Notes = append(v.Notes, fmt.Sprintf("the blob %s was damaged and needed by no image; it was moved aside, so that a push of it is not taken for one that is there: it is now %s", f.Digest, moved))
		return true
	})
}
