package images

import (
	"fmt"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// mendTags makes each tag's link of zero bytes anew: a power cut in the moment in which a registry before 3.1 writes it leaves that, and destroys the tag that was there. It says what it did, and what it
// could not do; what it did is in seen.
func mendTags(s *layout.Storage, seen *Seen) (notes []string) {
	if seen.Rows != nil || seen.TagsUnknown {
		return nil // the registry does not read these tags
	}
	for i := range seen.Repositories {
		r := &seen.Repositories[i]
		for j := range r.Tags {
			t := &r.Tags[j]
			if t.Current.Problem != layout.LinkEmpty {
				continue
			}
			to := newestOf(t, r, seen)
			if to == "" {
				continue // it stays a finding
			}
			if err := relinkTag(s, t, to); err != nil {
				notes = append(notes, fmt.Sprintf("the link of the tag %s:%s is empty and could not be made anew: %v", r.Name, t.Name, err))
				continue
			}
			notes = append(notes, fmt.Sprintf("the link of the tag %s:%s was empty; it was made anew and says %s, the newest in the tag's index whose image's manifest is right", r.Name, t.Name, to))
		}
	}
	return notes
}

// newestOf returns the image that was pushed last under the tag, of those whose manifest is right and that the repository has. It is pure.
func newestOf(t *layout.Tag, r *layout.Repository, seen *Seen) (newest registry.Digest) {
	var when time.Time
	for i := range t.Index {
		l := &t.Index[i]
		img, ok := seen.Images[l.Name]
		if l.Problem == "" && sound(findLink(r.Revisions, l.Name)) && ok && img.Err == nil && (newest == "" || l.Changed.After(when)) {
			newest, when = l.Name, l.Changed
		}
	}
	return newest
}

// relinkTag makes a tag's link anew, and takes it down in the snapshot.
func relinkTag(s *layout.Storage, t *layout.Tag, to registry.Digest) error {
	if err := s.Relink(t.Current, to); err != nil {
		return err
	}
	t.Current = layout.Link{Path: t.Current.Path, Target: to, Size: int64(registry.LinkLen), Changed: time.Now()}
	return nil
}
