package images

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// hashing hashes blobs and gathers what comes out of it.
type hashing struct {
	m     *Manifest
	show  func(Progress)
	began time.Time
	all   Progress // how much there is to do

	right int // hashed, and right
	bytes int64
	wrong map[registry.Digest]layout.Hashed
	see   func(layout.Hashed) // for tests; may be nil

	mu    sync.Mutex
	fresh []layout.Hashed // since the last take
}

func newHashing(m *Manifest, show func(Progress)) *hashing {
	return &hashing{m: m, show: show, began: time.Now(), wrong: make(map[registry.Digest]layout.Hashed)}
}

// run hashes the blobs, and calls each of then after each of them.
func (h *hashing) run(ctx context.Context, s *layout.Storage, blobs []layout.Blob, pace layout.Pace, then ...func()) error {
	h.all = Progress{What: "hashing", All: len(blobs)}
	for _, b := range blobs {
		h.all.AllBytes += b.Size
	}
	h.show(h.all)
	return s.Rehash(ctx, blobs, pace, func(r layout.Hashed) {
		h.done(r)
		for _, f := range then {
			f()
		}
	})
}

func (h *hashing) done(r layout.Hashed) {
	if h.see != nil {
		h.see(r)
	}
	if r.Err == nil {
		h.right++
		h.bytes += r.Read
	} else {
		h.wrong[r.Blob.Digest] = r
	}
	h.mu.Lock()
	h.fresh = append(h.fresh, r)
	h.mu.Unlock()
	h.all.Done++
	h.all.Bytes += max(r.Blob.Size, 0)
	h.all.Wrong = len(h.wrong)
	h.all.Left = left(time.Since(h.began), h.all.Bytes, h.all.AllBytes)
	h.show(h.all)
}

// with returns how many blobs were hashed, and right, with the images' manifests that were when the storage was looked at.
func (h *hashing) with(seen *Seen) (blobs int, bytes int64) {
	blobs, bytes = h.right, h.bytes
	for d, img := range seen.Images {
		if img.hashed {
			blobs++
			bytes += seen.Blobs[d].Size
		}
	}
	return blobs, bytes
}

// left returns how long the rest will take at the speed so far.
func left(took time.Duration, done, all int64) time.Duration {
	if done <= 0 || all <= done || took < time.Second {
		return 0
	}
	return time.Duration(float64(took) / float64(done) * float64(all-done))
}

// take returns the change that records what was hashed since the last take. Whoever calls it may use the manifest.
func (h *hashing) take(now time.Time) *change {
	h.mu.Lock()
	fresh := h.fresh
	h.fresh = nil
	h.mu.Unlock()
	c := newChange()
	var same []key
	for _, r := range fresh {
		k := keyOf(r.Blob.Digest)
		i := h.m.recorded(r.Blob.Digest)
		changed := timeNano(r.Blob.Changed)
		switch {
		case r.Err == nil && i != none && h.m.blobs[i].size == r.Read && h.m.blobs[i].changed == changed:
			same = append(same, k)
		case r.Err == nil:
			c.blob(k, blob{size: r.Read, changed: changed, verified: now.UnixMilli()})
		case errors.Is(r.Err, mooring.ErrCorrupt):
			if i == none || h.m.blobs[i].changed != changed {
				c.blob(k, h.touched(i, r.Blob, changed))
			}
			c.damaged(k, now)
		}
	}
	if len(same) > 0 {
		c.verified(now, same)
	}
	return c
}

// touched returns what is recorded of a blob that is damaged, so that it is known whether its file is touched again.
func (h *hashing) touched(i id, b layout.Blob, changed int64) blob {
	if i == none {
		return blob{size: b.Size, changed: changed}
	}
	known := h.m.blobs[i]
	known.changed = changed
	return known
}

// images records which images' manifests were hashed, and right.
func (c *change) images(m *Manifest, seen *Seen, now time.Time) {
	var keys []key
	for d, img := range seen.Images {
		i := m.recorded(d)
		if b := seen.Blobs[d]; img.hashed && i != none && m.blobs[i].size == b.Size && m.blobs[i].changed == timeNano(b.Changed) {
			keys = append(keys, keyOf(d))
		}
	}
	if len(keys) > 0 {
		c.verified(now, keys)
	}
}
