package layout_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// other is the digest of something that no test pushes.
const other = registry.Digest("sha256:00000000000000000000000000000000000000000000000000000000000000ff")

// victim is a registry with one image, app:1, to be damaged, and one that must stay as it is, safe:1.
type victim struct {
	*layouttest.Registry

	image, safe layouttest.Image
}

func newVictim(tb testing.TB) victim {
	tb.Helper()
	v := victim{Registry: layouttest.New(tb)}
	v.image = v.Image("app", "1", []byte("the layer"))
	v.safe = v.Image("safe", "1", []byte("another layer"))
	return v
}

// must ends a test whose damage could not be done.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// instead puts something else where a file is.
func instead(tb testing.TB, path string, put func(path string) error) {
	tb.Helper()
	must(tb, os.RemoveAll(path))
	must(tb, put(path))
}

func directory(path string) error { return os.Mkdir(path, 0o755) }
func fifo(path string) error      { return syscall.Mkfifo(path, 0o644) }
func loop(path string) error      { return os.Symlink(path, path) }

// TestScanSaysWhatIsWrongWithABlob: a size that is not the manifest's, or none at all, is all that a scan can see of a blob, and it must see it.
func TestScanSaysWhatIsWrongWithABlob(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, v victim, path string)
		want   int64 // size; -2: the snapshot has no such blob
		told   bool  // as a problem, too
	}{
		{"truncated", func(_ *testing.T, v victim, path string) { v.Truncate(path, 4) }, 4, false},
		{"emptied", func(_ *testing.T, v victim, path string) { v.Truncate(path, 0) }, 0, false},
		{"deleted", func(_ *testing.T, v victim, path string) { v.Remove(path) }, -1, false},
		{"deleted with its directory", func(_ *testing.T, v victim, path string) { v.Remove(filepath.Dir(path)) }, -2, false},
		{"deleted with all beside it", func(_ *testing.T, v victim, path string) { v.Remove(filepath.Dir(filepath.Dir(path))) }, -2, false},
		{"a directory", func(t *testing.T, _ victim, path string) { instead(t, path, directory) }, -1, true},
		{"a FIFO", func(t *testing.T, _ victim, path string) { instead(t, path, fifo) }, -1, true},
		{"a link to itself", func(t *testing.T, _ victim, path string) { instead(t, path, loop) }, -1, true},
		{"a link to another blob", func(t *testing.T, v victim, path string) {
			instead(t, path, func(path string) error { return os.Symlink(v.Data(v.safe.Digest), path) })
		}, -1, true},
		{"a file for a directory", func(t *testing.T, v victim, path string) {
			v.Remove(filepath.Dir(path))
			v.Overwrite(filepath.Dir(path), "x")
		}, -2, true},
		{"a link for a directory", func(t *testing.T, v victim, path string) {
			v.Remove(filepath.Dir(path))
			must(t, os.Symlink(filepath.Dir(v.Data(v.safe.Digest)), filepath.Dir(path)))
		}, -2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(t)
			layer := v.image.Layers[0]
			c.damage(t, v, v.Data(layer.Digest))
			snap := scan(t, open(t, v.Registry))
			b, ok := snap.Blobs[layer.Digest]
			if !ok {
				b.Size = -2
			}
			if b.Size != c.want || (len(snap.Problems) > 0) != c.told {
				t.Errorf("got size %d and problems %v, want size %d", b.Size, snap.Problems, c.want)
			}
			for _, p := range snap.Problems {
				if !strings.Contains(p.Path, layer.Digest.Hex()) || !errors.Is(p.Err, mooring.ErrInvalid) {
					t.Errorf("got %s: %v", p.Path, p.Err)
				}
			}
			if got, want := snap.Blobs[v.safe.Layers[0].Digest].Size, v.safe.Layers[0].Size; got != want {
				t.Errorf("the other layer: got size %d, want %d", got, want)
			}
		})
	}
}

