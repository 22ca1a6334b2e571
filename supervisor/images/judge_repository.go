package images

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// inRepository is the judgement of one repository.
type inRepository struct {
	*judge
	*layout.Repository

	known *repository
	rows  *RowRepository
	tags  []seenTag
	wrong map[registry.Digest]bool     // the images of which something was found wrong
	leads map[registry.Digest][]string // the tags that lead to an image, also through indexes; nil: not asked for yet
	links map[registry.Digest]bool     // the links to blobs of which was told what is wrong with them
}

func (r *inRepository) run() {
	r.wrong, r.links = make(map[registry.Digest]bool), make(map[registry.Digest]bool)
	r.tags = r.seenTags()
	r.v.Tags += len(r.tags)
	for i := range r.Revisions {
		l := &r.Revisions[i]
		switch {
		case !r.counts(l.Name):
		case l.Problem == "":
			r.image(l.Name)
		case l.Problem != layout.LinkMissing:
			r.v.Images++
			r.foundLink(RevisionLink, l, l.Name, l.Name, "the repository's link to the image")
			r.content(l.Name)
		}
	}
	r.missing()
	for _, t := range r.tags {
		r.tag(t)
	}
	r.goneTags()
	r.goneImages()
	r.strayLinks()
	for i := range r.Revisions {
		if l := &r.Revisions[i]; l.Problem == "" && r.counts(l.Name) && r.intact(l.Name, nil) {
			r.v.Intact++
		}
	}
}

// counts reports whether the image is one of the registry's. What Harbor's database does not have was deleted, or never acknowledged: its garbage collection takes it apart in any order.
func (r *inRepository) counts(d registry.Digest) bool {
	return r.seen.Rows == nil || r.rows.image(d) != nil
}

// image judges an image that the repository has.
func (r *inRepository) image(d registry.Digest) {
	r.v.Images++
	if r.content(d) && !r.m.Empty() && !r.m.has(r.Name, d) {
		r.v.New = append(r.v.New, Difference{Repository: r.Name, Digest: d, Text: "the image"})
	}
}

// content judges an image's manifest and what it needs, and reports whether the image's manifest is right.
func (r *inRepository) content(d registry.Digest) bool {
	img, ok := r.seen.Images[d]
	if !ok {
		img.Err = mooring.ErrNotFound
	}
	wrong := img.Err != nil && !(r.seen.Cache && errors.Is(img.Err, mooring.ErrNotFound))
	if wrong {
		kind, text := r.imageText(d, img.Err)
		r.found(Finding{Kind: kind, Image: d, Digest: d, Text: text})
	}
	r.need(d, img)
	return !wrong
}

// need judges what an image needs, as far as that is known.
func (r *inRepository) need(d registry.Digest, img Image) {
	if _, ok := r.needed[d]; !ok {
		r.needed[d] = struct{}{}
		r.v.Blobs++
		r.v.Bytes += max(r.seen.Blobs[d].Size, 0)
	}
	for _, ref := range img.Blobs {
		if kind, text := r.blob(ref); kind != "" {
			r.found(Finding{Kind: kind, Image: d, Digest: ref.Digest, Text: text})
		}
		r.layerLink(d, ref.Digest)
	}
}

func (r *inRepository) imageText(d registry.Digest, err error) (Kind, string) {
	b, there := r.seen.Blobs[d]
	switch {
	case errors.Is(err, mooring.ErrNotFound):
		if err := r.blocked.to(blobPath(d)); err != nil {
			return Unreadable, fmt.Sprintf("the image's manifest cannot be read: %v", err)
		}
		return ImageMissing, "the image's manifest is not there"
	case errors.Is(err, mooring.ErrCorrupt) && there && b.Size == 0:
		return ImageDamaged, "the image's manifest is empty"
	case errors.Is(err, mooring.ErrCorrupt):
		return ImageDamaged, fmt.Sprintf("the image's manifest is damaged: %v", err)
	default:
		return Unreadable, fmt.Sprintf("the image's manifest cannot be read: %v", err)
	}
}

