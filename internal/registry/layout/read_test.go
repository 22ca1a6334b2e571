package layout_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// What Read returns has the digest that was asked for; everything else is an error that says what to do about it.
func TestReadReturnsOnlyWhatHasTheDigest(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, v victim, path string)
		limit  int64
		want   error
	}{
		{"untouched", func(*testing.T, victim, string) {}, registry.MaxManifest, nil},
		{"just within the limit", func(*testing.T, victim, string) {}, 0, nil},
		{"over the limit", func(*testing.T, victim, string) {}, -1, mooring.ErrCorrupt},
		{"truncated", func(_ *testing.T, v victim, path string) { v.Truncate(path, 10) }, registry.MaxManifest, mooring.ErrCorrupt},
		{"emptied", func(_ *testing.T, v victim, path string) { v.Truncate(path, 0) }, registry.MaxManifest, mooring.ErrCorrupt},
		{"one bit flipped", func(_ *testing.T, v victim, path string) { v.Flip(path, 20) }, registry.MaxManifest, mooring.ErrCorrupt},
		{"deleted", func(_ *testing.T, v victim, path string) { v.Remove(path) }, registry.MaxManifest, mooring.ErrNotFound},
		{"a directory", func(t *testing.T, _ victim, path string) { instead(t, path, directory) }, registry.MaxManifest, mooring.ErrCorrupt},
		{"a FIFO", func(t *testing.T, _ victim, path string) { instead(t, path, fifo) }, registry.MaxManifest, mooring.ErrCorrupt},
		{"a link to itself", func(t *testing.T, _ victim, path string) { instead(t, path, loop) }, registry.MaxManifest, mooring.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(t)
			c.damage(t, v, v.Data(v.image.Digest))
			limit := c.limit
			if limit <= 0 {
				limit += v.image.Size
			}
			content, err := open(t, v.Registry).Read(t.Context(), v.image.Digest, limit)
			if !errors.Is(err, c.want) || (err == nil) != (registry.DigestOf(content) == v.image.Digest) {
				t.Errorf("got %d bytes and %v, want %v", len(content), err, c.want)
			}
		})
	}
}

// A digest is a path here, and what is none may come from anywhere: a manifest, a command line.
func TestADigestThatIsNoneIsRefused(t *testing.T) {
	s := open(t, newVictim(t).Registry)
	for _, d := range []registry.Digest{"", "sha256", "sha256:", "sha256:../../../x", registry.Digest("sha256:" + strings.Repeat("/", 64))} {
		_, read := s.Read(t.Context(), d, 10)
		_, stat := s.Blob(d)
		_, aside := s.Aside(d)
		place := s.Place(t.Context(), d, 1, strings.NewReader("x"), layout.Owner{})
		var hashed error
		if err := s.Rehash(t.Context(), []layout.Blob{{Digest: d}}, layout.Pace{}, func(h layout.Hashed) { hashed = h.Err }); err != nil {
			t.Error(err)
		}
		for _, err := range []error{read, stat, aside, place, hashed} {
			if !errors.Is(err, mooring.ErrInvalid) {
				t.Errorf("%q: got %v, want one that wraps ErrInvalid", d, err)
			}
		}
	}
}

// Blob sees at once what a scan saw some time ago.
func TestBlobSaysWhatThereIsNow(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	want := scan(t, s).Blobs[v.image.Digest]
	if got, err := s.Blob(v.image.Digest); err != nil || got != want {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
	v.Remove(v.Data(v.image.Digest))
	if got, err := s.Blob(v.image.Digest); !errors.Is(err, mooring.ErrNotFound) || got.Size != -1 {
		t.Errorf("got %+v and %v, want one that wraps ErrNotFound", got, err)
	}
}

// Where there is no openat2(2) a path is opened step by step, with the same outcome: no symbolic link is followed.
func TestOpeningStepByStepFollowsNoSymbolicLink(t *testing.T) {
	top := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(top, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "a/b/file"), nil, 0o644))
	must(t, os.Symlink("a", filepath.Join(top, "link")))
	must(t, os.Symlink("file", filepath.Join(top, "a/b/link")))
	for path, want := range map[string]error{
		"a/b/file": nil, "a/b": nil, "a/b/missing": unix.ENOENT, "a/missing/file": unix.ENOENT,
		"link/b/file": unix.ENOTDIR, "a/b/link": unix.ELOOP, "a/b/file/x": unix.ENOTDIR,
	} {
		if err := layout.OpenStepwise(top, path, unix.O_RDONLY); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
}
