package layout_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// The tests in this file run in bubbles of testing/synctest: there the time that a scan leaves a doubtful thing alone passes only when nobody is at work any more. So whoever waits for the scan to
// have looked has done his part before it looks again, however slow the machine is.

// watch tells of what happens to files; it is the kernel's own account (inotify(7)).
type watch struct {
	tb    testing.TB
	fd    int
	paths map[int32]string
}

func newWatch(tb testing.TB) *watch {
	tb.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Close(fd) })
	return &watch{tb: tb, fd: fd, paths: map[int32]string{}}
}

func (w *watch) add(path string, events uint32) {
	w.tb.Helper()
	id, err := unix.InotifyAddWatch(w.fd, path, events)
	must(w.tb, err)
	w.paths[int32(id)] = path
}

// next waits for an event.
func (w *watch) next() {
	buf := make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1)
	if _, err := unix.Read(w.fd, buf); err != nil {
		w.tb.Errorf("inotify: %v", err)
	}
}

// scanWhile scans, and has act done when path was closed for the first time.
func scanWhile(t *testing.T, r *layouttest.Registry, path string, act func()) (snap *layout.Snapshot) {
	t.Helper()
	w := newWatch(t)
	w.add(path, unix.IN_CLOSE_NOWRITE)
	synctest.Test(t, func(t *testing.T) {
		go func() {
			w.next()
			act()
		}()
		snap = scan(t, open(t, r))
	})
	return snap
}

// Registries before 3.1 empty a link and then write it. A scan that comes between the two must not call it damaged.
func TestNoAlarmForALinkThatIsBeingWritten(t *testing.T) {
	v := newVictim(t)
	link := v.TagLink("app", "1")
	v.Truncate(link, 0)
	snap := scanWhile(t, v.Registry, link, func() { v.Tag("app", "1", v.image.Digest) })
	intact(t, snap.Repositories[0], v.image)
}

// A registry makes a blob's directory and then moves the file into it.
func TestNoAlarmForABlobThatIsBeingPutInPlace(t *testing.T) {
	v := newVictim(t)
	layer := v.image.Layers[0]
	content, err := os.ReadFile(v.Data(layer.Digest))
	must(t, err)
	must(t, os.Remove(v.Data(layer.Digest)))
	snap := scanWhile(t, v.Registry, filepath.Dir(filepath.Dir(v.Data(layer.Digest))), func() { v.Blob(content) })
	if got := snap.Blobs[layer.Digest]; got.Size != layer.Size {
		t.Errorf("got size %d, want %d", got.Size, layer.Size)
	}
}

// An image may be pushed after its blobs' directories were listed and before its links were read: then the links are there, and the blobs must be, too.
func TestNoAlarmForAnImageThatIsPushedDuringTheScan(t *testing.T) {
	v := newVictim(t)
	var img layouttest.Image
	snap := scanWhile(t, v.Registry, v2(v.Registry, "blobs/sha256"), func() {
		img = v.Image("app", "2", []byte("a new layer"))
	})
	for _, r := range snap.Repositories {
		for _, l := range append(r.Layers, r.Revisions...) {
			if _, ok := snap.Blobs[l.Target]; !ok {
				t.Errorf("%s is linked by %s and was not found", l.Target, l.Path)
			}
		}
	}
	if img.Digest == "" {
		t.Error("nothing was pushed")
	}
}

// A garbage collection takes the links and then the blobs. What is gone when it is looked at was not lost.
func TestNoAlarmForAnImageThatIsDeletedDuringTheScan(t *testing.T) {
	v := newVictim(t)
	snap := scanWhile(t, v.Registry, v.RevisionLink("app", v.image.Digest), func() {
		v.Remove(v2(v.Registry, "repositories/app/_manifests/tags/1"))
		v.Remove(filepath.Dir(v.RevisionLink("app", v.image.Digest)))
		for _, d := range append(v.image.Layers, v.image.Config) {
			v.Remove(filepath.Dir(v.LayerLink("app", d.Digest)))
			v.Remove(filepath.Dir(v.Data(d.Digest)))
		}
		v.Remove(filepath.Dir(v.Data(v.image.Digest)))
	})
	if len(snap.Problems) > 0 {
		t.Errorf("got %v, want none", snap.Problems)
	}
	for _, b := range snap.Blobs {
		if b.Size < 0 {
			t.Errorf("got %+v", b)
		}
	}
	for _, r := range snap.Repositories {
		for _, l := range append(r.Layers, r.Revisions...) {
			if l.Problem != "" {
				t.Errorf("got %+v, want no alarm", l)
			}
		}
	}
}

