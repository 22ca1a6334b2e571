package images

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Source is another registry, from which blobs are fetched.
type Source interface {
	// ImageManifest returns an image's manifest, whose digest was compared.
	ImageManifest(ctx context.Context, repository string, d registry.Digest) ([]byte, error)
	// Blob returns a blob's bytes as they come. Whoever reads them hashes them.
	Blob(ctx context.Context, repository string, d registry.Descriptor) (io.ReadCloser, error)
}

// Caches are what a registry remembers of blobs, and believes although the blob is gone.
type Caches interface {
	// Flush empties them.
	Flush(ctx context.Context) error
}

// Repair is the repair of a storage, which somebody asked for. Nothing is deleted: what is damaged is moved aside.
type Repair struct {
	Storage *layout.Storage
	From    Source // nil: nothing is fetched; links are made anew all the same
	// Prefix is put before a repository's name to get its name at the source.
	Prefix string
	Caches Caches // nil: there are none
	// Show is told of each step; nil: nobody is.
	Show func(text string)
}

// Outcome is what became of one thing that was wrong.
type Outcome struct {
	Finding  Finding `json:"finding"`
	Repaired bool    `json:"repaired"`
	Text     string  `json:"text"` // what was done, or why not
}

// Run repairs what can be proved, of what was found in seen: blobs by their digest from the source, links by the images that need them, and tags whose link is not valid by their index. It does not
// decide which of two images a tag should name. The error is for what ended the repair before its end; what could not be repaired is in the outcomes.
func (r *Repair) Run(ctx context.Context, seen *Seen, findings []Finding) ([]Outcome, error) {
	if r.Show == nil {
		r.Show = func(string) {}
	}
	owner, err := r.Storage.Owner()
	if err != nil {
		return nil, err
	}
	job := &repairing{Repair: r, seen: seen, owner: owner, done: make(map[string]Outcome)}
	all, err := job.all(ctx, findings)
	if !job.moved || r.Caches == nil {
		return all, err
	}
	r.Show("flushing what the registry remembers of its blobs")
	// Also if the repair was stopped: what was moved was moved.
	if ferr := r.Caches.Flush(context.WithoutCancel(ctx)); ferr != nil {
		err = errors.Join(err, fmt.Errorf("flush the registry's caches, which may know blobs as they were before: %w", ferr))
	}
	return all, err
}

func (r *repairing) all(ctx context.Context, findings []Finding) ([]Outcome, error) {
	all := []Outcome{}
	for _, f := range inOrder(findings) {
		if err := context.Cause(ctx); err != nil {
			return all, fmt.Errorf("repair: %w", err)
		}
		all = append(all, r.repair(ctx, f, findings))
	}
	return all, nil
}

// inOrder puts contents before links, and those before tags: a link is made anew when what it names is right.
func inOrder(findings []Finding) []Finding {
	rank := func(k Kind) int {
		switch k {
		case ImageMissing, ImageDamaged:
			return 0
		case BlobMissing, BlobSize, BlobDamaged:
			return 1
		case RevisionLink, PartMissing:
			return 2
		case LayerLink, IndexLink:
			return 3
		default:
			return 4
		}
	}
	sorted := slices.Clone(findings)
	slices.SortStableFunc(sorted, func(a, b Finding) int { return cmp.Compare(rank(a.Kind), rank(b.Kind)) })
	return sorted
}

// repairing is one repair under way.
type repairing struct {
	*Repair

	seen  *Seen
	owner layout.Owner
	done  map[string]Outcome // by what was repaired: many images may need one blob
	moved bool               // a blob was moved aside
}

func (r *repairing) repair(ctx context.Context, f Finding, all []Finding) Outcome {
	what := string(f.Digest)
	if f.link != nil {
		what = f.link.Path
	}
	if o, ok := r.done[what]; ok {
		o.Finding = f
		return o
	}
	text, err := r.one(ctx, f, all)
	o := Outcome{Finding: f, Repaired: err == nil, Text: text}
	if err != nil {
		o.Text = err.Error()
	}
	r.Show(fmt.Sprintf("%s: %s", cmp.Or(string(f.Digest), f.Repository+":"+f.Tag), o.Text))
	r.done[what] = o
	return o
}

var errUndecided = errors.New("not repaired: what is right cannot be proved; push the image again, or tag the right one")

func (r *repairing) one(ctx context.Context, f Finding, all []Finding) (string, error) {
	switch f.Kind {
	case ImageMissing, ImageDamaged:
		return r.blob(ctx, f.Digest, registry.UnknownSize, all)
	case BlobMissing, BlobSize, BlobDamaged:
		return r.blob(ctx, f.Digest, r.size(f.Digest), all)
	case RevisionLink, LayerLink, IndexLink, PartMissing:
		return r.link(ctx, f)
	case TagLink:
		return r.tag(f)
	default:
		return "", errUndecided
	}
}

// size returns how many bytes a blob has to have, by the images that need it. Where they differ, one was pushed onto a blob that was cut off.
func (r *repairing) size(d registry.Digest) int64 {
	size := int64(registry.UnknownSize)
	for _, img := range r.seen.Images {
		for _, ref := range img.Blobs {
			if ref.Digest == d {
				size = max(size, ref.Size)
			}
		}
	}
	return size
}

