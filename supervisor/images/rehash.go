package images

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Rehash is tier 3: it hashes every blob that was not hashed in this round, and goes on where an earlier call was stopped, also in another process. A round that has ended begins anew with the
// next call. The error wraps ctx's cause if it was stopped; what was hashed until then is recorded.
func (p *Prover) Rehash(ctx context.Context, pace layout.Pace, show func(Progress)) (Verdict, error) {
	show = quiet(show)
	storage, err := layout.Open(p.setup.Storage)
	if err != nil {
		return Verdict{}, err
	}
	show(Progress{What: "looking at the storage"})
	snap, err := storage.Scan(ctx, 0)
	if err != nil {
		return Verdict{}, err
	}
	rest, err := p.round(ctx, snap)
	if err != nil {
		return Verdict{}, fmt.Errorf("rehash: %w", err)
	}
	h := newHashing(p.manifest, show)
	if err := p.hash(ctx, storage, h, rest, pace); err != nil {
		return Verdict{}, err
	}
	return p.sum(ctx, storage, h)
}

// hash hashes the blobs, and records now and then how far it is.
func (p *Prover) hash(ctx context.Context, storage *layout.Storage, h *hashing, blobs []layout.Blob, pace layout.Pace) error {
	h.see = p.see
	recorded := time.Now()
	// That a checkpoint could not be recorded is told by Last. The work goes on: what is hashed is hashed.
	err := h.run(ctx, storage, blobs, pace, func() {
		if time.Since(recorded) >= p.setup.Checkpoint {
			_ = p.checkpoint(ctx, h, false)
			recorded = time.Now()
		}
	})
	_ = p.checkpoint(context.WithoutCancel(ctx), h, err == nil)
	return err
}

// VerifyAll judges the storage by all three tiers at once, in the foreground: it is for a person, and for a registry that no supervisor looks after. If records are kept, what it saw is then taken into the manifest, and what was
// hashed in this round before is not hashed again: a verification that was stopped goes on where it was.
func (p *Prover) VerifyAll(ctx context.Context, pace layout.Pace, show func(Progress)) (Verdict, error) {
	_, v, err := p.verifyAll(ctx, pace, show)
	return v, err
}

func (p *Prover) verifyAll(ctx context.Context, pace layout.Pace, show func(Progress)) (*Seen, Verdict, error) {
	show = quiet(show)
	if err := p.take(ctx); err != nil {
		return nil, Verdict{}, err
	}
	storage, seen, err := p.look(ctx, show)
	p.give()
	if err != nil {
		return nil, Verdict{}, err
	}
	rest, err := p.round(ctx, seen.Snapshot)
	if err != nil {
		return nil, Verdict{}, fmt.Errorf("verify: %w", err)
	}
	rest = slices.DeleteFunc(rest, func(b layout.Blob) bool { return seen.Images[b.Digest].hashed })
	h := newHashing(p.manifest, show)
	if err := p.hash(ctx, storage, h, rest, pace); err != nil {
		return nil, Verdict{}, err
	}
	if err := p.take(ctx); err != nil {
		return nil, Verdict{}, err
	}
	defer p.give()
	hashed, bytes := h.with(seen)
	if len(h.wrong) > 0 { // some of it may have been deleted meanwhile
		now, err := p.lookAgain(ctx, storage)
		if err != nil {
			return nil, Verdict{}, err
		}
		now.Notes, seen = seen.Notes, now
	}
	v := Judge(p.manifest, seen, h.wrong)
	v.Hashed, v.HashedBytes = hashed, bytes
	if p.records == nil || seen.TagsUnknown {
		return seen, v, nil
	}
	return seen, v, p.commit(p.manifest.update(seen, v, time.Now()))
}

// round returns the blobs that are left to hash in this round, which it begins if the last one has ended.
func (p *Prover) round(ctx context.Context, snap *layout.Snapshot) ([]layout.Blob, error) {
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.give()
	m := p.manifest
	if p.records == nil { // nothing can have been stopped that goes on here
		rest := slices.Collect(maps.Values(snap.Blobs))
		return slices.DeleteFunc(rest, func(b layout.Blob) bool { return b.Size < 0 }), nil
	}
	if m.round.IsZero() || !m.proved.Before(m.round) {
		c := newChange()
		c.at(opRound, snap.Taken)
		c.ops++
		if err := p.commit(c); err != nil {
			return nil, err
		}
	}
	var rest []layout.Blob
	for _, b := range snap.Blobs {
		i := m.recorded(b.Digest)
		if b.Size < 0 || i != none && m.damaged[i] == 0 && m.blobs[i].verified >= m.round.UnixMilli() && m.blobs[i].changed == timeNano(b.Changed) {
			continue
		}
		rest = append(rest, b)
	}
	return rest, nil
}

// checkpoint records what was hashed, and with it that the round has ended.
func (p *Prover) checkpoint(ctx context.Context, h *hashing, ended bool) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	c := h.take(time.Now())
	if ended {
		c.at(opProved, time.Now())
		c.ops++
	}
	return p.commit(c)
}

// sum judges the storage as it is now by what was hashed.
func (p *Prover) sum(ctx context.Context, storage *layout.Storage, h *hashing) (Verdict, error) {
	if err := p.take(ctx); err != nil {
		return Verdict{}, err
	}
	defer p.give()
	seen, err := p.lookAgain(ctx, storage)
	if err != nil {
		return Verdict{}, err
	}
	wrong := suspects(p.manifest, seen)
	maps.Copy(wrong, h.wrong)
	v := Judge(p.manifest, seen, wrong)
	v.Hashed, v.HashedBytes = h.right, h.bytes
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Rehashed = v
	return v, nil
}

// lookAgain looks at all of the storage, and trusts what was hashed before. Whoever calls it has the turn.
func (p *Prover) lookAgain(ctx context.Context, storage *layout.Storage) (*Seen, error) {
	rows, unknown, _ := p.rows(ctx) // a database that does not answer was told of by look, or is up
	l := &looking{storage: storage, m: p.manifest, trust: true, show: quiet(nil)}
	return l.look(ctx, rows, unknown)
}
