package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// look is how often a walk has looked.
type look int

const (
	first look = iota
	second
	last
)

// doubt is a miss that may be none: somebody deleted an image while the walk went on, or the registry was restarted.
type doubt struct {
	fact       Fact
	repository *repository
	nodes      []*node  // the image manifests that it is, or that say so
	content    *content // or the blob that the repository's image manifests name
	place      *place   // where it is
	tag        string   // or the tag
	again      task     // looks again
}

// miss tells of a miss, or keeps it for a second look.
func (w *walk) miss(ctx context.Context, d doubt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doubt(ctx, d)
}

// doubt does the same; the lock is held.
func (w *walk) doubt(ctx context.Context, d doubt) {
	if ctx.Err() != nil {
		return // nothing was missed
	}
	if errors.Is(d.fact.Err, errUnreached) {
		if w.lost++; w.lost >= max(defaultWorkers, 2*w.order.Workers) {
			w.cancel(fmt.Errorf("given up after %d things without an answer: %w", w.lost, d.fact.Err))
			return
		}
	} else {
		w.lost = 0
	}
	gone := errors.Is(d.fact.Err, mooring.ErrNotFound)
	switch {
	case w.look == first && (gone || errors.Is(d.fact.Err, mooring.ErrUnavailable)), w.look == second && gone:
		w.doubts = append(w.doubts, d)
	default:
		w.report(d)
	}
}

// report tells of a miss, as soon as all image manifests are known, and so all tags that it belongs to. The lock is held.
func (w *walk) report(d doubt) {
	if w.unknown > 0 {
		w.held = append(w.held, d)
		return
	}
	if d.fact.Needed == nil {
		d.fact.Needed = slices.Sorted(maps.Keys(d.tags()))
	}
	if d.place != nil {
		d.place.told = append(d.place.told, d.fact.Needed...)
	}
	w.tell(d.fact)
}

// release tells of the misses that were held back, if nothing holds them back any more. The lock is held.
func (w *walk) release() {
	if w.unknown > 0 {
		return
	}
	for _, d := range w.held {
		w.report(d)
	}
	w.held = nil
}

// end tells of what is still held back when a walk did not come to its end.
func (w *walk) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unknown = 0
	w.release()
}

// tags returns the tags that lead to what is in doubt, each with the image manifest that it names; nil, if it could not be resolved. The lock is held.
func (d doubt) tags() map[string]*node {
	nodes := d.nodes
	switch {
	case d.tag != "":
		return map[string]*node{d.tag: nil}
	case d.content != nil:
		nodes = nil
		for _, c := range d.content.claims {
			if c.by.repository == d.repository {
				nodes = append(nodes, c.by)
			}
		}
	}
	return tagsOf(nodes)
}

// lookAgain ends the doubts. What is missing at a second look, and needed by a tag that was there after it, is missing.
func (w *walk) lookAgain(ctx context.Context) {
	again := w.take(second)
	for _, d := range again {
		w.discover(d.again)
	}
	w.pool.run(ctx, w.order.Workers)

	byRepository := make(map[*repository][]doubt)
	for _, d := range w.take(last) {
		byRepository[d.repository] = append(byRepository[d.repository], d)
	}
	for rep, doubts := range byRepository {
		w.pool.add(func(ctx context.Context) { w.settleDoubts(ctx, rep, doubts) })
	}
	w.pool.run(ctx, w.order.Workers)
}

// take returns the doubts, and begins the next look.
func (w *walk) take(next look) []doubt {
	w.mu.Lock()
	defer w.mu.Unlock()
	doubts := w.doubts
	w.doubts, w.look = nil, next
	return doubts
}

// settleDoubts tells of the misses in a repository that one of its tags still needs.
func (w *walk) settleDoubts(ctx context.Context, rep *repository, doubts []doubt) {
	tags, err := w.registry.Tags(ctx, rep.name)
	unknown := err != nil && !errors.Is(err, mooring.ErrNotFound) // then every tag counts as being there
	listed := func(tag string) bool { return unknown || slices.Contains(tags, tag) }
	now := make(map[string]registry.Digest)
	for _, d := range doubts {
		w.mu.Lock()
		found := d.tags()
		w.mu.Unlock()
		var needed []string
		for tag, n := range found {
			if listed(tag) && w.stillNames(ctx, rep, tag, n, now) {
				needed = append(needed, tag)
			}
		}
		if ctx.Err() != nil || len(needed) == 0 && d.fact.Kind != SawRepository {
			continue
		}
		slices.Sort(needed)
		d.fact.Needed = needed
		w.mu.Lock()
		w.report(d)
		w.mu.Unlock()
	}
}

// stillNames tells whether a tag names what it did when it was resolved; one of which nobody says anything else does. now has what tags name, as far as is known.
func (w *walk) stillNames(ctx context.Context, rep *repository, tag string, n *node, now map[string]registry.Digest) bool {
	if n == nil {
		return true
	}
	d, known := now[tag]
	if !known {
		d = w.follow(ctx, rep, tag, n.digest)
		now[tag] = d
	}
	return d == n.digest
}

// follow returns what a tag names now, or what it did if nobody says, and has it read if that is another image.
func (w *walk) follow(ctx context.Context, rep *repository, tag string, was registry.Digest) registry.Digest {
	d, err := w.registry.Resolve(ctx, rep.name, tag)
	if err != nil {
		return was
	}
	if d.Digest != was {
		w.reach(rep, d, func(n *node) { n.tags = append(n.tags, tag) })
	}
	return d.Digest
}
