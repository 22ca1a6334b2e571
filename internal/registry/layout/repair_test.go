package layout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// asides returns what is under docker/registry/mooring-aside, as paths below it and contents.
func asides(t *testing.T, r *layouttest.Registry) map[string]string {
	t.Helper()
	top := filepath.Join(r.Dir, "docker/registry/mooring-aside")
	all := map[string]string{}
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
			return nil
		}
		must(t, err)
		content, err := os.ReadFile(path)
		must(t, err)
		below, err := filepath.Rel(top, path)
		must(t, err)
		all[below] = string(content)
		return nil
	})
	must(t, err)
	return all
}

func owner(t *testing.T, s *layout.Storage) layout.Owner {
	t.Helper()
	o, err := s.Owner()
	must(t, err)
	return o
}

// A damaged blob is evidence, and perhaps all that is left of it: it is moved, each time to a new name, and never lost.
func TestAsideKeepsWhatItMoves(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	layer := v.image.Layers[0].Digest
	for i, want := range []string{"data", "data.1", "data.2"} {
		content := strings.Repeat("damaged", i)
		v.Overwrite(v.Data(layer), content)
		path, err := s.Aside(layer)
		must(t, err)
		below := filepath.Join("blobs/sha256", layer.Hex()[:2], layer.Hex(), want)
		if got := asides(t, v.Registry)[below]; got != content || path != filepath.Join(v.Dir, "docker/registry/mooring-aside", below) {
			t.Errorf("got %q at %s, want %q at %s", got, path, content, below)
		}
		if _, err := os.Lstat(v.Data(layer)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want nothing in its place", err)
		}
	}
	if n := len(asides(t, v.Registry)); n != 3 {
		t.Errorf("got %d files, want 3", n)
	}
	if _, err := s.Aside(layer); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("got %v, want one that wraps ErrNotFound", err)
	}
	if snap := scan(t, s); len(snap.Problems) != 0 {
		t.Errorf("got problems %v, want none: what is aside is not the registry's", snap.Problems)
	}
}

// Whatever has taken a blob's place has to make room for it.
func TestAsideMovesWhateverIsThere(t *testing.T) {
	for name, put := range map[string]func(string) error{"directory": directory, "FIFO": fifo, "symbolic link": loop} {
		v := newVictim(t)
		layer := v.image.Layers[0].Digest
		instead(t, v.Data(layer), put)
		path, err := open(t, v.Registry).Aside(layer)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A repaired blob is the registry's: content, owner and mode are as if it had been pushed.
func TestPlacePutsABlobBack(t *testing.T) {
	v := newVictim(t)
	if os.Getuid() == 0 { // else the owner is the only one there is
		must(t, filepath.WalkDir(v.Dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 10000, 10001))
		}))
	}
	s := open(t, v.Registry)
	for _, n := range sizes() {
		content := []byte(strings.Repeat("y", n))
		d := registry.DigestOf(content)
		must(t, s.Place(t.Context(), d, int64(n), bytes.NewReader(content), owner(t, s)))
		got, err := os.ReadFile(v.Data(d))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: got %d bytes and %v", n, len(got), err)
		}
		for path, like := range map[string]string{v.Data(d): v.Data(v.image.Digest), filepath.Dir(v.Data(d)): filepath.Dir(v.Data(v.image.Digest)), filepath.Dir(filepath.Dir(v.Data(d))): filepath.Dir(filepath.Dir(v.Data(v.image.Digest)))} {
			if got, want := ownerOf(t, path), ownerOf(t, like); got != want {
				t.Errorf("%s: got %v, want %v as its neighbours", path, got, want)
			}
		}
	}
	if got := asides(t, v.Registry); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

type ownership struct {
	uid, gid uint32
	mode     fs.FileMode
}

func ownerOf(t *testing.T, path string) ownership {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("%s: no owner", path)
	}
	return ownership{uid: st.Uid, gid: st.Gid, mode: info.Mode()}
}

