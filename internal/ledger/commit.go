package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Put records volumes, replacing what was recorded under their names: all of them, or none if it fails. It is durable
// when it returns nil, and does not touch the disk when nothing has changed. Puts that come together share one commit. A name that
// [mooring.ParseName] refuses is refused here.
func (l *Ledger) Put(records ...Record) error {
	entries := make([]entry, 0, len(records))
	for _, r := range records {
		e, err := newEntry(r)
		if err != nil {
			return fmt.Errorf("record volume: %w", err)
		}
		entries = append(entries, e)
	}
	return l.commit(func(s *stage) error {
		for _, e := range entries {
			s.put(e)
		}
		return nil
	})
}

// Update lets f change the record of one volume, in one step with reading it. Its own error, and f's, change nothing. The error
// wraps [mooring.ErrNotFound] if there is no such record. f runs while nobody else writes, must not call the ledger, and
// cannot change the volume's name.
func (l *Ledger) Update(name mooring.Name, f func(*Record) error) error {
	return l.commit(func(s *stage) error {
		old, ok := s.get(name)
		if !ok {
			return notFound(name)
		}
		r := old.record.clone()
		if err := f(&r); err != nil {
			return err
		}
		if r.Volume.Name != name {
			return fmt.Errorf("update volume %q in the ledger: its name became %q: %w", name, r.Volume.Name, mooring.ErrInvalid)
		}
		e, err := newEntry(r)
		if err != nil {
			return fmt.Errorf("record volume: %w", err)
		}
		s.put(e)
		return nil
	})
}

// Drop forgets volumes: all of them, or none if it fails. Those that are not there are passed over. It is durable when it returns nil.
func (l *Ledger) Drop(names ...mooring.Name) error {
	return l.commit(func(s *stage) error {
		for _, name := range names {
			s.drop(name)
		}
		return nil
	})
}

// SetVM records whose ledger this is. It is durable when it returns nil.
func (l *Ledger) SetVM(id Identity) error {
	return l.commit(func(s *stage) error {
		s.meta.VM = id
		return nil
	})
}

// CaughtUp says that what is mounted and listed has been added, so that the ledger is no longer [Ledger.Behind]. It is
// durable when it returns nil.
func (l *Ledger) CaughtUp() error {
	return l.commit(func(s *stage) error {
		s.meta.Behind = false
		return nil
	})
}

// newEntry returns r as it will be read back from the file, sharing nothing with it.
func newEntry(r Record) (entry, error) {
	if _, err := mooring.ParseName(string(r.Volume.Name)); err != nil {
		return entry{}, err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return entry{}, fmt.Errorf("encode %q: %w", r.Volume.Name, err)
	}
	e := entry{bytes: b}
	if err := json.Unmarshal(b, &e.record); err != nil {
		return entry{}, fmt.Errorf("encode %q: %w", r.Volume.Name, err)
	}
	return e, nil
}

// change is one writer's wish, waiting for its commit. Whoever has the turn fills in done and err.
type change struct {
	apply func(*stage) error // all or nothing: it stages nothing when it fails
	done  bool
	err   error
}

// stage is the ledger as it will be after the commit: the memory, unchanged, and what differs.
type stage struct {
	base map[mooring.Name]entry
	diff map[mooring.Name]*entry // nil: dropped
	meta meta
}

func (s *stage) get(name mooring.Name) (entry, bool) {
	if e, ok := s.diff[name]; ok {
		if e == nil {
			return entry{}, false
		}
		return *e, true
	}
	e, ok := s.base[name]
	return e, ok
}

func (s *stage) put(e entry) {
	name := e.record.Volume.Name
	if old, ok := s.get(name); ok && string(old.bytes) == string(e.bytes) {
		return
	}
	s.diff[name] = &e
}

func (s *stage) drop(name mooring.Name) {
	if _, ok := s.get(name); ok {
		s.diff[name] = nil
	}
}

// merged returns the records with the difference applied, in a map of its own.
func (s *stage) merged() map[mooring.Name]entry {
	m := maps.Clone(s.base)
	for name, e := range s.diff {
		if e == nil {
			delete(m, name)
		} else {
			m[name] = *e
		}
	}
	return m
}

// commit applies a change together with all others that wait, and returns when it is durable or has failed.
func (l *Ledger) commit(apply func(*stage) error) error {
	c := &change{apply: apply}
	l.mu.Lock()
	l.queue = append(l.queue, c)
	l.mu.Unlock()

	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if !c.done { // else whoever had the turn before took it along
		l.flush()
	}
	return c.err
}

// flush commits all changes that wait. The caller has the turn.
func (l *Ledger) flush() {
	l.mu.Lock()
	batch := l.queue
	l.queue = nil
	// Only the holder of the turn replaces the map, and nobody changes it in place: it may be read on without the lock.
	s := stage{base: l.records, diff: make(map[mooring.Name]*entry), meta: l.meta}
	before := l.meta
	l.mu.Unlock()

	staged := make([]*change, 0, len(batch))
	for _, c := range batch {
		c.done = true
		if c.err = c.apply(&s); c.err == nil {
			staged = append(staged, c)
		}
	}
	if len(s.diff) == 0 && s.meta == before && !l.retry && !l.closed {
		return
	}
	records := s.merged()
	if err := l.write(records, s.meta); err != nil {
		for _, c := range staged {
			c.err = err
		}
		return
	}
	l.mu.Lock()
	l.records, l.meta = records, s.meta
	l.mu.Unlock()
}

// write makes records and m durable as the next generation, in place of the older file. When it fails, the newer file is
// untouched. Its generation is never used again: after a failure behind the rename it may be the one in the file.
func (l *Ledger) write(records map[mooring.Name]entry, m meta) error {
	if l.closed {
		return fmt.Errorf("commit the ledger: %w", os.ErrClosed)
	}
	l.counter++
	older := 1 - l.current
	var hooks []durable.Hook
	if l.hook != nil {
		hooks = append(hooks, l.hook)
	}
	data, err := encode(l.counter, m, records)
	if err == nil {
		err = durable.WriteFile(file(l.dir, older), data, 0o600, hooks...)
	}
	l.retry = err != nil
	if err != nil {
		return fmt.Errorf("commit the ledger: %w", err)
	}
	l.current = older
	return nil
}

// Close lets the directory go. Changes that are under way are finished first; later ones fail.
func (l *Ledger) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.closed {
		return nil
	}
	l.closed = true
	if err := l.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}