// blob fetches a blob, moves aside what is in its place, and puts it there.
func (r *repairing) blob(ctx context.Context, d registry.Digest, size int64, all []Finding) (string, error) {
	// It may be right, and only an image say that it has another size.
	if r.right(ctx, d) {
		return "", errors.New("not repaired: the blob is right, and the image's manifest says something else of it; push the image again")
	}
	repositories := repositoriesOf(d, all)
	switch {
	case len(repositories) == 0:
		return r.aside(d)
	case r.From == nil:
		return "", errors.New("not repaired: there is no registry to fetch it from")
	}
	content, size, err := r.fetch(ctx, d, size, repositories)
	if err != nil {
		return "", err
	}
	defer func() { _ = content.Close() }()
	text := "fetched, hashed, placed and read back"
	moved, err := r.Storage.Aside(d)
	switch {
	case err == nil:
		r.moved = true
		text += "; what was there is now " + moved
	case !errors.Is(err, mooring.ErrNotFound):
		return "", err
	}
	r.Show(fmt.Sprintf("fetching %s", d))
	if err := r.Storage.Place(ctx, d, size, content, r.owner); err != nil {
		return "", err
	}
	return text, nil
}

// right reports whether the blob has its digest.
func (r *repairing) right(ctx context.Context, d registry.Digest) bool {
	b, err := r.Storage.Blob(d)
	if err != nil {
		return false
	}
	right := false
	err = r.Storage.Rehash(ctx, []layout.Blob{b}, layout.Pace{Direct: true}, func(h layout.Hashed) { right = h.Err == nil })
	return err == nil && right
}

// aside moves a damaged blob away that no image needs.
func (r *repairing) aside(d registry.Digest) (string, error) {
	moved, err := r.Storage.Aside(d)
	if err != nil {
		return "", err
	}
	r.moved = true
	return "no image needs it; it is now " + moved, nil
}

// repositoriesOf returns the repositories whose images need the blob.
func repositoriesOf(d registry.Digest, all []Finding) []string {
	var names []string
	for _, f := range all {
		if f.Digest == d && f.Repository != "" && !slices.Contains(names, f.Repository) {
			names = append(names, f.Repository)
		}
	}
	return names
}

// fetch opens a blob at the source, in the first of the repositories that has it.
func (r *repairing) fetch(ctx context.Context, d registry.Digest, size int64, repositories []string) (io.ReadCloser, int64, error) {
	var errs []error
	for _, name := range repositories {
		name = r.Prefix + name
		if size == registry.UnknownSize {
			content, err := r.From.ImageManifest(ctx, name, d)
			if err == nil {
				return io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
			}
			errs = append(errs, err)
			continue
		}
		body, err := r.From.Blob(ctx, name, registry.Descriptor{Digest: d, Size: size})
		if err == nil {
			return body, size, nil
		}
		errs = append(errs, err)
	}
	return nil, 0, errors.Join(errs...)
}

// link makes a link anew, if what it has to name is there and right.
func (r *repairing) link(ctx context.Context, f Finding) (string, error) {
	if f.link == nil {
		return "", errUndecided
	}
	// What no image needs may be gone for good: then the name of its directory is proof enough of what the link said.
	if f.Image != "" && !r.right(ctx, f.to) {
		return "", fmt.Errorf("not repaired: %s, which it has to name, is not there or not right: %w", f.to, mooring.ErrNotFound)
	}
	if err := r.Storage.Relink(*f.link, f.to); err != nil {
		return "", err
	}
	return "made anew", nil
}

// tag makes a tag's link anew from the tag's index.
func (r *repairing) tag(f Finding) (string, error) {
	for i := range r.seen.Repositories {
		repo := &r.seen.Repositories[i]
		if repo.Name != f.Repository {
			continue
		}
		for j := range repo.Tags {
			t := &repo.Tags[j]
			if t.Name != f.Tag {
				continue
			}
			to := newestOf(t, repo, r.seen)
			if to == "" {
				return "", fmt.Errorf("not repaired: the tag's index has no image that is right: %w", mooring.ErrNotFound)
			}
			if err := relinkTag(r.Storage, t, to); err != nil {
				return "", err
			}
			return "made anew; it says " + string(to) + ", the newest in the tag's index whose image's manifest is right", nil
		}
	}
	return "", errUndecided
}

// rounds is how often a repair begins anew: an image that is there again needs blobs that nobody could judge before.
const rounds = 4

// RepairAll verifies the storage by all tiers, repairs what it finds, and verifies again, until there is nothing more that it can do. It returns what became of each finding, and the last verdict.
func RepairAll(ctx context.Context, r *Repair, pace layout.Pace, show func(Progress)) (outcomes []Outcome, v Verdict, err error) {
	p, err := NewProver(Setup{Storage: r.Storage.Dir(), LookOnly: true})
	if err != nil {
		return nil, Verdict{}, err
	}
	more := true
	for round := 0; ; round++ {
		var seen *Seen
		if seen, v, err = p.verifyAll(ctx, pace, show); err != nil || !v.Damaged() || !more || round == rounds {
			return outcomes, v, err
		}
		done, err := r.Run(ctx, seen, v.Findings)
		outcomes = merge(outcomes, done)
		if err != nil {
			return outcomes, v, err
		}
		more = slices.ContainsFunc(done, func(o Outcome) bool { return o.Repaired })
	}
}

// merge adds the outcomes of another round: of what was tried twice, the last counts.
func merge(all, more []Outcome) []Outcome {
	same := func(a, b Finding) bool {
		return a.Repository == b.Repository && a.Tag == b.Tag && a.Image == b.Image && a.Digest == b.Digest
	}
	for _, o := range more {
		all = slices.DeleteFunc(all, func(old Outcome) bool { return same(old.Finding, o.Finding) })
		all = append(all, o)
	}
	return all
}
