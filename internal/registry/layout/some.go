package layout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// someWorkers walk some repositories: it is done often, mostly of one that has just been written to, and from the cache.
const someWorkers = 4

// ScanRepositories is Scan for some repositories, and for the blobs to which they have links. One that is not there is not in the snapshot.
func (s *Storage) ScanRepositories(ctx context.Context, names []string) (*Snapshot, error) {
	root, err := s.root()
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	defer root.close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	sc := &scan{root: root, queue: newQueue(), taken: time.Now(), fail: fail}
	for _, name := range names {
		if !isRepository(name) {
			continue
		}
		sc.queue.push(func(_ context.Context, w *walker) { w.one(name) })
	}
	walkers := sc.walk(ctx, someWorkers)
	snap := sc.snapshot(walkers)
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("scan %s: %w", s.dir, err)
	}
	for _, r := range snap.Repositories {
		links := slices.Concat(r.Layers, r.Revisions)
		for _, t := range r.Tags {
			links = append(links, t.Current)
		}
		if err := sc.linked(snap, links); err != nil {
			return nil, fmt.Errorf("scan %s: %w", s.dir, err)
		}
	}
	if err := sc.lookAgain(ctx, snap); err != nil {
		return nil, fmt.Errorf("scan %s: %w", s.dir, err)
	}
	snap.sort()
	return snap, nil
}

// walk runs the jobs of the queue, and those that they leave, to their end.
func (s *scan) walk(ctx context.Context, workers int) []*walker {
	walkers := make([]*walker, workers)
	var wg sync.WaitGroup
	for i := range walkers {
		w := &walker{scan: s}
		walkers[i] = w
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	return walkers
}

// one walks one repository, without those whose names begin with its own.
func (w *walker) one(name string) {
	if parts := w.parts(name); len(parts) > 0 {
		w.repository(name, parts)
	}
}

// parts returns which of a repository's directories there are.
func (w *walker) parts(name string) []string {
	d, entries, ok := w.list(path.Join(repositoriesPath, name))
	if !ok {
		return nil
	}
	d.close()
	var parts []string
	for _, e := range entries {
		if e.kind == unix.DT_DIR && (e.name == layersName || e.name == manifestsName || e.name == uploadsName) {
			parts = append(parts, e.name)
		}
	}
	return parts
}

// linked asks for the blobs that links name.
func (s *scan) linked(snap *Snapshot, links []Link) error {
	for _, l := range links {
		if _, ok := snap.Blobs[l.Target]; ok || l.Problem != "" {
			continue
		}
		b, err := s.root.blob(l.Target)
		switch {
		case err == nil:
			snap.Blobs[l.Target] = b
		case isShortage(err):
			return shortage(err)
		case !errors.Is(absent(err), mooring.ErrNotFound):
			snap.Problems = append(snap.Problems, Problem{Path: dataPath(l.Target), Err: err})
		}
	}
	return nil
}

// Traces returns a number for each repository that is another one when images were pushed to it, or tags moved or deleted, since. It reads no link, asks for no blob, and does not see that an
// image without a tag was deleted.
func (s *Storage) Traces(ctx context.Context) (map[string]uint64, error) {
	root, err := s.root()
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer root.close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	sc := &scan{root: root, queue: newQueue(), fail: fail}
	t := &tracer{found: make(map[string]uint64)}
	sc.queue.push(func(ctx context.Context, w *walker) { t.tree(ctx, w, "") })
	sc.walk(ctx, 1)
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("trace %s: %w", s.dir, err)
	}
	return t.found, nil
}

// tracer gathers traces. One walker has it.
type tracer struct{ found map[string]uint64 }

func (t *tracer) tree(ctx context.Context, w *walker, name string) {
	d, entries, ok := w.list(path.Join(repositoriesPath, name))
	if !ok {
		return
	}
	d.close()
	for _, e := range entries {
		child := path.Join(name, e.name)
		switch {
		case e.kind != unix.DT_DIR || ctx.Err() != nil:
		case name != "" && e.name == manifestsName:
			t.found[name] = w.trace(path.Join(repositoriesPath, child))
		case name != "" && (e.name == layersName || e.name == uploadsName):
		case isComponent(e.name) && len(child) <= maxRepositoryName:
			w.queue.push(func(ctx context.Context, w *walker) { t.tree(ctx, w, child) })
		}
	}
}

// trace sums up the times of a repository's revisions and tags.
func (w *walker) trace(manifests string) uint64 {
	sum := fnv.New64a()
	add := func(d dir, below string) {
		var b [32]byte
		if st, err := d.stat(below); err == nil {
			binary.LittleEndian.PutUint64(b[0:], st.Ino)
			binary.LittleEndian.PutUint64(b[8:], uint64(st.Ctim.Nano()))
			binary.LittleEndian.PutUint64(b[16:], uint64(st.Mtim.Nano()))
			binary.LittleEndian.PutUint64(b[24:], uint64(st.Size))
		}
		_, _ = sum.Write(b[:])
	}
	add(w.root, path.Join(manifests, revisionsName, algorithm))
	d, tags, ok := w.list(path.Join(manifests, tagsName))
	if !ok {
		return sum.Sum64()
	}
	defer d.close()
	for _, tag := range tags {
		_, _ = sum.Write([]byte(tag.name))
		add(d, path.Join(tag.name, currentName, linkName))
	}
	return sum.Sum64()
}
