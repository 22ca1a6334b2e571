package images

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Refresh brings the manifest up to date with the storage. It is for when all is well: a push that was acknowledged before the call is in the manifest, durably, when it returns.
// It costs little when nothing has changed, and does not take in what is wrong with what was right: that is in the verdict, which is as that of tier 1 for what it looked at.
func (p *Prover) Refresh(ctx context.Context) (Verdict, error) {
	if err := p.take(ctx); err != nil {
		return Verdict{}, err
	}
	defer p.give()
	storage, err := layout.Open(p.setup.Storage)
	if err != nil {
		return Verdict{}, err
	}
	begun := time.Now()
	look, err := p.toLookAt(ctx, storage)
	if err != nil {
		return Verdict{}, fmt.Errorf("refresh the manifest: %w", err)
	}
	if look.nothing() {
		p.asked = latest(p.asked, look.asked)
		c := newChange()
		c.at(opTaken, begun)
		return Verdict{At: begun}, p.commit(c)
	}
	l := &looking{storage: storage, m: p.manifest, trust: true, only: look.only, show: quiet(nil)}
	seen, err := l.look(ctx, look.rows, false)
	if err != nil {
		return Verdict{}, fmt.Errorf("refresh the manifest: %w", err)
	}
	seen.Taken = begun
	if err := p.manifest.recognises(seen); err != nil {
		return Verdict{}, fmt.Errorf("refresh the manifest: %w; if it was emptied on purpose, stop the supervisor and move %s away, and %s in the storage", err, p.setup.Records, BesideData)
	}
	v := Judge(p.manifest, seen, suspects(p.manifest, seen))
	p.damage = nil
	if err := p.commit(p.manifest.update(seen, v, begun)); err != nil {
		return v, fmt.Errorf("refresh the manifest: %w", err)
	}
	p.traces, p.mark, p.asked = look.traces, look.mark, look.asked
	if look.only == nil {
		p.whole = begun
	}
	return v, nil
}

// recognises refuses a storage that has not one of the manifest's repositories: it is another one, or an emptied one, and what it once had must not be forgotten for that. No registry
// removes the directory of a repository, whatever is deleted from it.
func (m *Manifest) recognises(seen *Seen) error {
	if len(m.repositories) == 0 {
		return nil
	}
	there := make(map[string]bool, len(seen.Repositories))
	for i := range seen.Repositories {
		there[seen.Repositories[i].Name] = true
	}
	for name := range m.repositories {
		if there[name] || seen.Only != nil && !seen.Only[name] {
			return nil
		}
	}
	return fmt.Errorf("not one of the manifest's %d repositories is in the storage: is this the right volume? What is there is not recorded: %w", len(m.repositories), mooring.ErrCorrupt)
}

// toLook says what a refresh has to look at, and what it knows afterwards.
type toLook struct {
	only   []string // nil: everything
	rows   *Rows
	traces map[string]uint64
	mark   string
	asked  time.Time // when the database was; zero: it was not
}

func (l toLook) nothing() bool { return l.only != nil && len(l.only) == 0 }

// toLookAt finds out where something has changed since the last refresh.
func (p *Prover) toLookAt(ctx context.Context, storage *layout.Storage) (l toLook, err error) {
	whole := p.manifest.Empty() || p.manifest.behind || time.Since(p.whole) > wholeEvery
	if p.setup.Tags != nil {
		return p.toLookAtOf(ctx, storage, whole)
	}
	if l.traces, err = storage.Traces(ctx); err != nil || whole {
		return l, err
	}
	l.only = []string{}
	for name, trace := range l.traces {
		if old, ok := p.traces[name]; !ok || old != trace {
			l.only = append(l.only, name)
		}
	}
	for name := range p.traces {
		if _, ok := l.traces[name]; !ok {
			l.only = append(l.only, name)
		}
	}
	return l, nil
}

// toLookAtOf finds it out from the database.
func (p *Prover) toLookAtOf(ctx context.Context, storage *layout.Storage, whole bool) (l toLook, err error) {
	if quiet, err := p.quiet(ctx, storage); err != nil || quiet && !whole {
		return toLook{only: []string{}}, err
	}
	l.traces, l.asked = p.traces, time.Now()
	if l.mark, err = p.setup.Tags.Mark(ctx); err != nil {
		return l, err
	}
	if !whole && l.mark == p.mark {
		l.only = []string{}
		return l, nil
	}
	if l.rows, err = p.setup.Tags.Rows(ctx); err == nil && !whole {
		l.only = p.manifest.differing(l.rows)
	}
	return l, err
}

// quiet reports whether the database need not be asked. It is told of a push after the storage, and so is asked for a while after that has changed.
func (p *Prover) quiet(ctx context.Context, storage *layout.Storage) (bool, error) {
	if p.setup.Asked == 0 {
		return false, nil
	}
	traces, err := storage.Traces(ctx)
	if err != nil {
		return false, err
	}
	if !maps.Equal(traces, p.traces) {
		p.traces, p.stirred = traces, time.Now()
	}
	return time.Since(p.stirred) > unanswered && time.Since(p.asked) < p.setup.Asked, nil
}

// differing returns the repositories of which the database says something else than the manifest.
func (m *Manifest) differing(rows *Rows) []string {
	names := make(map[string]bool)
	for name := range m.repositories {
		names[name] = rows.repository(name) == nil
	}
	for i := range rows.Repositories {
		r := &rows.Repositories[i]
		known, ok := m.repositories[r.Name]
		names[r.Name] = !ok || !known.agrees(m, r)
	}
	maps.DeleteFunc(names, func(_ string, differs bool) bool { return !differs })
	return slices.AppendSeq([]string{}, maps.Keys(names))
}

// agrees reports whether the database says the same of the repository.
func (r *repository) agrees(m *Manifest, row *RowRepository) bool {
	if len(r.revisions) != len(row.Images) || len(r.tags) != len(row.Tags) {
		return false
	}
	for _, img := range row.Images {
		if _, ok := r.revisions[m.digests.find(keyOf(img.Digest))]; !ok {
			return false
		}
	}
	for _, t := range row.Tags {
		if known, ok := r.tags[t.Name]; !ok || m.digests.keys[known.target] != keyOf(t.Target) || known.moved != timeNano(t.Pushed) {
			return false
		}
	}
	return true
}
