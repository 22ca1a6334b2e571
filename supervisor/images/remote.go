package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/remote"
)

// Walker is a registry that is elsewhere: it tells of everything that a tag leads to, with all bytes hashed.
type Walker interface {
	Walk(ctx context.Context, o remote.Order) (remote.Progress, error)
}

// VerifyRegistry judges a registry over HTTP, by the manifest if there is one, else by itself: each image that a tag leads to, with every blob hashed. only are the repositories to look at; none: the whole catalogue.
// What no tag leads to cannot be seen, nor links, which are the registry's own.
func VerifyRegistry(ctx context.Context, w Walker, m *Manifest, only []string, workers int, show func(Progress)) (Verdict, error) {
	show = quiet(show)
	began := time.Now()
	g := newGathering(began, only)
	order := remote.Order{Workers: workers, Only: only, See: g.see, Progress: func(p remote.Progress) { show(walked(began, p)) }}
	done, err := w.Walk(ctx, order)
	if err != nil {
		return Verdict{}, err
	}
	v := Judge(m, g.seen(), g.wrong)
	v.Hashed, v.HashedBytes = done.Blobs+done.Manifests, done.Bytes
	v.Findings = append(v.Findings, g.findings...)
	sortFindings(v.Findings)
	return v, nil
}

func walked(began time.Time, p remote.Progress) Progress {
	if p.Total == 0 {
		return Progress{What: "reading the images' manifests", Done: p.Manifests, Wrong: p.Misses}
	}
	return Progress{
		What: "hashing", Done: p.Blobs, All: p.AllBlobs, Bytes: p.Bytes, AllBytes: max(p.Total, p.Bytes), Wrong: p.Misses,
		Left: left(time.Since(began), p.Bytes, p.Total),
	}
}

// gathering puts together what a walk tells.
type gathering struct {
	snap         *layout.Snapshot
	images       map[registry.Digest]Image
	repositories map[string]*layout.Repository
	only         map[string]bool
	linked       map[pair]bool // images that a repository has
	wrong        map[registry.Digest]layout.Hashed
	refused      map[pair]error // blobs that a repository did not give
	findings     []Finding
}

// pair is a blob in a repository.
type pair struct {
	repository string
	digest     registry.Digest
}

func newGathering(began time.Time, only []string) *gathering {
	g := &gathering{
		snap: &layout.Snapshot{Blobs: make(map[registry.Digest]layout.Blob), Taken: began}, images: make(map[registry.Digest]Image),
		repositories: make(map[string]*layout.Repository), wrong: make(map[registry.Digest]layout.Hashed), refused: make(map[pair]error),
		linked: make(map[pair]bool),
	}
	if len(only) > 0 {
		g.only = make(map[string]bool)
	}
	return g
}

func (g *gathering) repository(name string) *layout.Repository {
	r, ok := g.repositories[name]
	if !ok {
		r = &layout.Repository{Name: name}
		g.repositories[name] = r
		if g.only != nil {
			g.only[name] = true
		}
	}
	return r
}

// see takes one fact.
func (g *gathering) see(f remote.Fact) {
	r := g.repository(f.Repository)
	d := f.Content.Digest
	switch f.Kind {
	case remote.SawRepository:
		if f.Err != nil {
			g.snap.Problems = append(g.snap.Problems, layout.Problem{Path: repositoryPath(f.Repository), Err: asUnread(f.Err)})
		}
	case remote.SawTag:
		t := layout.Tag{Name: f.Tag, Current: layout.Link{Target: d}}
		if f.Err != nil {
			t.Current = layout.Link{Problem: f.Err.Error()}
		}
		r.Tags = append(r.Tags, t)
	case remote.SawManifest:
		g.image(r, f)
	case remote.SawReferrers:
		g.findings = append(g.findings, Finding{
			Repository: f.Repository, Image: d, Digest: d, Kind: Unreadable, Text: fmt.Sprintf("what refers to the image cannot be listed: %v", f.Err),
		})
	case remote.SawBlob:
		switch {
		case f.Err != nil:
			g.refused[pair{f.Repository, d}] = f.Err
		case !f.Asked:
			g.snap.Blobs[d] = layout.Blob{Digest: d, Size: f.Content.Size}
		}
	}
}

// asUnread has an error that is about the registry not be taken for a strange name in a storage.
func asUnread(err error) error {
	if errors.Is(err, mooring.ErrInvalid) {
		return fmt.Errorf("%v", err) //nolint:errorlint // that it wraps ErrInvalid is what is taken off
	}
	return err
}

func (g *gathering) image(r *layout.Repository, f remote.Fact) {
	d := f.Content.Digest
	known, ok := g.images[d]
	if ok && known.Err == nil && f.Err != nil {
		if errors.Is(f.Err, mooring.ErrCorrupt) { // an index gives another size for it
			g.findings = append(g.findings, Finding{Repository: r.Name, Image: d, Digest: d, Kind: ImageDamaged, Text: f.Err.Error()})
		}
		return
	}
	if p := (pair{r.Name, d}); !g.linked[p] {
		g.linked[p] = true
		r.Revisions = append(r.Revisions, layout.Link{Name: d, Target: d})
	}
	img := Image{Err: f.Err, hashed: f.Err == nil}
	if f.Err == nil {
		img = imageOf(f.Manifest, func(d registry.Digest) registry.Digest { return d })
		img.hashed = true
		g.snap.Blobs[d] = layout.Blob{Digest: d, Size: f.Content.Size}
	}
	g.images[d] = img
}

// seen returns what was seen, and ends the gathering.
func (g *gathering) seen() *Seen {
	for _, r := range g.repositories {
		slices.SortFunc(r.Revisions, func(a, b layout.Link) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(r.Tags, func(a, b layout.Tag) int { return cmp.Compare(a.Name, b.Name) })
		g.snap.Repositories = append(g.snap.Repositories, *r)
	}
	slices.SortFunc(g.snap.Repositories, func(a, b layout.Repository) int { return cmp.Compare(a.Name, b.Name) })
	unlinked := make(map[pair]error)
	for p, err := range g.refused {
		switch _, elsewhere := g.snap.Blobs[p.digest]; {
		case !elsewhere:
			g.wrong[p.digest] = layout.Hashed{Blob: layout.Blob{Digest: p.digest, Size: -1}, Err: err}
		case !errors.Is(err, mooring.ErrCorrupt): // else an image gives another size for it, which is judged with the image
			unlinked[p] = err
		}
	}
	return &Seen{Snapshot: g.snap, Images: g.images, Only: g.only, Remote: true, unlinked: unlinked}
}
