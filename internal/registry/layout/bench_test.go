package layout_test

import (
	"cmp"
	"crypto/sha256"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// The benchmarks run the bare work and ours by turns on one filesystem, and report the medians of both and their quotient. Before each cold turn the filesystem is unmounted and mounted again, on a
// loop device that reads its image directly: nothing of it is in this machine's memory then, and nobody else's cache is touched.
//
//	go test -run '^$' -bench . -benchtime 5x ./internal/registry/layout                                        minutes less, a registry of 200 images
//	MEASURE=1 FS=xfs TMPDIR=/var/tmp go test -run '^$' -bench . -benchtime 5x -timeout 2h ./internal/registry/layout    10,000 images, 100,000 blobs; 4 GB to hash

// bench is a filesystem to measure on.
type bench struct {
	*layouttest.Disk

	b *testing.B
}

// newBench returns an empty filesystem on an image of its own in TMPDIR, which has to be on a disk.
func newBench(b *testing.B) bench {
	b.Helper()
	return bench{layouttest.NewDirectDisk(b, cmp.Or(os.Getenv("FS"), "ext4"), "24G"), b}
}

// cold empties the caches of the filesystem.
func (d bench) cold() {
	d.Unmount()
	d.Mount()
}

// reads returns how many reads the disk has served.
func (d bench) reads() int {
	d.b.Helper()
	stat, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Dev), "stat"))
	must(d.b, err)
	n, err := strconv.Atoi(strings.Fields(string(stat))[0])
	must(d.b, err)
	return n
}

// side is one of those that are compared.
type side struct {
	name  string
	run   func()
	took  []time.Duration
	cpu   []time.Duration
	reads int
}

// compare runs all by turns and reports them, each but the first also divided by the first: before is what each turn begins with.
func (d bench) compare(b *testing.B, before func(), sides ...*side) {
	b.Helper()
	for b.Loop() {
		for _, s := range sides {
			before()
			reads, cpu, start := d.reads(), cpuTime(), time.Now()
			s.run()
			s.took = append(s.took, time.Since(start))
			s.cpu = append(s.cpu, cpuTime()-cpu)
			s.reads = d.reads() - reads
		}
	}
	for _, s := range sides {
		b.ReportMetric(median(s.took).Seconds(), s.name+"-s")
		b.ReportMetric(median(s.cpu).Seconds(), s.name+"-cpu-s")
		b.ReportMetric(float64(s.reads), s.name+"-reads")
	}
	for _, s := range sides[1:] {
		b.ReportMetric(median(s.took).Seconds()/median(sides[0].took).Seconds(), s.name+"/"+sides[0].name)
	}
	b.ReportMetric(0, "ns/op") // a turn of all says nothing
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// cpuTime is what this process has used; what the kernel does for it in threads of its own is not in it.
func cpuTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkScan compares Scan with a bare walk of the same tree by as many workers, which opens and lists each directory and asks for each file; it reads none.
func BenchmarkScan(b *testing.B) {
	d := newBench(b)
	scale := layouttest.Scale{Repositories: 4, Images: 200, Layers: 8, LayerSize: 2000}
	if os.Getenv("MEASURE") != "" {
		scale.Repositories, scale.Images = 100, 10000
	}
	layouttest.At(b, d.Dir()).Fill(scale)
	d.Sync()
	var snap *layout.Snapshot
	sides := func() (*side, *side) {
		return &side{name: "bare", run: func() { bareWalk(filepath.Join(d.Dir(), "docker"), 64) }},
			&side{name: "scan", run: func() {
				s, err := layout.Open(d.Dir())
				must(b, err)
				snap = scan(b, s)
			}}
	}
	b.Run("cold", func(b *testing.B) {
		bare, ours := sides()
		d.compare(b, d.cold, bare, ours)
		if bare.reads == 0 {
			b.Error("nothing was read: the cache was not cold")
		}
	})
	b.Run("warm", func(b *testing.B) {
		bare, ours := sides()
		ours.run()
		d.compare(b, func() {}, bare, ours)
		var with, without runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&with)
		if len(snap.Blobs) != scale.Images*(scale.Layers+2) || len(snap.Problems) != 0 {
			b.Errorf("got %d blobs and problems %v", len(snap.Blobs), snap.Problems)
		}
		snap = nil
		runtime.GC()
		runtime.ReadMemStats(&without)
		b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/1e6, "snapshot-MB")
	})
}

