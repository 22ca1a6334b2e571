package layout_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// What is found of some repositories is what is found of them in a walk of everything.
func TestScanRepositoriesFindsWhatScanFinds(t *testing.T) {
	r := layouttest.New(t)
	app := r.Image("library/app", "1.0", []byte("one"), []byte("two"))
	r.Index("library/app", "latest", app.Descriptor)
	r.Image("library/app/below", "v1", []byte("three"))
	r.Image("other", "v1", []byte("four"))
	r.Truncate(r.LayerLink("library/app", app.Layers[0].Digest), 0)
	r.Remove(r.Data(app.Layers[1].Digest))
	s := open(t, r)
	all := scan(t, s)
	some, err := s.ScanRepositories(t.Context(), []string{"library/app", "absent", "../escape", ""})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Repositories, func(r layout.Repository) bool { return r.Name == "library/app" })
	if len(some.Repositories) != 1 || !reflect.DeepEqual(some.Repositories[0], all.Repositories[i]) {
		t.Errorf("got  %+v\nwant %+v", some.Repositories, all.Repositories[i])
	}
	if len(some.Problems) > 0 {
		t.Errorf("got problems %v", some.Problems)
	}
	if _, ok := some.Blobs[app.Layers[1].Digest]; ok {
		t.Error("a blob that is gone was found")
	}
	for d, b := range some.Blobs {
		if b != all.Blobs[d] {
			t.Errorf("got %+v, want %+v", b, all.Blobs[d])
		}
	}
	if len(some.Blobs) != 3 { // the configuration and two images' manifests
		t.Errorf("got %d blobs, want 3", len(some.Blobs))
	}
}

// A trace changes with whatever a registry does to a repository, and with nothing else: what it misses is not in the manifest when the machine dies.
func TestTracesChangeWithTheRepository(t *testing.T) {
	r := layouttest.New(t)
	first := r.Image("app", "v1", []byte("one"))
	r.Image("other", "v1", []byte("two"))
	s := open(t, r)
	traces := func() map[string]uint64 {
		got, err := s.Traces(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	last := traces()
	tick := time.Now()
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"another image", func() { r.Image("app", "v2", []byte("three")) }},
		{"an image without a tag", func() { r.Image("app", "", []byte("four")) }},
		{"another tag", func() { r.Tag("app", "v3", first.Digest) }},
		{"a tag moved in place", func() {
			r.Overwrite(r.TagLink("app", "v2"), string(first.Digest))
			tick = tick.Add(time.Second)
			if err := os.Chtimes(r.TagLink("app", "v2"), tick, tick); err != nil {
				t.Fatal(err)
			}
		}},
		{"a tag deleted", func() { r.Remove(filepath.Dir(filepath.Dir(r.TagLink("app", "v3")))) }},
		{"an image collected", func() { r.Remove(filepath.Dir(r.RevisionLink("app", first.Digest))) }},
	} {
		if again := traces(); !maps.Equal(again, last) {
			t.Errorf("before %s: nothing was done, and %v became %v", step.what, last, again)
		}
		step.do()
		now := traces()
		if now["app"] == last["app"] {
			t.Errorf("%s: the trace stays", step.what)
		}
		if now["other"] != last["other"] {
			t.Errorf("%s: the trace of another repository changed", step.what)
		}
		last = now
	}
}
