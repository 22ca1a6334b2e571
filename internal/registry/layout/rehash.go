package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Hashed is what a blob's content turned out to be.
type Hashed struct {
	Blob Blob            // as it was given
	Got  registry.Digest // of what was read; empty if it could not be read to its end
	Read int64           // bytes
	// Err is nil if the content has the blob's digest. It wraps mooring.ErrCorrupt if not, mooring.ErrNotFound if the file is gone; else it is what the filesystem said.
	Err error
}

// Pace says how hard Rehash works. Its zero value is as fast as it can.
type Pace struct {
	Workers int  // 0: one for each core, and at least 8, because a disk wants several reads at a time
	Direct  bool // read the disk and not the page cache (O_DIRECT), where the filesystem can
	// Idle runs the workers on threads of SCHED_IDLE: they get what nobody else in their control group wants. The garbage collector of this process has to wait for each of them to come to its next
	// turn; on a machine that is many times overloaded that takes seconds, in which nothing else in this process runs.
	Idle           bool
	BytesPerSecond int64 // of all workers together; 0: no limit
}

// minWorkers is how many reads keep a disk busy.
const minWorkers = 8

// grace is how long a worker may take to end. The promise is two seconds; a read of a megabyte takes milliseconds, unless the disk does not answer.
const grace = 1500 * time.Millisecond

// Rehash reads blobs and compares their digests: the largest first, each once, however often it is given. It leaves the page cache as it was. done is called from the caller's goroutine, for
// each blob but those that ctx's end cut off.
//
// Rehash returns within two seconds of ctx's end, with its cause, and has no file open then; except that a read which the disk does not answer cannot be ended: then the error
// wraps [mooring.ErrInUse], and the file is closed when the read ends.
func (s *Storage) Rehash(ctx context.Context, blobs []Blob, p Pace, done func(Hashed)) error {
	root, err := s.root()
	if err != nil {
		return fmt.Errorf("rehash: %w", err)
	}
	r := &rehash{root: root, left: largestFirst(blobs), limit: newLimiter(p.BytesPerSecond), results: make(chan Hashed), threads: map[int]bool{}}
	r.start(ctx, p)
	if err := r.collect(ctx, done); err != nil {
		return fmt.Errorf("rehash %s: %w", s.dir, err)
	}
	return nil
}

// largestFirst returns the blobs in the order in which all end soonest, each once. Those of one size go by inode, which is about how they lie on the disk.
func largestFirst(blobs []Blob) []Blob {
	blobs = slices.Clone(blobs)
	slices.SortFunc(blobs, func(a, b Blob) int { return cmp.Compare(a.Digest, b.Digest) })
	blobs = slices.CompactFunc(blobs, func(a, b Blob) bool { return a.Digest == b.Digest })
	slices.SortFunc(blobs, func(a, b Blob) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Digest, b.Digest))
	})
	return blobs
}

// rehash is one call under way.
type rehash struct {
	root    dir
	limit   *limiter
	results chan Hashed // closed when all workers have ended

	mu      sync.Mutex
	left    []Blob
	threads map[int]bool // of the workers that run idle
}

func (r *rehash) next() (Blob, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.left) == 0 {
		return Blob{}, false
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b, true
}

// start starts the workers, and one goroutine that closes results and the root after them.
func (r *rehash) start(ctx context.Context, p Pace) {
	workers := p.Workers
	if workers <= 0 {
		workers = max(cores(), minWorkers)
	}
	workers = min(workers, len(r.left))
	undo := makeRoom(workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			work := func() { r.work(ctx, p.Direct) }
			if p.Idle {
				r.onIdleThread(work)
			} else {
				work()
			}
		})
	}
	go func() {
		wg.Wait()
		undo()
		r.root.close()
		close(r.results)
	}()
}

func (r *rehash) work(ctx context.Context, direct bool) {
	h := newHasher(r.root, direct, r.limit)
	defer h.close()
	for b, ok := r.next(); ok && ctx.Err() == nil; b, ok = r.next() {
		result := h.hash(ctx, b)
		select {
		case r.results <- result:
		case <-ctx.Done():
		}
	}
}

// collect hands on the results until the workers have ended, and sees to it that they end with ctx.
func (r *rehash) collect(ctx context.Context, done func(Hashed)) error {
	for {
		select {
		case result, ok := <-r.results:
			if !ok {
				return context.Cause(ctx)
			}
			if ctx.Err() == nil {
				done(result)
			}
		case <-ctx.Done():
			return r.end(ctx)
		}
	}
}

// end waits for the workers after ctx's end.
func (r *rehash) end(ctx context.Context) error {
	r.hurry()
	t := time.NewTimer(grace)
	defer t.Stop()
	for {
		select {
		case _, ok := <-r.results:
			if !ok {
				return context.Cause(ctx)
			}
		case <-t.C:
			return errors.Join(context.Cause(ctx), fmt.Errorf("the disk does not answer a read: %w", mooring.ErrInUse))
		}
	}
}
