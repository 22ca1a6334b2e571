package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

const defaultWorkers = 8

// Walk verifies what the registry has: it lists repositories and tags, resolves each tag, reads and hashes each image's manifest that is reached from there (through
// indexes and as a referrer, too), and then each blob that one of them names, once, whatever the number of images that share it. A miss or a mismatch is told as a
// fact, and the walk goes on. What is gone because somebody deleted the image meanwhile is none: before anything is called missing, its tags are looked at again.
//
// What no tag leads to cannot be seen by this API, and is not verified.
//
// The error is for a walk that could not begin, or did not come to its end: the context's, or [mooring.ErrUnavailable] when the registry is gone for good.
func (r *Registry) Walk(ctx context.Context, o Order) (Progress, error) {
	names, err := r.Expand(ctx, o.Only)
	if err != nil {
		return Progress{}, err
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &walk{registry: r, order: o, pool: newPool(), cancel: cancel, contents: make(map[registry.Digest]*content)}
	w.progress.AllRepositories = len(names)
	for _, name := range slices.Backward(names) { // the pool begins with the last
		rep := &repository{name: name, manifests: make(map[registry.Digest]*node)}
		w.discover(func(ctx context.Context) { w.list(ctx, rep) })
	}
	w.pool.run(ctx, o.Workers)
	w.lookAgain(ctx)
	w.end()
	if ctx.Err() != nil {
		return w.progress, fmt.Errorf("walk %s: %w", r.name, context.Cause(ctx))
	}
	return w.progress, nil
}

// walk is one that is under way.
type walk struct {
	registry *Registry
	order    Order
	pool     *pool
	cancel   context.CancelCauseFunc

	mu       sync.Mutex // also held while the order's functions run
	progress Progress
	contents map[registry.Digest]*content
	look     look
	doubts   []doubt
	lost     int // things without an answer since the last that had one
	unknown  int // tasks that may yet find image manifests
	held     []doubt
}

// list lists a repository's tags.
func (w *walk) list(ctx context.Context, rep *repository) {
	tags, err := w.registry.Tags(ctx, rep.name)
	if errors.Is(err, mooring.ErrNotFound) && !slices.Contains(w.order.Only, rep.name) {
		tags, err = nil, nil // in the catalogue, and without a tag: distribution's answer
	}
	if err != nil {
		w.miss(ctx, doubt{fact: Fact{Kind: SawRepository, Repository: rep.name, Err: err}, repository: rep, again: func(ctx context.Context) { w.list(ctx, rep) }})
		return
	}
	w.see(Fact{Kind: SawRepository, Repository: rep.name}, func(p *Progress) { p.Repositories++ })
	tasks := make([]task, 0, len(tags))
	for _, tag := range tags {
		tasks = append(tasks, func(ctx context.Context) { w.resolve(ctx, rep, tag) })
	}
	w.discover(tasks...)
}

// discover has tasks done that find image manifests, or what leads to some.
func (w *walk) discover(tasks ...task) {
	w.mu.Lock()
	w.unknown += len(tasks)
	w.mu.Unlock()
	for _, t := range tasks {
		w.pool.add(func(ctx context.Context) {
			t(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.unknown--
			w.release()
		})
	}
}

// resolve asks what a tag names.
func (w *walk) resolve(ctx context.Context, rep *repository, tag string) {
	d, err := w.registry.Resolve(ctx, rep.name, tag)
	if err != nil {
		w.miss(ctx, doubt{
			fact:       Fact{Kind: SawTag, Repository: rep.name, Tag: tag, Needed: []string{tag}, Err: err},
			repository: rep, tag: tag, again: func(ctx context.Context) { w.resolve(ctx, rep, tag) },
		})
		return
	}
	w.see(Fact{Kind: SawTag, Repository: rep.name, Tag: tag, Content: d}, func(p *Progress) { p.Tags++ })
	w.reach(rep, d, func(n *node) { n.tags = append(n.tags, tag) })
}

// reach has an image's manifest read, unless it is or was, and links it to what leads to it.
func (w *walk) reach(rep *repository, d registry.Descriptor, link func(*node)) {
	w.mu.Lock()
	n, known := rep.manifests[d.Digest]
	if !known {
		n = &node{repository: rep, digest: d.Digest}
		rep.manifests[d.Digest] = n
	}
	link(n)
	checked := n.read
	w.mu.Unlock()
	switch {
	case !known:
		w.discover(func(ctx context.Context) { w.read(ctx, n) })
	case checked:
		w.checkClaims(n)
	}
}

// read reads an image's manifest, and reaches for what it names.
func (w *walk) read(ctx context.Context, n *node) {
	d := registry.Descriptor{Digest: n.digest, Size: registry.UnknownSize}
	body, err := w.registry.ImageManifest(ctx, n.repository.name, n.digest)
	var m registry.Manifest
	if err == nil {
		d.Size = int64(len(body))
		m, err = registry.ParseManifest(body)
		d.MediaType = m.MediaType
	}
	if err != nil {
		w.miss(ctx, doubt{
			fact:       Fact{Kind: SawManifest, Repository: n.repository.name, Content: d, Err: err},
			repository: n.repository, nodes: []*node{n}, again: func(ctx context.Context) { w.read(ctx, n) },
		})
		return
	}
	w.see(Fact{Kind: SawManifest, Repository: n.repository.name, Content: d, Manifest: m}, func(p *Progress) {
		p.Manifests++
		n.size, n.read = d.Size, true
	})
	w.checkClaims(n)
	for _, child := range m.Manifests {
		w.reach(n.repository, child, func(below *node) {
			below.above = append(below.above, n)
			below.claims = append(below.claims, claim{by: n, size: child.Size})
		})
	}
	for _, b := range m.Blobs {
		if len(b.URLs) == 0 { // else it is elsewhere by intent
			w.need(n, b)
		}
	}
	w.mu.Lock()
	ask := !n.repository.tagsOnly
	w.mu.Unlock()
	if ask {
		w.discover(func(ctx context.Context) { w.refer(ctx, n) })
	}
}

// refer reaches for what refers to an image's manifest.
func (w *walk) refer(ctx context.Context, n *node) {
	w.mu.Lock()
	skip := n.repository.tagsOnly
	w.mu.Unlock()
	if skip {
		return
	}
	all, api, err := w.registry.referrers(ctx, n.repository.name, n.digest)
	if err != nil {
		w.miss(ctx, doubt{
			fact:       Fact{Kind: SawReferrers, Repository: n.repository.name, Content: registry.Descriptor{Digest: n.digest, Size: registry.UnknownSize}, Err: err},
			repository: n.repository, nodes: []*node{n}, again: func(ctx context.Context) { w.refer(ctx, n) },
		})
		return
	}
	if !api {
		w.mu.Lock()
		n.repository.tagsOnly = true
		w.mu.Unlock()
		return
	}
	for _, d := range all {
		w.reach(n.repository, d, func(below *node) { below.above = append(below.above, n) })
	}
}

// checkClaims compares what is said about an image's manifest with what it is.
func (w *walk) checkClaims(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range n.claims {
		w.checkClaim(SawManifest, n.digest, n.size, c)
	}
	n.claims = nil
}

// checkClaim tells of a manifest that gives a size that what it names has not. So are the manifests that a push onto a damaged blob leaves. The lock is held.
func (w *walk) checkClaim(kind Kind, d registry.Digest, size int64, c claim) {
	if c.size == size || c.size == registry.UnknownSize {
		return
	}
	w.report(doubt{nodes: []*node{c.by}, fact: Fact{
		Kind: kind, Repository: c.by.repository.name, Content: registry.Descriptor{Digest: d, Size: size},
		Err: fmt.Errorf("%s %s has %d bytes, and image manifest %s says %d: %w", kind, d, size, c.by.digest, c.size, mooring.ErrCorrupt),
	}})
}

// see tells a fact that is as it should be.
func (w *walk) see(f Fact, count func(*Progress)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = 0
	count(&w.progress)
	w.tell(f)
}

// tell hands a fact out. The lock is held.
func (w *walk) tell(f Fact) {
	if f.Err != nil {
		w.progress.Misses++
	}
	if w.order.See != nil {
		w.order.See(f)
	}
	if w.order.Progress != nil {
		w.order.Progress(w.progress)
	}
}
