package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Plan says what an experiment does.
type Plan struct {
	Filesystem Filesystem
	Cuts       int
	PerRound   int // cuts of one disk, before a new one is formatted and the seed is the next
	Pushers    int
	Seed       uint64
	Eager      bool // see [Pushers]

	// Guard is called for each disk, and returns who looks after it. Nil: nobody does.
	Guard func() Guard
	// Tell is called with what is worth a line. It may be nil.
	Tell func(format string, args ...any)
}

// Guard looks after one registry's storage, as Mooring does. dir is the directory that contains it.
type Guard interface {
	// Refresh takes down what is there. It is called before each cut, while pushes run.
	Refresh(ctx context.Context, dir string) error
	// Verify judges what a cut has left, which is elsewhere, and repairs what it repairs by itself.
	Verify(ctx context.Context, dir string) (Repaired, error)
}

// Repaired is what came of a verification.
type Repaired struct {
	Links      int      // that were made anew
	Aside      int      // blobs that were moved aside
	Findings   []string // what is wrong still
	Unfinished []string // what is wrong and was perhaps never acknowledged
}

// some reports whether there was anything to verification but that all is well.
func (r Repaired) some() bool {
	return r.Links+r.Aside+len(r.Findings)+len(r.Unfinished) > 0
}

// Tally is what came of an experiment.
type Tally struct {
	Cuts     int            // that were made
	Damaged  int            // after which something that had been acknowledged was not there
	Lost     int            // after which it was not there after the repair either
	Before   map[string]int // losses by class, before the repair
	After    map[string]int // and after it
	Repaired int            // links that the repair made anew
	Aside    int            // blobs that it moved aside
	Again    int            // pushes that were under way at a cut and were made again after it
	Missed   int            // cuts that lost something, and Mooring found nothing
	Alarms   int            // cuts that lost nothing, and Mooring found something that it did not take for unfinished
	Pushes   int            // that were acknowledged
	Pushing  time.Duration  // for how long pushers pushed, without the time in which the registry stood still
	Judged   int            // pushes that were acknowledged before a cut, summed over all cuts
}

// Run makes the cuts. What is lost is in the tally; an error means that the experiment itself failed.
func (s *Shelf) Run(ctx context.Context, p Plan) (Tally, error) {
	if p.Tell == nil {
		p.Tell = func(string, ...any) {}
	}
	t := Tally{Before: map[string]int{}, After: map[string]int{}}
	for seed := p.Seed; t.Cuts < p.Cuts; seed++ {
		if err := s.round(ctx, p, seed, min(p.PerRound, p.Cuts-t.Cuts), &t); err != nil {
			return t, fmt.Errorf("round with seed %d: %w", seed, err)
		}
		p.Tell("%d of %d cuts are made: %d with losses, %d after the repair", t.Cuts, p.Cuts, t.Damaged, t.Lost)
	}
	return t, nil
}

// round makes some cuts of a new disk.
func (s *Shelf) round(ctx context.Context, p Plan, seed uint64, cuts int, t *Tally) (err error) {
	d, err := s.NewDisk(ctx, "registry", p.Filesystem)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Discard()) }()
	l, err := p.push(ctx, d, seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	began := time.Now()
	if err := l.wait(ctx, l.receipts.Reach(p.Pushers)); err != nil { // before, there is no registry on the disk
		return err
	}
	pushing, random := time.Since(began), rand.New(rand.NewPCG(seed, 1<<32)) //nolint:gosec // must be repeatable, and not secret
	for range cuts {
		if l.guard != nil {
			if err := l.guard.Refresh(ctx, d.Dir); err != nil {
				return fmt.Errorf("refresh: %w", err)
			}
		}
		began := time.Now()
		// Each time is as likely as any other in which as many pushes as there are pushers are acknowledged: so on a fast machine and on a slow one all that a push
		// consists of is cut through.
		longest := pushing * time.Duration(p.Pushers) / time.Duration(l.receipts.Expect(l.receipts.Now()).Pushes)
		moment := make(chan struct{})
		time.AfterFunc(time.Duration(random.Int64N(int64(longest))), func() { close(moment) })
		if err := l.wait(ctx, moment); err != nil {
			return err
		}
		if err := p.cut(ctx, d, l, func() { pushing += time.Since(began) }, seed, t); err != nil {
			return err
		}
	}
	t.Pushing += pushing
	t.Pushes += l.receipts.Expect(l.receipts.Now()).Pushes
	return nil
}

// Throughput returns how long it takes until as many pushes are acknowledged, on a new disk that nobody cuts.
func (s *Shelf) Throughput(ctx context.Context, p Plan, pushes int) (took time.Duration, err error) {
	d, err := s.NewDisk(ctx, "registry", p.Filesystem)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Discard()) }()
	l, err := p.push(ctx, d, p.Seed)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = l.wait(ctx, l.receipts.Reach(pushes))
	return time.Since(began), errors.Join(err, l.stop())
}

// cut cuts the power once, reads what is left, repairs it and reads it again. The registry stands still meanwhile, after held was called: reading must not take
// the time of pushing.
func (p Plan) cut(ctx context.Context, d *Disk, l *load, held func(), seed uint64, t *Tally) (err error) {
	before := l.receipts.Now()
	c, err := d.Cut("cut")
	if err != nil {
		return err
	}
	expected := l.receipts.Expect(before)
	defer func() { err = errors.Join(err, c.Discard()) }()
	release, err := l.registry.hold()
	if err != nil {
		return err
	}
	held()
	defer func() { err = errors.Join(err, release()) }()
	if err := c.Mount(ctx); err != nil {
		return err
	}
	t.Cuts++
	t.Judged += expected.Pushes
	losses := Check(c.Dir, expected)
	if len(losses) > 0 {
		t.Damaged++
		p.Tell("cut %d, seed %d: under way were %v", t.Cuts, seed, expected.UnderWay)
	}
	for _, l := range losses {
		t.Before[l.Class()]++
		p.Tell("cut %d, seed %d: %s", t.Cuts, seed, l)
	}
	if l.guard != nil {
		repaired, err := l.guard.Verify(ctx, c.Dir)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		losses = Check(c.Dir, expected)
		p.compare(losses, repaired, seed, t)
		if len(losses) == 0 && repaired.some() {
			if losses, err = p.pushAgain(ctx, c, l.receipts.After(before), expected.UnderWay); err != nil {
				return err
			}
			t.Again += len(expected.UnderWay)
		}
	}
	if len(losses) > 0 {
		t.Lost++
	}
	for _, l := range losses {
		t.After[l.Class()]++
		p.Tell("cut %d, seed %d, after the repair: %s", t.Cuts, seed, l)
	}
	return nil
}

// compare adds to the tally how what Mooring found compares with what is lost.
func (p Plan) compare(losses []Loss, r Repaired, seed uint64, t *Tally) {
	t.Repaired += r.Links
	t.Aside += r.Aside
	switch lost := len(losses) > 0; {
	case lost && len(r.Findings)+len(r.Unfinished) == 0:
		t.Missed++
	case !lost && len(r.Findings) > 0:
		t.Alarms++
	}
	for _, f := range r.Findings {
		p.Tell("cut %d, seed %d: Mooring finds %s", t.Cuts, seed, f)
	}
}