// layerLink judges the repository's link to a blob that an image needs.
func (r *inRepository) layerLink(image, d registry.Digest) {
	if err, ok := r.seen.unlinked[pair{r.Name, d}]; ok {
		r.found(Finding{Kind: LayerLink, Image: image, Digest: d, Text: fmt.Sprintf("the repository does not give the blob, which another repository gave: %v", err)})
	}
	if r.seen.Remote || r.seen.Cache {
		return
	}
	l := findLink(r.Layers, d)
	if sound(l) {
		return
	}
	if l == nil {
		l = &layout.Link{Path: layerPath(r.Name, d), Name: d, Size: -1, Problem: layout.LinkMissing}
		if err := r.blocked.to(l.Path); err != nil {
			l.Problem = err.Error()
		}
	}
	r.links[d] = true
	r.foundLink(LayerLink, l, image, d, "the repository's link to the blob")
}

// strayLinks lists links to blobs that no image needs and that say something wrong: the registry fails at them in a garbage collection, and when the blob is pushed.
func (r *inRepository) strayLinks() {
	for i := range r.Layers {
		l := &r.Layers[i]
		if l.Problem != "" && l.Problem != layout.LinkMissing && !r.links[l.Name] {
			r.foundLink(LayerLink, l, "", l.Name, "the repository's link to a blob that no image needs")
		}
	}
}

// missing lists the images that are needed and that the repository has no link to, nor a wrong one.
func (r *inRepository) missing() {
	told := make(map[registry.Digest]bool)
	lacks := func(d registry.Digest) bool {
		l := findLink(r.Revisions, d)
		return (l == nil || l.Problem == layout.LinkMissing) && !told[d] && !r.seen.Cache
	}
	for _, t := range r.wantedTags() {
		if lacks(t) {
			told[t] = true
			r.lost(t, "a tag names the image")
		}
	}
	if r.rows != nil {
		for _, img := range r.rows.Images {
			if lacks(img.Digest) {
				told[img.Digest] = true
				r.lost(img.Digest, "the database has the image")
			}
		}
	}
	for _, l := range r.Revisions {
		if l.Problem != "" || !r.counts(l.Name) {
			continue
		}
		for _, part := range r.seen.Images[l.Name].Manifests {
			if lacks(part.Digest) {
				r.part(l.Name, part.Digest)
			}
		}
	}
}

// wantedTags returns the images that tags name.
func (r *inRepository) wantedTags() []registry.Digest {
	var all []registry.Digest
	for _, t := range r.tags {
		if t.target != "" {
			all = append(all, t.target)
		}
	}
	if r.seen.TagsUnknown { // then the manifest's tags are the best that is known
		for _, name := range slices.Sorted(maps.Keys(r.known.tags)) {
			all = append(all, r.m.digests.keys[r.known.tags[name].target].digest())
		}
	}
	return all
}

// lost tells of an image that must be there, by something else than an index.
func (r *inRepository) lost(d registry.Digest, why string) {
	r.v.Images++
	img, ok := r.seen.Images[d]
	if err := r.blocked.to(revisionPath(r.Name, d)); err != nil {
		r.found(Finding{Kind: Unreadable, Image: d, Digest: d, Text: fmt.Sprintf("%s, and the repository's link to it cannot be read: %v", why, err)})
		return
	}
	if !ok || errors.Is(img.Err, mooring.ErrNotFound) {
		r.found(Finding{Kind: ImageMissing, Image: d, Digest: d, Text: why + ", and it is not there"})
		r.need(d, img)
		return
	}
	r.found(Finding{Kind: RevisionLink, Image: d, Digest: d, Text: why + ", and the repository has no link to it", link: r.revision(d), to: d})
	r.content(d)
}

func (r *inRepository) revision(d registry.Digest) *layout.Link {
	if l := findLink(r.Revisions, d); l != nil {
		return l
	}
	return &layout.Link{Path: revisionPath(r.Name, d), Name: d, Size: -1, Problem: layout.LinkMissing}
}

// part tells of an image that an index names and the repository does not have. An index that was pushed without some of its images is no damage; so much is known of one that the manifest has.
func (r *inRepository) part(index, d registry.Digest) {
	if r.m.has(r.Name, index) && !r.m.has(r.Name, d) {
		return
	}
	f := Finding{Kind: PartMissing, Image: index, Digest: d, Text: "the index names an image that the repository does not have: " + deletedOrLost}
	if !r.m.has(r.Name, d) {
		f.Text = "the index names an image that the repository does not have: never pushed, " + deletedOrLost
	}
	if img, ok := r.seen.Images[d]; ok && img.Err == nil && !r.seen.Remote {
		f.Text += "; the image's manifest is there, and only the link to it is not"
		f.link, f.to = r.revision(d), d
	}
	if err := r.blocked.to(revisionPath(r.Name, d)); err != nil {
		f = Finding{Kind: Unreadable, Image: index, Digest: d, Text: fmt.Sprintf("the index names an image, and the repository's link to it cannot be read: %v", err)}
	}
	r.found(f)
	r.keep[item{repository: r.Name, image: d}] = struct{}{}
}

