package images

import (
	"context"
	"time"

	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Change is a change of a manifest.
type Change = change

// NewChange returns one that does nothing yet.
func NewChange() *Change { return newChange() }

// Room is what comes before the body in a change.
const Room = room

func (c *change) Taken(t time.Time) *Change { c.at(opTaken, t); return c }

func (c *change) Blob(d registry.Digest, size int64, changed, verified time.Time) *Change {
	millis := int64(0)
	if !verified.IsZero() {
		millis = verified.UnixMilli()
	}
	c.blob(keyOf(d), blob{size: size, changed: timeNano(changed), verified: millis})
	return c
}

func (c *change) Image(d registry.Digest, media string, blobs, manifests []registry.Digest) *Change {
	c.image(keyOf(d), media, nil, keysFor(blobs), keysFor(manifests), nil)
	return c
}

func keysFor(digests []registry.Digest) []key {
	keys := make([]key, len(digests))
	for i, d := range digests {
		keys[i] = keyOf(d)
	}
	return keys
}

func (c *change) Repository(name string) *Change { c.named(opRepository, name); return c }

func (c *change) NoRepository(name string) *Change { c.named(opNoRepository, name); return c }

func (c *change) Revision(d registry.Digest) *Change { c.about(opRevision, keyOf(d)); return c }

func (c *change) NoRevision(d registry.Digest) *Change { c.about(opNoRevision, keyOf(d)); return c }

func (c *change) Tag(name string, d registry.Digest, moved time.Time) *Change {
	c.tag(name, keyOf(d), timeNano(moved))
	return c
}

func (c *change) NoTag(name string) *Change { c.named(opNoTag, name); return c }

func (c *change) Forget(d registry.Digest) *Change { c.about(opForget, keyOf(d)); return c }

func (c *change) Verified(at time.Time, digests ...registry.Digest) *Change {
	c.verified(at, keysFor(digests))
	return c
}

// Body returns the change as it is written.
func (c *change) Body() []byte { return c.body() }

// Apply is apply.
func (m *Manifest) Apply(encoded []byte) error { return m.apply(encoded) }

// Whole returns the change that makes the manifest.
func (m *Manifest) Whole() []byte { return m.whole().body() }

// Compact is compact.
func (m *Manifest) Compact() { m.compact() }

// Digests returns how many digests have an id.
func (m *Manifest) Digests() int { return len(m.digests.keys) }

// Unseal is unseal.
func Unseal(data []byte) (uint64, []byte, error) { return unseal(data) }

// Seal is seal.
func Seal(number uint64, c *Change) []byte { return seal(number, c) }

// Save applies a change and records it.
func (r *Records) Save(m *Manifest, c *Change) error {
	if err := m.apply(c.body()); err != nil {
		return err
	}
	return r.save(m, c)
}

// Hook has f called after each step of each file that is written.
func (r *Records) Hook(f durable.Hook) { r.hook = f }

// Many sets after how many changes the whole manifest is written.
func (r *Records) Many(n int) { r.many = n }

// Number returns the number of what was written last.
func (r *Records) Number() uint64 { return r.number }

// With returns the change with that body.
func (c *change) With(body []byte) *Change {
	c.buf = append(c.buf[:room], body...)
	return c
}

// Sum is the checksum in a file's first line.
func Sum(head string, body []byte) string { return string(sum(head, body)) }

// Hashed has f told of each blob that tier 3 has hashed.
func (p *Prover) Hashed(f func(layout.Hashed)) { p.see = f }

// LookAt looks at a storage.
func LookAt(ctx context.Context, dir string, m *Manifest) (*Seen, error) {
	s, err := layout.Open(dir)
	if err != nil {
		return nil, err
	}
	return (&looking{storage: s, m: m, show: quiet(nil)}).look(ctx, nil, false)
}

// NoteOn is noteOn.
func NoteOn(kind int64) []string { return noteOn(kind) }
