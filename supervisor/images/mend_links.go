package images

import (
	"context"
	"fmt"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// mendLinks makes the empty links anew that are named after what they have to say: those to a repository's blobs and images' manifests, and those of tags' indexes.
//
// A registry before 3.1 writes a link in place, one that says the same already, too: when an image is pushed again, unchanged or under one more tag, and when two clients upload one blob. A power
// cut in that moment takes a link that was acknowledged long before, and with it the image. Its directory says what it said, and nothing is lost by believing it if the content is there and
// right: that is read and hashed first. A link that says something wrong, or is gone (as after a deletion), is left as it is.
//
// It comes before the tags: the newest image in a tag's index may be one whose own link was emptied in the same moment. It says what it did, and what it could not do.
func mendLinks(ctx context.Context, s *layout.Storage, snap *layout.Snapshot) (notes []string, err error) {
	empty := emptyLinks(snap)
	if len(empty) == 0 {
		return nil, nil
	}
	blobs := make(map[registry.Digest]layout.Blob)
	for _, l := range empty {
		if b, ok := snap.Blobs[l.Name]; ok && b.Size >= 0 {
			blobs[l.Name] = b
		}
	}
	right := make(map[registry.Digest]bool)
	all := make([]layout.Blob, 0, len(blobs))
	for _, b := range blobs {
		all = append(all, b)
	}
	if err := s.Rehash(ctx, all, layout.Pace{Direct: true}, func(h layout.Hashed) { right[h.Blob.Digest] = h.Err == nil }); err != nil {
		return nil, fmt.Errorf("hash what empty links have to name: %w", err)
	}
	for _, l := range empty {
		if !right[l.Name] {
			continue // it stays a finding
		}
		if err := s.Relink(*l, l.Name); err != nil {
			notes = append(notes, fmt.Sprintf("the link %s is empty and could not be made anew: %v", l.Path, err))
			continue
		}
		notes = append(notes, fmt.Sprintf("the link %s was empty; it was made anew and says %s, after which it is named and which is there and right", l.Path, l.Name))
		l.Target, l.Size, l.Problem = l.Name, int64(registry.LinkLen), "" // when it was changed stays: a tag's newest image is told by that
	}
	return notes, nil
}

// emptyLinks returns the empty links that are named after what they have to say.
func emptyLinks(snap *layout.Snapshot) (empty []*layout.Link) {
	add := func(links []layout.Link) {
		for i := range links {
			if links[i].Problem == layout.LinkEmpty && links[i].Name != "" {
				empty = append(empty, &links[i])
			}
		}
	}
	for i := range snap.Repositories {
		r := &snap.Repositories[i]
		add(r.Revisions)
		add(r.Layers)
		for j := range r.Tags {
			add(r.Tags[j].Index)
		}
	}
	return empty
}