// What comes from elsewhere is put in place only if it is the blob, all of it and nothing more; whatever happens, nothing that was there is touched.
func TestPlaceRefusesWhatIsNotTheBlob(t *testing.T) {
	content := []byte("the right content")
	d, size := registry.DigestOf(content), int64(len("the right content"))
	for _, c := range []struct {
		name string
		from io.Reader
		size int64
		want error
	}{
		{"other content", strings.NewReader("THE RIGHT CONTENT"), size, mooring.ErrCorrupt},
		{"cut short", bytes.NewReader(content[:10]), size, mooring.ErrCorrupt},
		{"nothing", strings.NewReader(""), size, mooring.ErrCorrupt},
		{"more", io.MultiReader(bytes.NewReader(content), strings.NewReader("x")), size, mooring.ErrCorrupt},
		{"without end", endless{}, size, mooring.ErrCorrupt},
		{"another size", bytes.NewReader(content), size - 1, mooring.ErrCorrupt},
		{"a connection that breaks", io.MultiReader(bytes.NewReader(content[:10]), broken{}), size, errEnough},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := layouttest.New(t)
			s := open(t, r)
			if err := s.Place(t.Context(), d, c.size, c.from, owner(t, s)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := os.Lstat(r.Data(d)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want nothing in its place", err)
			}
			if got := asides(t, r); len(got) != 0 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errEnough }

// The registry may have accepted the blob meanwhile. Even a damaged one is not replaced: moving it aside is a step of its own.
func TestPlaceReplacesNothing(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	content := []byte("the layer")
	d := registry.DigestOf(content)
	v.Flip(v.Data(d), 0)
	before, err := os.ReadFile(v.Data(d))
	must(t, err)
	if err := s.Place(t.Context(), d, int64(len(content)), bytes.NewReader(content), owner(t, s)); !errors.Is(err, mooring.ErrExists) {
		t.Errorf("got %v, want one that wraps ErrExists", err)
	}
	// It comes while it is being fetched.
	must(t, os.Remove(v.Data(d)))
	meanwhile := readerFunc(func(p []byte) (int, error) {
		v.Overwrite(v.Data(d), string(before))
		return copy(p, content), io.EOF
	})
	if err := s.Place(t.Context(), d, int64(len(content)), meanwhile, owner(t, s)); !errors.Is(err, mooring.ErrExists) {
		t.Errorf("got %v, want one that wraps ErrExists", err)
	}
	if after, err := os.ReadFile(v.Data(d)); err != nil || !bytes.Equal(after, before) {
		t.Errorf("got %q and %v, want what was there", after, err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Two repairs at once, or one after one that was killed: neither mixes with the other, and what was placed stays whole.
func TestPlaceIsDoneByOneAtATime(t *testing.T) {
	r := layouttest.New(t)
	s := open(t, r)
	content := []byte("the layer")
	d := registry.DigestOf(content)
	part := filepath.Join(r.Dir, "docker/registry/mooring-aside", d.Hex()+".part")
	r.Overwrite(part, "what a killed one left, longer than the content")
	second := readerFunc(func(p []byte) (int, error) {
		if err := s.Place(t.Context(), d, int64(len(content)), bytes.NewReader(content), owner(t, s)); !errors.Is(err, mooring.ErrInUse) {
			t.Errorf("got %v, want one that wraps ErrInUse", err)
		}
		return copy(p, content), io.EOF
	})
	must(t, s.Place(t.Context(), d, int64(len(content)), second, owner(t, s)))
	if got := asides(t, r); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	// One that was killed after the blob got its name: the same file has both.
	must(t, os.Link(r.Data(d), part))
	aside, err := s.Aside(d)
	must(t, err)
	must(t, s.Place(t.Context(), d, int64(len(content)), bytes.NewReader(content), owner(t, s)))
	for _, path := range []string{aside, r.Data(d)} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: got %q and %v", path, got, err)
		}
	}
}

// An interrupt leaves nothing half done.
func TestPlaceEndsWithItsContext(t *testing.T) {
	r := layouttest.New(t)
	s := open(t, r)
	ctx, cancel := context.WithCancelCause(t.Context())
	from := readerFunc(func(p []byte) (int, error) {
		cancel(errEnough)
		return len(p), nil
	})
	if err := s.Place(ctx, other, 1<<40, from, owner(t, s)); !errors.Is(err, errEnough) {
		t.Errorf("got %v, want the context's cause", err)
	}
	if got := asides(t, r); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// A link is rebuilt whatever is left of it, belongs to whom the rest belongs, and what it said is kept.
func TestRelinkReplacesALinkAndKeepsWhatItSaid(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, v victim, path string)
		kept   string
	}{
		{"emptied", func(_ *testing.T, v victim, path string) { v.Truncate(path, 0) }, ""},
		{"deleted", func(_ *testing.T, v victim, path string) { v.Remove(path) }, ""},
		{"deleted with its directory", func(_ *testing.T, v victim, path string) { v.Remove(filepath.Dir(path)) }, ""},
		{"garbage", func(_ *testing.T, v victim, path string) { v.Overwrite(path, "garbage") }, "garbage"},
		{"lying", func(_ *testing.T, v victim, path string) { v.Overwrite(path, string(other)) }, string(other)},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(t)
			path := v.TagLink("app", "1")
			l := scan(t, open(t, v.Registry)).Repositories[0].Tags[0].Current
			c.damage(t, v, path)
			s := open(t, v.Registry)
			if app := scan(t, s).Repositories[0]; app.Tags[0].Current.Path == l.Path {
				l = app.Tags[0].Current
			}
			must(t, s.Relink(l, v.image.Digest))
			intact(t, scan(t, s).Repositories[0], v.image)
			if got, want := ownerOf(t, path), ownerOf(t, v.RevisionLink("app", v.image.Digest)); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			kept := strings.Join(slices.Collect(maps.Values(asides(t, v.Registry))), "")
			if kept != c.kept {
				t.Errorf("got %q aside, want %q", kept, c.kept)
			}
		})
	}
}

// Between the judgement and the repair a push may have put the link right: then its tag must not be turned back.
func TestRelinkLeavesALinkThatChangedMeanwhile(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	v.Truncate(v.TagLink("app", "1"), 0)
	l := scan(t, s).Repositories[0].Tags[0].Current
	newer := v.Image("app", "1", []byte("a newer layer"))
	if err := s.Relink(l, v.image.Digest); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("got %v, want one that wraps ErrInUse", err)
	}
	if got := scan(t, s).Repositories[0].Tags[0].Current.Target; got != newer.Digest {
		t.Errorf("got %s, want %s", got, newer.Digest)
	}
}

// A path from a damaged record must not lead to a file that is no link.
func TestRelinkWritesNothingButLinks(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	l := scan(t, s).Repositories[0].Tags[0].Current
	for _, path := range []string{"", "/etc/link", "../link", "repositories/app/../../../link", filepath.Join(filepath.Dir(l.Path), "other")} {
		l.Path = path
		if err := s.Relink(l, v.image.Digest); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%q: got %v, want one that wraps ErrInvalid", path, err)
		}
	}
}
