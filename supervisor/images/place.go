package images

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mooring-sh/mooring"
)

// place is one of the directories that hold the records: two whole manifests, each with the number that it had, and the changes since the older of them.
//
// The manifest of a place is the newest whole one that is good, with all changes that follow it without a gap. As the changes since the older one are kept, the newer
// one may be damaged without a loss.
type place struct {
	dir     string
	wholes  [2]found
	chain   []uint64 // the changes to apply to the whole manifest
	base    int      // the slot of the whole manifest to begin with; -1: there is none
	reached uint64   // the number after them
	upTo    uint64   // the highest number of which there is a trace
	unclear bool     // something is damaged that may have had any number
	empty   bool     // nothing was ever written
	damage  []error
	bytes   int // of the changes
}

// inspect reads all of a place, checks it, and decides what is to be used of it.
func inspect(r *files, dir string) place {
	p := place{dir: dir, base: -1}
	numbers, err := changesIn(dir)
	if err != nil {
		p.damage = append(p.damage, err)
		p.unclear = true
		return p
	}
	for slot := range p.wholes {
		f, _ := r.read(wholeFile(dir, slot))
		p.wholes[slot] = f
		p.note(f)
		if !f.absent && f.damage == nil && (p.base < 0 || f.number > p.wholes[p.base].number) {
			p.base = slot
		}
	}
	p.empty = p.wholes[0].absent && p.wholes[1].absent && len(numbers) == 0
	if len(numbers) > 0 {
		p.upTo = max(p.upTo, numbers[len(numbers)-1])
	}
	if p.base < 0 {
		return p
	}
	p.reached = p.wholes[p.base].number
	p.follow(r, numbers)
	return p
}

// note takes down what is wrong with a file, and which number it tells of.
func (p *place) note(f found) {
	if f.damage != nil {
		p.damage = append(p.damage, f.damage)
		p.unclear = p.unclear || f.number == 0
	}
	p.upTo = max(p.upTo, f.number)
}

// follow finds the changes that follow the whole manifest without a gap.
func (p *place) follow(r *files, numbers []uint64) {
	at, _ := slices.BinarySearch(numbers, p.reached+1)
	for _, n := range numbers[at:] {
		f, _ := r.read(changeFile(p.dir, n))
		switch {
		case n != p.reached+1:
			p.damage = append(p.damage, fmt.Errorf("%s is missing", changeFile(p.dir, p.reached+1)))
			return
		case f.damage == nil && f.number != n:
			f.damage = fmt.Errorf("%s has the number %d", f.path, f.number)
		}
		if f.damage != nil {
			p.damage = append(p.damage, f.damage)
			return
		}
		p.chain = append(p.chain, n)
		p.bytes += f.size
		p.reached = n
	}
}

// manifest builds the place's manifest, which inspect has found good.
func (p *place) manifest(r *files) (*Manifest, error) {
	m := new(Manifest)
	for i, n := range append([]uint64{p.wholes[p.base].number}, p.chain...) {
		path := changeFile(p.dir, n)
		if i == 0 {
			path = wholeFile(p.dir, p.base)
		}
		f, body := r.read(path)
		if f.damage == nil && (f.absent || f.number != n) {
			f.damage = fmt.Errorf("%s was replaced while it was read", path)
		}
		if f.damage != nil {
			return nil, f.damage
		}
		if err := m.apply(body); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return m, nil
}

// newest decides which place has the newest manifest, and whether it may not be the newest that there was. It is pure. The error wraps [mooring.ErrNotFound] if nothing was ever
// written, and [mooring.ErrCorrupt] if nothing of what was written can be read.
func newest(places []place) (best int, behind bool, err error) {
	best = -1
	var damage []error
	all := true
	for i, p := range places {
		damage = append(damage, p.damage...)
		all = all && p.empty
		if p.base >= 0 && (best < 0 || p.reached > places[best].reached ||
			p.reached == places[best].reached && len(p.damage) < len(places[best].damage)) {
			best = i
		}
	}
	for _, d := range damage {
		if newer := (newerError{}); errors.As(d, &newer) {
			return -1, false, fmt.Errorf("%w: %w", d, mooring.ErrInvalid)
		}
	}
	switch {
	case all:
		return -1, false, fmt.Errorf("no manifest was ever written: %w", mooring.ErrNotFound)
	case best < 0:
		return -1, false, fmt.Errorf("%w: %w", errors.Join(damage...), mooring.ErrCorrupt)
	}
	sure := false // a place without damage is what was written last
	for _, p := range places {
		sure = sure || len(p.damage) == 0 && p.reached == places[best].reached && !p.empty
	}
	for _, p := range places {
		behind = behind || p.upTo > places[best].reached || p.unclear && !sure
	}
	return best, behind, nil
}
