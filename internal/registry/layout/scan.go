package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// scanWorkers is how many workers a walk has if it is not told: a cold walk is made of waiting, so many more than there are cores. With a batch of links each they stay
// below a thousand open files.
const scanWorkers = 64

// Scan walks the storage: it reads every link, and asks for every blob's size and times without reading it. What is damaged is in the snapshot; the error is for a storage that is
// not there, and for a walk that ctx ended. With workers of 0 or less Scan chooses their number.
func (s *Storage) Scan(ctx context.Context, workers int) (*Snapshot, error) {
	root, err := s.root()
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	defer root.close()
	if workers <= 0 {
		workers = scanWorkers
	}
	defer makeRoom(workers)()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	sc := &scan{root: root, queue: newQueue(), taken: time.Now(), fail: fail}
	sc.queue.push(walkBlobs, walkRepositories)
	walkers := make([]*walker, workers)
	var wg sync.WaitGroup
	for i := range walkers {
		w := &walker{scan: sc}
		walkers[i] = w
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	snap := sc.snapshot(walkers)
	if err := sc.lookAgain(ctx, snap); err != nil {
		return nil, fmt.Errorf("scan %s: %w", s.dir, err)
	}
	snap.sort()
	return snap, nil
}

// direntBuffer is the size of the buffer for a directory's entries: one call for some 300 digests.
const direntBuffer = 32 << 10

// scan is a walk under way.
type scan struct {
	root  dir
	queue *queue
	taken time.Time
	fail  context.CancelCauseFunc // ends the walk: for want of memory or descriptors nothing can be said about the storage

	mu           sync.Mutex
	repositories []*repository
}

// repository is what several walkers gather.
type repository struct {
	mu sync.Mutex
	Repository
}

// walker is one of a scan's workers, and what it found.
type walker struct {
	*scan

	buf      []byte
	blobs    []Blob
	problems []Problem
}

func (w *walker) run(ctx context.Context) {
	for {
		j, ok := w.queue.next()
		if !ok {
			return
		}
		if ctx.Err() == nil {
			j(ctx, w)
		}
		w.queue.done()
	}
}

// problem notes what could not be read. What is gone between its listing and its reading is none.
func (w *walker) problem(path string, err error) {
	switch {
	case isShortage(err):
		w.fail(fmt.Errorf("read %s: %w", path, err))
	case !errors.Is(err, unix.ENOENT):
		w.problems = append(w.problems, Problem{Path: path, Err: err})
	}
}

// strange notes an entry that a registry does not make.
func (w *walker) strange(base string, e entry, want string) {
	if isLostAndFound(e.name) {
		return
	}
	w.problem(path.Join(base, e.name), fmt.Errorf("%w: want %s", mooring.ErrInvalid, want))
}

// list opens a directory below the root and lists it, by inode. The directory is to be closed if ok.
func (w *walker) list(below string) (d dir, entries []entry, ok bool) {
	d, err := w.root.sub(below)
	if err != nil {
		w.problem(below, err)
		return d, nil, false
	}
	if w.buf == nil {
		w.buf = make([]byte, direntBuffer)
	}
	entries, err = d.list(w.buf)
	if err != nil {
		w.problem(below, err)
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.inode, b.inode) })
	return d, entries, true
}

// digests lists a directory whose entries are named after digests.
func (w *walker) digests(below string) (d dir, found []registry.Digest, ok bool) {
	d, entries, ok := w.list(below)
	if !ok {
		return d, nil, false
	}
	for _, e := range entries {
		digest, err := registry.HexDigest(e.name)
		if err != nil || e.kind != unix.DT_DIR {
			w.strange(below, e, "a directory named after a digest")
			continue
		}
		found = append(found, digest)
	}
	return d, found, true
}