// bareWalk walks a tree: each directory is opened and listed, each file asked for.
func bareWalk(top string, workers int) {
	var mu sync.Mutex
	wake := sync.NewCond(&mu)
	left, busy := []string{top}, 0
	next := func() (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		for len(left) == 0 && busy > 0 {
			wake.Wait()
		}
		if len(left) == 0 {
			return "", false
		}
		path := left[len(left)-1]
		left = left[:len(left)-1]
		busy++
		return path, true
	}
	done := func(dirs []string) {
		mu.Lock()
		defer mu.Unlock()
		left = append(left, dirs...)
		busy--
		wake.Broadcast()
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, 32<<10)
			for path, ok := next(); ok; path, ok = next() {
				done(bareList(path, buf))
			}
		})
	}
	wg.Wait()
}

// bareList lists a directory, asks for its files and returns its directories.
func bareList(path string, buf []byte) (dirs []string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Getdents(fd, buf)
		if n <= 0 || err != nil {
			return dirs
		}
		for b := buf[:n]; len(b) > 0; {
			record := b[:int(b[16])|int(b[17])<<8]
			b = b[len(record):]
			name, _, _ := strings.Cut(string(record[19:]), "\x00")
			switch {
			case name == "." || name == "..":
			case record[18] == unix.DT_DIR:
				dirs = append(dirs, path+"/"+name)
			default:
				var st unix.Stat_t
				_ = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
			}
		}
	}
}

// BenchmarkRehash compares Rehash with as many workers that do nothing but direct reads of a megabyte and SHA-256, and with the command sha256sum as people call it.
func BenchmarkRehash(b *testing.B) {
	d := newBench(b)
	r := layouttest.At(b, d.Dir())
	scale := layouttest.Scale{Repositories: 1, Images: 3, Layers: 8, LayerSize: 10 << 20}
	if os.Getenv("MEASURE") != "" {
		scale.Images = 50
	}
	r.Fill(scale)
	d.Sync()
	workers := max(runtime.GOMAXPROCS(0), 8)
	s, err := layout.Open(d.Dir())
	must(b, err)
	all := blobs(scan(b, s))
	slices.SortFunc(all, func(a, b layout.Blob) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Inode, b.Inode)) })
	var bytes int64
	for _, blob := range all {
		bytes += blob.Size
	}
	for name, p := range modes() {
		if name == "slow" || name == "cached idle" {
			continue
		}
		b.Run(name, func(b *testing.B) {
			bare := &side{name: "bare", run: func() { bareHash(b, layouttest.At(b, d.Dir()), all, workers) }}
			ours := &side{name: "rehash", run: func() {
				s, err := layout.Open(d.Dir())
				must(b, err)
				must(b, s.Rehash(b.Context(), all, p, func(h layout.Hashed) { must(b, h.Err) }))
			}}
			command := &side{name: "sha256sum", run: func() {
				layouttest.Sh(b, "find", filepath.Join(d.Dir(), "docker"), "-name", "data", "-exec", "sha256sum", "{}", "+")
			}}
			d.compare(b, d.cold, bare, ours, command)
			b.ReportMetric(float64(bytes)/1e6/median(bare.took).Seconds(), "bare-MB/s")
			b.ReportMetric(float64(bytes)/1e6/median(ours.took).Seconds(), "rehash-MB/s")
		})
	}
}

// bareHash reads and hashes.
func bareHash(b *testing.B, r *layouttest.Registry, all []layout.Blob, workers int) {
	b.Helper()
	next := make(chan registry.Digest, len(all))
	for _, blob := range all {
		next <- blob.Digest
	}
	close(next)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = unix.Munmap(buf) }()
			for digest := range next {
				if got := bareSum(r.Data(digest), buf); got != digest {
					b.Errorf("got %s, want %s", got, digest)
				}
			}
		})
	}
	wg.Wait()
}

func bareSum(path string, buf []byte) registry.Digest {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	sum := sha256.New()
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return registry.SumDigest([sha256.Size]byte(sum.Sum(nil)))
		}
		_, _ = sum.Write(buf[:n])
	}
}