// goneImages lists what the manifest has and nothing needs any more.
func (r *inRepository) goneImages() {
	if r.seen.Remote { // what no tag leads to cannot be seen
		return
	}
	for _, i := range slices.Sorted(maps.Keys(r.known.revisions)) {
		d := r.m.digests.keys[i].digest()
		l := findLink(r.Revisions, d)
		it := item{repository: r.Name, image: d}
		if _, ok := r.keep[it]; ok || l != nil && l.Problem != layout.LinkMissing {
			continue
		}
		if err := r.blocked.to(revisionPath(r.Name, d)); err != nil {
			r.found(Finding{Kind: Unreadable, Image: d, Digest: d, Text: fmt.Sprintf("the repository's link to the image cannot be read: %v", err)})
			continue
		}
		r.v.Gone = append(r.v.Gone, Difference{Repository: r.Name, Digest: d, Text: "the image: " + deletedOrLost})
	}
}

// intact reports whether nothing of the image and what it is made of was found wrong. above are the indexes that led to it.
func (r *inRepository) intact(d registry.Digest, above []registry.Digest) bool {
	if r.wrong[d] {
		return false
	}
	for _, part := range r.seen.Images[d].Manifests {
		if !slices.Contains(above, part.Digest) && !r.intact(part.Digest, append(above, d)) {
			return false
		}
	}
	return true
}

// foundLink tells of a link that is not valid. image is what it is needed for, d what it should say.
func (r *inRepository) foundLink(kind Kind, l *layout.Link, image, d registry.Digest, what string) {
	f := Finding{Kind: kind, Image: image, Digest: d, link: l, to: d}
	switch l.Problem {
	case layout.LinkMissing:
		f.Text = what + " is missing"
	case layout.LinkEmpty:
		f.Text = what + " is empty"
	case layout.LinkInvalid:
		f.Text = fmt.Sprintf("%s says no digest in its %d bytes", what, l.Size)
	case layout.LinkLies:
		f.Text = fmt.Sprintf("%s says %s", what, l.Target)
	default:
		f.Kind, f.Text, f.link = Unreadable, fmt.Sprintf("%s cannot be read: %s", what, l.Problem), nil
	}
	r.found(f)
}

// found lists a finding about an image of the repository, once for each tag that leads to the image.
func (r *inRepository) found(f Finding) {
	f.Repository = r.Name
	f.Unfinished = !r.m.Empty()
	if f.Image != "" {
		r.wrong[f.Image] = true
		r.keep[item{repository: r.Name, image: f.Image}] = struct{}{}
		f.Unfinished = !r.m.Empty() && !r.m.has(r.Name, f.Image)
	}
	f.LastRight = r.lastRight(f)
	tags := r.leading()[f.Image]
	if len(tags) == 0 || f.Image == "" {
		r.v.Findings = append(r.v.Findings, f)
		return
	}
	for _, tag := range tags {
		f.Tag = tag
		r.v.Findings = append(r.v.Findings, f)
	}
}

func (r *inRepository) lastRight(f Finding) time.Time {
	switch {
	case f.Kind == BlobDamaged || f.Kind == ImageDamaged:
		return r.m.verified(f.Digest)
	case f.Image != "" && r.m.has(r.Name, f.Image):
		return r.m.right
	default:
		return time.Time{}
	}
}

// leading returns the tags that lead to each image.
func (r *inRepository) leading() map[registry.Digest][]string {
	if r.leads != nil {
		return r.leads
	}
	r.leads = make(map[registry.Digest][]string)
	lead := func(tag string, top registry.Digest) {
		reached := map[registry.Digest]bool{}
		var walk func(d registry.Digest)
		walk = func(d registry.Digest) {
			if d == "" || reached[d] {
				return
			}
			reached[d] = true
			r.leads[d] = append(r.leads[d], tag)
			for _, part := range r.seen.Images[d].Manifests {
				walk(part.Digest)
			}
		}
		walk(top)
	}
	for _, t := range r.tags {
		lead(t.name, t.target)
	}
	if r.seen.TagsUnknown {
		for _, name := range slices.Sorted(maps.Keys(r.known.tags)) {
			lead(name, r.m.digests.keys[r.known.tags[name].target].digest())
		}
	}
	return r.leads
}