// walkBlobs leaves a job for each directory of blobs/sha256.
func walkBlobs(_ context.Context, w *walker) {
	d, entries, ok := w.list(blobsPath)
	if !ok {
		return
	}
	d.close()
	var shards []job
	for _, e := range entries {
		if e.kind != unix.DT_DIR || len(e.name) != 2 || strings.Trim(e.name, "0123456789abcdef") != "" {
			w.strange(blobsPath, e, "a directory named after a digest's first two digits")
			continue
		}
		shards = append(shards, func(ctx context.Context, w *walker) { w.shard(ctx, e.name) })
	}
	w.queue.push(shards...)
}

// shard asks for the blobs in a directory of blobs/sha256. Their own directories are neither opened nor listed: only one name in each matters.
func (w *walker) shard(ctx context.Context, prefix string) {
	below := path.Join(blobsPath, prefix)
	d, digests, ok := w.digests(below)
	if !ok {
		return
	}
	defer d.close()
	for _, digest := range digests {
		if ctx.Err() != nil {
			return
		}
		if digest.Hex()[:2] != prefix {
			w.problem(path.Join(below, digest.Hex()), fmt.Errorf("%w: want a digest that begins with %s", mooring.ErrInvalid, prefix))
			continue
		}
		st, err := d.stat(path.Join(digest.Hex(), dataName))
		b, err := newBlob(digest, st, err)
		if err != nil {
			w.problem(dataPath(digest), err)
		}
		w.blobs = append(w.blobs, b)
	}
}

// blob asks for a blob.
func (d dir) blob(digest registry.Digest) (Blob, error) {
	st, err := d.statAny(dataPath(digest))
	return newBlob(digest, st, err)
}

// newBlob returns what stat(2) says about a blob's file. With an error its size is -1.
func newBlob(digest registry.Digest, st unix.Stat_t, err error) (Blob, error) {
	b := Blob{Digest: digest, Size: -1}
	switch {
	case err != nil:
		return b, err
	case !isRegular(&st):
		return b, fmt.Errorf("%w: %w", mooring.ErrInvalid, errNotRegular)
	}
	return Blob{Digest: digest, Size: st.Size, Modified: timeOf(st.Mtim), Changed: timeOf(st.Ctim), Inode: st.Ino}, nil
}

// snapshot puts together what the walkers found.
func (s *scan) snapshot(walkers []*walker) *Snapshot {
	n := 0
	for _, w := range walkers {
		n += len(w.blobs)
	}
	snap := &Snapshot{Blobs: make(map[registry.Digest]Blob, n), Taken: s.taken}
	for _, w := range walkers {
		for _, b := range w.blobs {
			snap.Blobs[b.Digest] = b
		}
		snap.Problems = append(snap.Problems, w.problems...)
		w.blobs = nil
	}
	for _, r := range s.repositories {
		snap.Repositories = append(snap.Repositories, r.Repository)
		for _, links := range [][]Link{r.Layers, r.Revisions} {
			snap.share(links)
		}
		for i := range r.Tags {
			snap.share(r.Tags[i].Index)
			snap.shareOne(&r.Tags[i].Current)
		}
	}
	return snap
}

// share lets links have their digests' text in common with the blobs that they name, of which a large registry has many links each.
func (snap *Snapshot) share(links []Link) {
	for i := range links {
		snap.shareOne(&links[i])
	}
}

func (snap *Snapshot) shareOne(l *Link) {
	b, ok := snap.Blobs[l.Target]
	if !ok {
		return
	}
	l.Target = b.Digest
	if l.Name == l.Target {
		l.Name = b.Digest
	}
}

func (snap *Snapshot) sort() {
	slices.SortFunc(snap.Problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(snap.Repositories, func(a, b Repository) int { return strings.Compare(a.Name, b.Name) })
	byName := func(a, b Link) int { return strings.Compare(string(a.Name), string(b.Name)) }
	for _, r := range snap.Repositories {
		slices.SortFunc(r.Revisions, byName)
		slices.SortFunc(r.Layers, byName)
		slices.SortFunc(r.Tags, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
		for _, t := range r.Tags {
			slices.SortFunc(t.Index, byName)
		}
	}
}
