package layout_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// modes are the ways to read.
func modes() map[string]layout.Pace {
	return map[string]layout.Pace{
		"cached":      {},
		"direct":      {Direct: true},
		"idle":        {Direct: true, Idle: true},
		"cached idle": {Idle: true, Workers: 1},
		"slow":        {BytesPerSecond: 1 << 40, Workers: 3},
	}
}

// blobs returns a snapshot's.
func blobs(snap *layout.Snapshot) []layout.Blob {
	var all []layout.Blob
	for _, b := range snap.Blobs {
		all = append(all, b)
	}
	return all
}

// rehash returns what Rehash reported, by digest.
func rehash(t *testing.T, s *layout.Storage, all []layout.Blob, p layout.Pace) map[registry.Digest]layout.Hashed {
	t.Helper()
	got := map[registry.Digest]layout.Hashed{}
	err := s.Rehash(t.Context(), all, p, func(h layout.Hashed) {
		if _, twice := got[h.Blob.Digest]; twice {
			t.Errorf("%s was hashed twice", h.Blob.Digest)
		}
		got[h.Blob.Digest] = h
	})
	must(t, err)
	return got
}

// sizes are those where a read ends in another way: nothing, less and more than a disk's block, just one read, and one byte more or less.
func sizes() []int {
	return []int{0, 1, 511, 512, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1, 1<<20 + 4096, 3<<20 + 5}
}

// Whatever the size and the way of reading: what is right is right, each blob once, and in the order in which all end soonest.
func TestRehashProvesEachBlobOnce(t *testing.T) {
	r := layouttest.New(t)
	for _, n := range sizes() {
		r.Blob([]byte(strings.Repeat("x", n)))
	}
	s := open(t, r)
	all := blobs(scan(t, s))
	for name, p := range modes() {
		got := rehash(t, s, append(all, all...), p)
		if len(got) != len(sizes()) {
			t.Errorf("%s: got %d blobs, want %d", name, len(got), len(sizes()))
		}
		for d, h := range got {
			if h.Err != nil || h.Got != d || h.Read != h.Blob.Size {
				t.Errorf("%s: got %+v", name, h)
			}
		}
	}
}

func TestRehashTakesTheLargestFirst(t *testing.T) {
	r := layouttest.New(t)
	for _, n := range sizes() {
		r.Blob([]byte(strings.Repeat("x", n)))
	}
	s := open(t, r)
	var got []int
	must(t, s.Rehash(t.Context(), blobs(scan(t, s)), layout.Pace{Workers: 1}, func(h layout.Hashed) { got = append(got, int(h.Read)) }))
	want := sizes()
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// No damage passes, and none hides another.
func TestRehashFindsEveryDamage(t *testing.T) {
	const big = 2<<20 + 100
	content := func(c string) []byte { return []byte(strings.Repeat(c, big)) }
	for name, p := range modes() {
		r := layouttest.New(t)
		want := map[registry.Digest]error{}
		damaged := func(c string, want1 error, damage func(path string)) {
			d := r.Blob(content(c)).Digest
			damage(r.Data(d))
			want[d] = want1
		}
		damaged("a", nil, func(string) {})
		damaged("b", mooring.ErrCorrupt, func(path string) { r.Truncate(path, 0) })
		damaged("c", mooring.ErrCorrupt, func(path string) { r.Truncate(path, big-1) })
		damaged("d", mooring.ErrCorrupt, func(path string) { r.Truncate(path, 1<<20) })
		damaged("e", mooring.ErrCorrupt, func(path string) { r.Truncate(path, big+1) })
		damaged("f", mooring.ErrCorrupt, func(path string) { r.Flip(path, 0) })
		damaged("g", mooring.ErrCorrupt, func(path string) { r.Flip(path, big-1) })
		damaged("h", mooring.ErrCorrupt, func(path string) { r.Flip(path, 1<<20) })
		damaged("i", mooring.ErrNotFound, func(path string) { r.Remove(path) })
		damaged("j", mooring.ErrNotFound, func(path string) { r.Remove(filepath.Dir(path)) })
		damaged("k", mooring.ErrCorrupt, func(path string) { instead(t, path, directory) })
		damaged("l", mooring.ErrCorrupt, func(path string) { instead(t, path, loop) })
		damaged("m", mooring.ErrCorrupt, func(path string) { instead(t, path, fifo) })
		s := open(t, r)
		var all []layout.Blob
		for d := range want {
			all = append(all, layout.Blob{Digest: d, Size: big})
		}
		got := rehash(t, s, all, p)
		for d, w := range want {
			if h := got[d]; !errors.Is(h.Err, w) || h.Err == nil && h.Got != d {
				t.Errorf("%s: got %+v, want %v", name, h, w)
			}
		}
	}
}

// residency returns which pages of a file are in the page cache.
func residency(t *testing.T, path string) []bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	must(t, err)
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(m)) }()
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	all := make([]bool, len(pages))
	for i, p := range pages {
		all[i] = p&1 != 0
	}
	return all
}

