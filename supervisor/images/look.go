package images

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// looking is one look at a storage.
type looking struct {
	storage *layout.Storage
	m       *Manifest
	// trust: an image's manifest that was hashed before, and whose file was not touched since, is not hashed again.
	trust bool
	mend  bool     // empty links are made anew before anything is judged
	only  []string // the repositories to look at; nil: all
	show  func(Progress)

	seen  *Seen
	right []bool // by the digest's id: images that the manifest knows, and that were read and hashed while the storage was walked
}

// look walks the storage, and reads and hashes every image's manifest. rows and tagsUnknown are what was asked of the database before: a registry writes its storage first and its database last.
func (l *looking) look(ctx context.Context, rows *Rows, tagsUnknown bool) (*Seen, error) {
	l.show(Progress{What: "looking at the storage"})
	ahead := l.readAhead(ctx)
	snap, err := l.scan(ctx)
	ahead.Wait()
	if err != nil {
		return nil, err
	}
	l.seen = &Seen{Snapshot: snap, Rows: rows, TagsUnknown: tagsUnknown, Images: make(map[registry.Digest]Image), Cache: isCache(l.storage)}
	if l.only != nil {
		l.seen.Only = make(map[string]bool, len(l.only))
		for _, name := range l.only {
			l.seen.Only[name] = true
		}
	}
	if l.mend {
		if l.seen.Notes, err = mendLinks(ctx, l.storage, snap); err != nil {
			return nil, err
		}
	}
	if err := l.readImages(ctx); err != nil {
		return nil, err
	}
	l.seen.Notes = append(l.seen.Notes, filesystemNote(l.storage.Dir())...)
	return l.seen, nil
}

// readAhead begins to hash the images that the manifest knows, so that their reads are under way together with those of the walk. What is not right then is read again after it.
func (l *looking) readAhead(ctx context.Context) *sync.WaitGroup {
	begun := new(sync.WaitGroup)
	if l.trust || l.only != nil || len(l.m.images) == 0 {
		return begun
	}
	l.right = make([]bool, len(l.m.blobs))
	known := slices.Collect(maps.Keys(l.m.images))
	begun.Go(func() {
		parallel(ctx, len(known), func(n int) {
			_, err := l.storage.Read(ctx, l.m.digests.keys[known[n]].digest(), registry.MaxManifest)
			l.right[known[n]] = err == nil
		})
	})
	return begun
}

// parallel calls f for each number below n, by several workers, until ctx ends. Small files are waited for, so there are more workers than cores.
func parallel(ctx context.Context, n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(2*runtime.NumCPU(), 16), n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

func (l *looking) scan(ctx context.Context) (*layout.Snapshot, error) {
	if l.only == nil {
		return l.storage.Scan(ctx, 0)
	}
	return l.storage.ScanRepositories(ctx, l.only)
}

// named returns every image that a repository, a tag or the database names.
func (l *looking) named() []registry.Digest {
	all := make(map[registry.Digest]bool)
	for i := range l.seen.Repositories {
		r := &l.seen.Repositories[i]
		in := &inRepository{judge: &judge{seen: l.seen}, Repository: r, rows: l.seen.Rows.repository(r.Name)}
		for _, link := range r.Revisions {
			if link.Problem != layout.LinkMissing && in.counts(link.Name) {
				all[link.Name] = true
			}
		}
		for _, t := range in.seenTags() {
			if t.target != "" {
				all[t.target] = true
			}
		}
	}
	if l.seen.Rows != nil {
		l.rowsNamed(all)
	}
	return slices.Collect(maps.Keys(all))
}

// rowsNamed adds what the database names.
func (l *looking) rowsNamed(all map[registry.Digest]bool) {
	for _, r := range l.seen.Rows.Repositories {
		if l.seen.Only != nil && !l.seen.Only[r.Name] {
			continue
		}
		for _, img := range r.Images {
			all[img.Digest] = true
		}
	}
}

// readImages reads the images that are named, and what they name in their turn.
func (l *looking) readImages(ctx context.Context) error {
	for digests := l.named(); len(digests) > 0; {
		if err := l.readAll(ctx, digests); err != nil {
			return err
		}
		next := make(map[registry.Digest]bool)
		for _, d := range digests {
			for _, part := range l.seen.Images[d].Manifests {
				if _, ok := l.seen.Images[part.Digest]; !ok {
					next[part.Digest] = true
				}
			}
		}
		digests = slices.Collect(maps.Keys(next))
	}
	return nil
}

// readAll reads images with several workers, in the order of their inodes.
func (l *looking) readAll(ctx context.Context, digests []registry.Digest) error {
	slices.SortFunc(digests, func(a, b registry.Digest) int { return cmp.Compare(l.seen.Blobs[a].Inode, l.seen.Blobs[b].Inode) })
	images := make([]Image, len(digests))
	var done atomic.Int64
	var shown sync.Mutex
	parallel(ctx, len(digests), func(i int) {
		images[i] = l.read(ctx, digests[i])
		if n := done.Add(1); n%256 == 0 {
			shown.Lock()
			defer shown.Unlock()
			l.show(Progress{What: "reading the images' manifests", Done: int(n), All: len(digests)})
		}
	})
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("read the images' manifests: %w", err)
	}
	for i, d := range digests {
		l.seen.Images[d] = images[i]
	}
	return nil
}