// TestScanSaysWhatIsWrongWithALink: a registry answers 500 for the one and 404 for the other, and people must be told which.
func TestScanSaysWhatIsWrongWithALink(t *testing.T) {
	content := func(s string) func(*testing.T, victim, string) {
		return func(_ *testing.T, v victim, path string) { v.Overwrite(path, s) }
	}
	replaced := func(put func(string) error) func(*testing.T, victim, string) {
		return func(t *testing.T, _ victim, path string) { t.Helper(); instead(t, path, put) }
	}
	for _, c := range []struct {
		name    string
		damage  func(t *testing.T, v victim, path string)
		problem string
		current string // of a tag's current link, if it differs: no name says what it should be
	}{
		{"untouched", func(*testing.T, victim, string) {}, "", ""},
		{"emptied", content(""), layout.LinkEmpty, ""},
		{"deleted", func(_ *testing.T, v victim, path string) { v.Remove(path) }, layout.LinkMissing, ""},
		{"cut short", content(string(other[:40])), layout.LinkInvalid, ""},
		{"zeros", content(strings.Repeat("\x00", registry.LinkLen)), layout.LinkEmpty, ""},
		{"with a newline", content(string(other) + "\n"), layout.LinkInvalid, ""},
		{"of a megabyte", content(strings.Repeat("sha256:0", 1<<17)), layout.LinkInvalid, ""},
		{"lying", content(string(other)), layout.LinkLies, "valid"},
		{"a directory", replaced(directory), "not a regular file", ""},
		{"a FIFO", replaced(fifo), "not a regular file", ""},
		{"a symbolic link to itself", replaced(loop), "not a regular file", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(t)
			d, layer := v.image.Digest, v.image.Layers[0].Digest
			for _, path := range []string{v.TagLink("app", "1"), v.IndexLink("app", "1", d), v.RevisionLink("app", d), v.LayerLink("app", layer)} {
				c.damage(t, v, path)
			}
			snap := scan(t, open(t, v.Registry))
			app, tag := snap.Repositories[0], snap.Repositories[0].Tags[0]
			for _, l := range []layout.Link{tag.Index[0], app.Revisions[0], find(t, app.Layers, layer), tag.Current} {
				want := c.problem
				if l.Name == "" && c.current != "" {
					want = ""
				}
				if l.Problem != want || l.Problem == "" && l.Changed.IsZero() || (l.Problem == layout.LinkMissing) != (l.Size < 0) && want != "not a regular file" {
					t.Errorf("got %+v, want problem %q", l, want)
				}
			}
			intact(t, snap.Repositories[1], v.safe)
			if len(snap.Problems) > 0 {
				t.Errorf("got problems %v, want none: what is wrong is with the links", snap.Problems)
			}
		})
	}
}

func find(t *testing.T, links []layout.Link, d registry.Digest) layout.Link {
	t.Helper()
	for _, l := range links {
		if l.Name == d {
			return l
		}
	}
	t.Fatalf("no link for %s", d)
	return layout.Link{}
}

// intact checks that nothing is wrong with an image that is alone in its repository.
func intact(t *testing.T, r layout.Repository, img layouttest.Image) {
	t.Helper()
	if len(r.Tags) != 1 || len(r.Revisions) != 1 || len(r.Layers) != 1+len(img.Layers) {
		t.Fatalf("got %+v", r)
	}
	for _, l := range append([]layout.Link{r.Tags[0].Current, r.Tags[0].Index[0], r.Revisions[0]}, r.Layers...) {
		if l.Problem != "" || l.Target == "" || l.Size != int64(registry.LinkLen) {
			t.Errorf("got %+v, want a valid link", l)
		}
	}
	if r.Tags[0].Current.Target != img.Digest {
		t.Errorf("got %s, want %s", r.Tags[0].Current.Target, img.Digest)
	}
}

// TestScanLeavesOutWhatADirectoryNoLongerHas: after a deletion by a user nothing is wrong.
func TestScanLeavesOutWhatADirectoryNoLongerHas(t *testing.T) {
	v := newVictim(t)
	v.Remove(filepath.Dir(filepath.Dir(v.TagLink("app", "1"))))
	v.Remove(filepath.Dir(v.RevisionLink("app", v.image.Digest)))
	snap := scan(t, open(t, v.Registry))
	if app := snap.Repositories[0]; len(app.Tags) != 0 || len(app.Revisions) != 0 || len(snap.Problems) != 0 {
		t.Errorf("got %+v and %v, want neither tags nor revisions nor problems", app, snap.Problems)
	}
}