// What the registry has in memory it will want again, and what Rehash reads nobody wants: neither is changed, to the page.
func TestRehashLeavesThePageCacheAsItWas(t *testing.T) {
	for name, p := range modes() {
		r := layouttest.New(t)
		path := r.Data(r.Blob([]byte(strings.Repeat("x", 5<<20+10000))).Digest)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		must(t, f.Sync())
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
		for _, at := range []int64{0, 300 << 10, 1<<20 - 1, 1 << 20, 3<<20 + 5000, 5<<20 + 9000} {
			_, err := f.ReadAt(make([]byte, 1), at)
			must(t, err)
		}
		must(t, f.Close())
		before := residency(t, path)
		if !slices.Contains(before, true) || !slices.Contains(before, false) {
			t.Skip("needs a filesystem whose files can leave the page cache")
		}
		s := open(t, r)
		rehash(t, s, blobs(scan(t, s)), p)
		if after := residency(t, path); !slices.Equal(after, before) {
			t.Errorf("%s: the pages in memory changed from\n%v to\n%v", name, before, after)
		}
	}
}

// The rate is that of all workers together, and holds from the first byte on. Time is the bubble's, so it is counted and not measured.
func TestRehashKeepsToItsRate(t *testing.T) {
	r := layouttest.New(t)
	const size, n, rate = 3 << 20, 4, 1 << 20
	for i := range n {
		r.Blob([]byte(strings.Repeat(string(rune('a'+i)), size)))
	}
	s := open(t, r)
	all := blobs(scan(t, s))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		rehash(t, s, all, layout.Pace{BytesPerSecond: rate, Direct: true})
		// The last megabyte is let through when those before it have had their time.
		if got, want := time.Since(start), (n*size/rate-1)*time.Second; got != want {
			t.Errorf("%d bytes at %d a second took %v, want %v", n*size, rate, got, want)
		}
	})
}

// A volume may have to be unmounted while it is verified, whatever the rate: two seconds later nothing is open any more.
func TestRehashEndsWithItsContext(t *testing.T) {
	for name, p := range modes() {
		r := layouttest.New(t)
		for i := range 20 {
			r.Blob([]byte(strings.Repeat(string(rune('a'+i)), 2<<20)))
		}
		s := open(t, r)
		all := blobs(scan(t, s))
		before := openBelow(t, r.Dir)
		p.BytesPerSecond = 1 << 20 // else all may be over before anybody says stop
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			var ended time.Time
			time.AfterFunc(3500*time.Millisecond, func() {
				ended = time.Now()
				cancel(errEnough)
			})
			err := s.Rehash(ctx, all, p, func(h layout.Hashed) {
				if h.Err != nil {
					t.Errorf("%s: got %v: what was cut off is not reported", name, h.Err)
				}
			})
			if !errors.Is(err, errEnough) || time.Since(ended) > 2*time.Second {
				t.Errorf("%s: got %v after %v, want the context's cause within 2 s", name, err, time.Since(ended))
			}
		})
		if after := openBelow(t, r.Dir); len(after) > len(before) {
			t.Errorf("%s: left open: %v", name, after)
		}
	}
}

// openBelow returns the files below dir that this process has open.
func openBelow(t *testing.T, dir string) []string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var all []string
	for _, fd := range fds {
		if path, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(path, dir) {
			all = append(all, path)
		}
	}
	return all
}

// idleThreads returns this process's threads of SCHED_IDLE.
func idleThreads(t *testing.T) []int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	var all []int
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		must(t, err)
		attr, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		must(t, err)
		if attr.Policy == unix.SCHED_IDLE {
			all = append(all, tid)
		}
	}
	return all
}

// What runs idle is the hashing, and nothing that comes after it: its threads end, and no other thread takes after them.
func TestRehashIdleEndsItsThreads(t *testing.T) {
	r := layouttest.New(t)
	for i := range 6 {
		r.Blob([]byte(strings.Repeat(string(rune('a'+i)), 1<<20)))
	}
	s := open(t, r)
	seen := map[int]int{} // a descriptor of each thread, by its number
	must(t, s.Rehash(t.Context(), blobs(scan(t, s)), layout.Pace{Idle: true, Workers: 3}, func(layout.Hashed) {
		for _, tid := range idleThreads(t) {
			if _, ok := seen[tid]; ok {
				continue
			}
			seen[tid], _ = unix.PidfdOpen(tid, unix.PIDFD_THREAD) // -1 before Linux 6.9, or if it has ended
		}
	}))
	if len(seen) == 0 || len(seen) > 3 {
		t.Errorf("got %d idle threads while 3 workers hashed, want 1 to 3", len(seen))
	}
	for tid, fd := range seen {
		if fd < 0 {
			continue
		}
		delete(seen, tid)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1) // until the thread has ended
		must(t, errors.Join(err, unix.Close(fd)))
	}
	for _, tid := range idleThreads(t) {
		if _, ending := seen[tid]; !ending {
			t.Errorf("thread %d is idle", tid)
		}
	}
}