// read reads one image's manifest.
func (l *looking) read(ctx context.Context, d registry.Digest) Image {
	if img, ok := l.trusted(d); ok {
		return img
	}
	if i := l.m.digests.find(keyOf(d)); i != none && int(i) < len(l.right) && l.right[i] {
		img := l.recall(l.m.images[i]) // its digest is right, so it says what it said
		img.hashed = true
		return img
	}
	if b, ok := l.seen.Blobs[d]; l.only == nil && (!ok || b.Size < 0) {
		return l.remembered(d, fmt.Errorf("read %s: %w", d, mooring.ErrNotFound))
	}
	content, err := l.storage.Read(ctx, d, registry.MaxManifest)
	if err != nil {
		return l.remembered(d, err)
	}
	img := parse(content, l.intern)
	img.hashed = true
	return img
}

// intern returns the digest as the snapshot has it, so that a million references to blobs need no million strings.
func (l *looking) intern(d registry.Digest) registry.Digest {
	if b, ok := l.seen.Blobs[d]; ok {
		return b.Digest
	}
	return d
}

// trusted returns the image as the manifest has it, if it may be trusted.
func (l *looking) trusted(d registry.Digest) (Image, bool) {
	i := l.m.recorded(d)
	if !l.trust || i == none {
		return Image{}, false
	}
	img, ok := l.m.images[i]
	known, b := l.m.blobs[i], l.seen.Blobs[d]
	if !ok || known.verified == 0 || known.size != b.Size || known.changed != timeNano(b.Changed) {
		return Image{}, false
	}
	return l.recall(img), true
}

// remembered returns what Mooring's manifest knows of an image whose own is lost.
func (l *looking) remembered(d registry.Digest, err error) Image {
	if i := l.m.digests.find(keyOf(d)); i != none {
		if img, ok := l.m.images[i]; ok {
			known := l.recall(img)
			known.Err = err
			return known
		}
	}
	return Image{Err: err}
}

// ask fills in from the database what images need whose manifests are lost, and that the manifest does not know.
func (l *looking) ask(ctx context.Context, tags Tags) error {
	lost := make(map[registry.Digest]bool)
	for d, img := range l.seen.Images {
		if img.Err != nil && len(img.Blobs)+len(img.Manifests) == 0 {
			lost[d] = true
		}
	}
	if l.seen.Rows == nil || len(lost) == 0 {
		return nil
	}
	var needs map[registry.Digest][]Ref
	if asker, ok := tags.(Needs); ok {
		var err error
		if needs, err = asker.Needs(ctx, slices.Sorted(maps.Keys(lost))); err != nil {
			return err
		}
	}
	for i := range l.seen.Rows.Repositories {
		for _, row := range l.seen.Rows.Repositories[i].Images {
			if lost[row.Digest] {
				l.fill(row, needs[row.Digest])
			}
		}
	}
	return nil
}

// fill takes what the database says of an image.
func (l *looking) fill(row RowImage, blobs []Ref) {
	img := l.seen.Images[row.Digest]
	img.Media, img.Blobs, img.Manifests = row.Media, blobs, nil
	for _, d := range row.Blobs {
		if size, ok := l.seen.Rows.Blobs[d]; ok && blobs == nil {
			img.Blobs = append(img.Blobs, Ref{Digest: d, Size: size})
		}
	}
	for _, d := range row.Parts {
		img.Manifests = append(img.Manifests, Ref{Digest: d, Size: registry.UnknownSize})
	}
	l.seen.Images[row.Digest] = img
}

func (l *looking) recall(img image) Image {
	refs := func(ids []id) []Ref {
		list := make([]Ref, len(ids))
		for n, i := range ids {
			list[n] = Ref{Digest: l.intern(l.m.digests.keys[i].digest()), Size: max(l.m.blobs[i].size, registry.UnknownSize)}
		}
		return list
	}
	known := Image{Media: img.media, Blobs: refs(img.blobs), Manifests: refs(img.manifests)}
	for n, size := range img.sizes {
		known.Blobs[n].Size = size
	}
	if img.subject != none {
		known.Subject = l.m.digests.keys[img.subject].digest()
	}
	return known
}

// isCache reports whether the registry is a pull-through cache: those of distribution keep a schedule of what expires at the top of their storage.
func isCache(s *layout.Storage) bool {
	var st unix.Stat_t
	return unix.Stat(s.Dir()+"/scheduler-state.json", &st) == nil
}

// filesystemNote warns of filesystems on which an acknowledged push may be lost.
func filesystemNote(dir string) []string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil
	}
	return noteOn(st.Type)
}

// noteOn returns the warning about a kind of filesystem, if there is one.
func noteOn(kind int64) []string {
	if kind == unix.BTRFS_SUPER_MAGIC {
		return []string{btrfsNote}
	}
	return nil
}

// btrfsNote is the warning about btrfs, with its reason.
const btrfsNote = "the storage is on btrfs, where a power cut loses pushes that were acknowledged: a registry syncs a blob's file and not the directory that it is renamed into, " +
	"and btrfs keeps the two in separate logs; move it to ext4 or xfs"