// While images come and go as fast as they can, nothing is found that is not so.
func TestNoAlarmWhileImagesComeAndGo(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	for round := range 5 {
		synctest.Test(t, func(t *testing.T) {
			go func() {
				for i := range 40 {
					img := v.Image("busy", "latest", []byte{byte(round), byte(i)})
					if i%2 == 0 {
						continue
					}
					v.Remove(filepath.Dir(v.RevisionLink("busy", img.Digest)))
					v.Remove(v2(v.Registry, "repositories/busy/_manifests/tags/latest"))
					v.Remove(filepath.Dir(v.LayerLink("busy", img.Layers[0].Digest)))
					v.Remove(filepath.Dir(v.Data(img.Layers[0].Digest)))
					v.Remove(filepath.Dir(v.Data(img.Digest)))
				}
			}()
			snap := scan(t, s)
			if len(snap.Problems) > 0 {
				t.Errorf("got %v, want none", snap.Problems)
			}
			for _, r := range snap.Repositories {
				links := append(r.Layers, r.Revisions...)
				for _, tag := range r.Tags {
					links = append(append(links, tag.Current), tag.Index...)
				}
				for _, l := range links {
					if l.Problem != "" {
						t.Errorf("got %+v, want no alarm", l)
					}
				}
			}
			for _, b := range snap.Blobs {
				if b.Size <= 0 {
					t.Errorf("got %+v, want no alarm", b)
				}
			}
		})
	}
}

// A cold walk is made of waiting for the disk. So a blob is asked for by its name alone, neither it nor its directory being opened, and a link is opened once.
func TestScanOpensEachLinkOnceAndNoBlob(t *testing.T) {
	r := layouttest.New(t)
	images := r.Fill(layouttest.Scale{Repositories: 2, Images: 4, Layers: 2})
	w := newWatch(t)
	links := map[string]int{}
	for _, img := range images {
		for _, d := range append(img.Layers, img.Config, img.Descriptor) {
			w.add(r.Data(d.Digest), unix.IN_OPEN)
			w.add(filepath.Dir(r.Data(d.Digest)), unix.IN_OPEN)
		}
		for _, d := range append(img.Layers, img.Config) {
			links[r.LayerLink(img.Repository, d.Digest)] = 0
		}
		links[r.RevisionLink(img.Repository, img.Digest)] = 0
		links[r.TagLink(img.Repository, img.Tag)] = 0
		links[r.IndexLink(img.Repository, img.Tag, img.Digest)] = 0
	}
	for path := range links {
		w.add(path, unix.IN_OPEN)
		w.add(filepath.Dir(path), unix.IN_OPEN)
	}
	scan(t, open(t, r))
	for _, path := range w.opened() {
		if _, ok := links[path]; !ok {
			t.Errorf("%s was opened", path)
			continue
		}
		links[path]++
	}
	for path, n := range links {
		if n != 1 {
			t.Errorf("%s was opened %d times, want once", path, n)
		}
	}
}

// opened returns what was opened so far, as often as it was. A directory's watch tells of the files in it, too; those are left out.
func (w *watch) opened() []string {
	w.tb.Helper()
	must(w.tb, unix.SetNonblock(w.fd, true))
	var paths []string
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return paths
		}
		must(w.tb, err)
		for b := buf[:n]; len(b) > 0; {
			e := parseEvent(b)
			if e.name == 0 {
				paths = append(paths, w.paths[e.id])
			}
			b = b[unix.SizeofInotifyEvent+e.name:]
		}
	}
}

// event is the head of struct inotify_event.
type event struct {
	id   int32
	name int // bytes of a name that follow
}

func parseEvent(b []byte) event {
	return event{id: int32(binary.NativeEndian.Uint32(b)), name: int(binary.NativeEndian.Uint32(b[12:]))}
}
