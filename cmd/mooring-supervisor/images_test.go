package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	main "github.com/mooring-sh/mooring/cmd/mooring-supervisor"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// proving is one life of a supervisor that proves a storage.
type proving struct {
	supervisor.Images

	t       *testing.T
	records string
	storage supervisor.Storage
	end     func()
}

func prove(t *testing.T, records string, s supervisor.Storage, view func(context.Context, mooring.Name) (admin.View, error), db *database) *proving {
	t.Helper()
	all, closeAll := main.NewRegistryImages(records, view, db)
	p := &proving{Images: all, t: t, records: records, storage: s}
	p.end = sync.OnceFunc(func() {
		if err := closeAll(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.end)
	return p
}

func (p *proving) verify() supervisor.ImagesState {
	p.t.Helper()
	if err := p.Verify(p.t.Context(), p.storage); err != nil {
		p.t.Fatal(err)
	}
	return p.Observe()
}

// keep keeps the manifest until it is so.
func (p *proving) keep(what string, so func(m *images.Manifest) bool) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Keep(ctx, p.storage) }()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	limit := time.After(time.Minute)
	for done := false; !done; {
		select {
		case <-every.C:
			m, _, err := images.ReadManifest(p.records)
			done = err == nil && so(m)
		case err := <-ended:
			p.t.Fatalf("ended: %v", err)
		case <-limit:
			p.t.Fatalf("a minute later it is not so that %s", what)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		p.t.Error(err)
	}
}

func imagesIn(n int) func(m *images.Manifest) bool {
	return func(m *images.Manifest) bool { return m.Count().Images == n }
}

// database is a service that prints rows as Harbor's database does, or why it does not.
type database struct {
	mu   sync.Mutex
	rows [][]string // by kind: repository, image, tag, part
	err  error
}

func (d *database) Exec(_ context.Context, service supervisor.ServiceName, argv []string, out io.Writer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if service != "db" || d.err != nil {
		return d.err
	}
	if strings.Contains(strings.Join(argv, " "), "'mark'") {
		_, err := fmt.Fprintf(out, "mark\t%d\t2\t3\t4\t5\t6\t7\n", len(d.rows))
		return err
	}
	counts := map[string]int{"repository": 0, "image": 0, "tag": 0, "part": 0}
	for _, row := range d.rows {
		counts[row[0]]++
		if _, err := io.WriteString(out, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	for kind, n := range counts {
		if _, err := fmt.Fprintf(out, "count\t%s\t%d\n", kind, n); err != nil {
			return err
		}
	}
	return nil
}

// What was pushed is in the manifest within seconds; what was lost or damaged since is named by the next supervisor, each thing once; what only hashing finds is found by tier 3,
// and is not forgotten by a restart.
func TestLossesAreNamed(t *testing.T) {
	store, records := layouttest.New(t), filepath.Join(t.TempDir(), "manifest")
	at := supervisor.Storage{Service: "registry", Dir: store.Dir}
	p := prove(t, records, at, nil, nil)
	if s := p.verify(); len(s.Conditions) != 0 || s.Verdict.Images != 0 || !s.Verdict.Manifest.IsZero() || s.Verdict.Tags != mooring.Yes || s.Damage.Images != 0 {
		t.Errorf("an empty registry: got %+v", s)
	}
	a := store.Image("library/a", "1", []byte("a layer of a"), []byte("shared"))
	b := store.Image("library/b", "1", []byte("a layer of b"), []byte("shared"))
	store.Tag("library/a", "latest", a.Digest)
	p.keep("both images are in the manifest", imagesIn(2))
	if err := p.Rehash(t.Context(), at); err != nil || p.Observe().Rehashed.IsZero() {
		t.Errorf("rehash: %v, %s", err, p.Observe().Rehashed)
	}
	p.end()

	store.Truncate(store.Data(a.Layers[0].Digest), 0)
	p = prove(t, records, at, nil, nil)
	s := p.verify()
	if len(s.Conditions) != 0 || s.Verdict.Images != 2 || s.Verdict.Intact != 1 || s.Verdict.Manifest.IsZero() || s.Damage.Images != 1 || len(s.Findings) != 2 || len(s.Damage.Worst) != 2 {
		t.Fatalf("an empty layer: got %+v", s)
	}
	if f := s.Findings[0]; f.Name() != "library/a:1" || !strings.HasPrefix(f.Kind, "blob-") || f.Digest != string(a.Layers[0].Digest) || f.LastRight.IsZero() {
		t.Errorf("an empty layer: got %+v", f)
	}
	p.keep("both are still in the manifest", imagesIn(2))
	when := time.Now().Add(-24 * time.Hour)
	store.Flip(store.Data(b.Layers[0].Digest), 3)
	if err := os.Chtimes(store.Data(b.Layers[0].Digest), when, when); err != nil {
		t.Fatal(err)
	}
	if err := p.Rehash(t.Context(), at); err != nil {
		t.Error(err)
	}
	if d := p.Observe().Damage; d.Images != 2 {
		t.Errorf("after tier 3: got %+v, want two images", d)
	}
	p.end()

	p = prove(t, records, at, nil, nil)
	p.keep("it was looked at", func(*images.Manifest) bool { return p.Observe().Damage.Images == 2 })
}

// The tags are compared with the database's when it is up; that it is not up, or has no answer, is said, and does not keep the rest from being proved.
func TestTagsAreCompared(t *testing.T) {
	store, records := layouttest.New(t), filepath.Join(t.TempDir(), "manifest")
	at := supervisor.Storage{Service: "registry", Dir: store.Dir, Tags: "db"}
	img := store.Image("library/a", "", []byte("layer"))
	db := &database{err: fmt.Errorf("it starts: %w", mooring.ErrUnavailable)}
	p := prove(t, records, at, nil, db)
	if v := p.verify().Verdict; v.Tags != mooring.Unknown || v.Images != 1 {
		t.Errorf("not up: got %+v", v)
	}
	db.err = errors.New("relation does not exist")
	if v := p.verify().Verdict; v.Tags != mooring.No || !strings.Contains(v.TagsErr, "relation does not exist") {
		t.Errorf("no answer: got %+v", v)
	}
	const lost = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	db.err, db.rows = nil, [][]string{{"repository", "1", "library/a"}, {"image", "7", "1", string(img.Digest), "m"}, {"tag", "1", "7", "1", "1700000000000000"}}
	if v := p.verify().Verdict; v.Tags != mooring.Yes || v.Images != 1 || v.Intact != 1 {
		t.Errorf("an answer: got %+v, %+v", v, p.Observe().Findings)
	}
	p.keep("the tag is in the manifest", func(m *images.Manifest) bool { return m.Count().Tags == 1 })
	db.mu.Lock()
	db.rows = append(db.rows, []string{"image", "8", "1", lost, "m"}, []string{"tag", "1", "8", "2", "1700000000000001"})
	db.mu.Unlock()
	if s := p.verify(); s.Damage.Images+s.Damage.Unfinished != 1 || s.Findings[0].Name() != "library/a:2" {
		t.Errorf("an image that only the database has: got %+v", s.Findings)
	}
}

// A storage without a registry in it, though the manifest has images, is the loss of all of them, each by its name; and the manifest is not made to forget them.
func TestEmptiedStorageIsALoss(t *testing.T) {
	store, records := layouttest.New(t), filepath.Join(t.TempDir(), "manifest")
	at := supervisor.Storage{Service: "registry", Dir: store.Dir}
	store.Image("library/a", "1", []byte("layer"))
	p := prove(t, records, at, nil, nil)
	p.verify()
	p.keep("the image is in the manifest", imagesIn(1))
	store.Remove(filepath.Join(store.Dir, "docker"))
	if s := p.verify(); s.Damage.Images != 1 || s.Findings[0].Name() != "library/a:1" {
		t.Errorf("got %+v", s)
	}
	if err := p.Keep(t.Context(), at); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("keep: got %v, want that it is refused", err)
	}
}

// A registry to which nothing was ever pushed has no directory yet. That is nothing to tell of, and all of it is hashed.
func TestAFreshRegistryIsHashed(t *testing.T) {
	at := supervisor.Storage{Service: "registry", Dir: t.TempDir()}
	p := prove(t, filepath.Join(t.TempDir(), "manifest"), at, nil, nil)
	p.verify()
	if err := p.Rehash(t.Context(), at); err != nil || p.Observe().Rehashed.IsZero() {
		t.Errorf("got %v, hashed at %s; want all of nothing", err, p.Observe().Rehashed)
	}
}

// volume is a volume as the plugin tells of it.
type volume struct {
	mu   sync.Mutex
	view admin.View
}

func (v *volume) set(change func(*admin.View)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.view)
}

func (v *volume) get(context.Context, mooring.Name) (admin.View, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.view, nil
}

// What is read is let go within two seconds of when Docker has let go of the volume, and of the end of the context; and a volume that is not mounted is not read: the empty
// directory below it would be taken for a loss of everything.
func TestVolumeIsLetGo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	vol := &volume{view: admin.View{Mountpoint: data, Holders: []admin.Holder{{ID: "x", Count: 1}}}}
	at := supervisor.Storage{Service: "registry", Volume: "r", Dir: "."}
	p := prove(t, filepath.Join(t.TempDir(), "manifest"), at, vol.get, nil)
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), at); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("not mounted: got %v, want that it is unavailable", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	layouttest.At(t, data).Image("library/a", "1", make([]byte, 30<<20)) // half a minute's work for tier 3
	if s := p.verify(); s.Verdict.Intact != 1 {
		t.Errorf("mounted: got %+v", s.Verdict)
	}
	vol.set(func(v *admin.View) { v.Holders = nil }) // as after a boot
	since := time.Now()
	if err := p.Rehash(t.Context(), at); err != nil || time.Since(since) < 2*time.Second || time.Since(since) > 6*time.Second {
		t.Errorf("nobody holds it: read for %s (%v), want two seconds and a little", time.Since(since), err)
	}
	vol.set(func(v *admin.View) { v.Holders = []admin.Holder{{ID: "x", Count: 1}} })
	ended := make(chan error, 2)
	go func() { ended <- p.Keep(t.Context(), at) }()
	go func() { ended <- p.Rehash(t.Context(), at) }()
	begun := time.NewTicker(10 * time.Millisecond)
	defer begun.Stop()
	for p.Observe().Progress.AllBytes == 0 {
		<-begun.C
	}
	if err := syscall.Unmount(dir, 0); err == nil {
		t.Fatal("the volume could be unmounted while it was read")
	}
	vol.set(func(v *admin.View) { v.Holders = nil })
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	limit := time.After(2 * time.Second)
	for mounted {
		select {
		case <-every.C:
			mounted = syscall.Unmount(dir, 0) != nil
		case <-limit:
			t.Fatal("after two seconds it is still in use")
		}
	}
	vol.set(func(v *admin.View) { v.Mountpoint = "" })
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("let go: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the manifest of a volume that is not mounted is kept on")
		}
	}
}
