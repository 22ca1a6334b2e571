package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Records keeps a manifest in several directories, so that one may be lost. The first is the writer's own, which it locks; the others may be on storage that comes and
// goes, and nothing in them is held open.
//
// A change is written as a file of its own, in each directory; now and then the whole manifest is, in turn under one of two names. A crash at any moment leaves what was
// there before, or what came after.
type Records struct {
	lock   *os.File
	places []place
	number uint64
	many   int // changes after which the whole manifest is written
	hook   durable.Hook
}

// OpenRecords takes the first directory for this process and returns what is recorded, with what is damaged: a manifest that could be read although something is damaged is no error.
// The manifest is empty, and the error wraps [mooring.ErrNotFound], if nothing was ever written; [mooring.ErrCorrupt] if nothing of it can be read: the records can be
// written anew all the same. The error wraps [mooring.ErrInUse] if another process has the directory, and [mooring.ErrInvalid] if a newer Mooring wrote it; then there are no records.
func OpenRecords(dirs ...string) (r *Records, m *Manifest, damage []error, err error) {
	lock, err := acquire(dirs[0])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open the manifest's records: %w", err)
	}
	r = &Records{lock: lock, many: manyChanges}
	m, damage, err = r.load(dirs)
	if errors.Is(err, mooring.ErrInvalid) {
		return nil, nil, nil, errors.Join(fmt.Errorf("open the manifest's records: %w", err), lock.Close())
	}
	if err != nil {
		return r, new(Manifest), damage, fmt.Errorf("open the manifest's records: %w", err)
	}
	return r, m, damage, nil
}

// ReadManifest returns the manifest that is recorded in the directories, as [OpenRecords] does, and takes nothing: another process may write it meanwhile.
func ReadManifest(dirs ...string) (m *Manifest, damage []error, err error) {
	const tries = 3 // a file that was listed may be gone when it is read
	for range tries {
		r := new(Records)
		if m, damage, err = r.load(dirs); err == nil && len(damage) == 0 {
			break
		}
	}
	if err != nil {
		return nil, damage, fmt.Errorf("read the manifest: %w", err)
	}
	return m, damage, nil
}

// load reads what is recorded.
func (r *Records) load(dirs []string) (*Manifest, []error, error) {
	var damage []error
	var memory files
	r.places = nil
	for _, dir := range dirs {
		p := inspect(&memory, dir)
		r.places = append(r.places, p)
		r.number = max(r.number, p.reached, p.upTo)
		damage = append(damage, p.damage...)
	}
	best, behind, err := newest(r.places)
	if err != nil {
		return nil, damage, err
	}
	m, err := r.places[best].manifest(&memory)
	if err != nil {
		return nil, damage, fmt.Errorf("%w: %w", err, mooring.ErrCorrupt)
	}
	m.behind = m.behind || behind
	return m, damage, nil
}

// Close lets the first directory go.
func (r *Records) Close() error { return r.lock.Close() }

// Bounds between which the whole manifest is written again: when the changes since have become a quarter of it, but not before they are worth the trouble.
const (
	fewBytes    = 256 << 10
	manyChanges = 200
)

// save records a change that was applied to the manifest, in every place. It is durable in those of which the error does not tell.
func (r *Records) save(m *Manifest, c *change) error {
	r.lookAgain()
	r.number++
	change := seal(r.number, c)
	var whole []byte
	var errs []error
	for i := range r.places {
		p := &r.places[i]
		if !p.wantsWhole(r.number, len(change), r.many) {
			if err := r.write(p, changeFile(p.dir, r.number), change); err != nil {
				errs = append(errs, err)
				continue
			}
			p.reached, p.bytes = r.number, p.bytes+len(change)
			p.chain = append(p.chain, r.number)
			continue
		}
		if whole == nil {
			whole = seal(r.number, m.whole())
		}
		errs = append(errs, r.saveWhole(p, change, whole))
	}
	return errors.Join(errs...)
}

// lookAgain looks again at places that were empty: what was not mounted when the records were opened may have records of its own, of which the newer generation stays.
func (r *Records) lookAgain() {
	for i := range r.places {
		if r.places[i].empty {
			r.places[i] = inspect(new(files), r.places[i].dir)
			if !r.places[i].empty {
				r.number = max(r.number, r.places[i].upTo+1) // a gap: the change does not follow what is there
			}
		}
	}
}

// wantsWhole decides whether the whole manifest is to be written in the place.
func (p *place) wantsWhole(number uint64, change, many int) bool {
	if p.base < 0 || p.reached+1 != number {
		return true
	}
	return p.bytes+change > fewBytes+p.wholes[p.base].size/4 || len(p.chain) >= many
}

// saveWhole writes the whole manifest in the slot of the older one. The change is written, too, so that the older one and the changes lead to the same end.
func (r *Records) saveWhole(p *place, change, whole []byte) error {
	if p.base >= 0 && p.reached+1 == r.number {
		if err := r.write(p, changeFile(p.dir, r.number), change); err != nil {
			return err
		}
	}
	slot := 0
	if p.base >= 0 {
		slot = 1 - p.base
	}
	if p.wholes[slot].damage != nil {
		if err := os.Rename(p.wholes[slot].path, p.wholes[slot].path+damagedSuffix); err != nil {
			return fmt.Errorf("record the manifest: %w", err)
		}
	}
	path := wholeFile(p.dir, slot)
	if err := r.write(p, path, whole); err != nil {
		return err
	}
	older := uint64(0)
	if p.base >= 0 {
		older = p.wholes[p.base].number
	}
	p.wholes[slot] = found{path: path, number: r.number, size: len(whole)}
	p.base, p.reached, p.bytes, p.chain, p.damage, p.empty = slot, r.number, 0, nil, nil, false
	return p.tidy(older)
}

// tidy removes the changes that the older whole manifest has in it.
func (p *place) tidy(older uint64) error {
	numbers, err := changesIn(p.dir)
	errs := []error{err}
	for _, n := range numbers {
		if n <= older {
			errs = append(errs, os.Remove(changeFile(p.dir, n)))
		}
	}
	return errors.Join(errs...)
}

func (r *Records) write(p *place, path string, data []byte) error {
	err := makeDirectory(p.dir)
	if err == nil {
		var hooks []durable.Hook
		if r.hook != nil {
			hooks = append(hooks, r.hook)
		}
		err = durable.WriteFile(path, data, 0o600, hooks...)
	}
	if err != nil {
		return fmt.Errorf("record the manifest: %w", err)
	}
	return nil
}

// acquire makes the directory if need be and takes it for this process, until the file is closed or the process ends.
func acquire(dir string) (*os.File, error) {
	if err := makeDirectory(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s: another process keeps a manifest there: %w", dir, mooring.ErrInUse)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func makeDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDirectory(filepath.Dir(dir))
}
