package layout_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// v2 returns the path of something in a storage.
func v2(r *layouttest.Registry, path string) string {
	return filepath.Join(r.Dir, "docker/registry/v2", path)
}

func problemPaths(snap *layout.Snapshot) []string {
	var paths []string
	for _, p := range snap.Problems {
		paths = append(paths, p.Path)
	}
	return paths
}

// What a registry does not make is reported, each by its path, and the rest is read all the same. What fsck makes, and uploads under way, are nobody's fault.
func TestScanReportsWhatHasNoPlaceInARegistry(t *testing.T) {
	v := newVictim(t)
	v.Upload("app", []byte("half"))
	file := func(path string) error { return os.WriteFile(path, nil, 0o644) }
	hex := other.Hex()
	strange := []struct {
		path string
		make func(path string) error
	}{
		{"blobs/sha256/000", directory},
		{"blobs/sha256/AB", directory},
		{"blobs/sha256/zz", directory},
		{"blobs/sha256/fe", loop},
		{"blobs/sha256/ff", file},
		{"blobs/sha256/00/" + hex[:63], directory},
		{"blobs/sha256/00/" + strings.ToUpper(hex), directory},
		{"blobs/sha256/01/" + hex, directory},
		{"repositories/app/_manifests/revisions/sha256/" + hex + "0", directory},
		{"repositories/app/_manifests/revisions/sha512", directory},
		{"repositories/app/_manifests/tags/-", directory},
		{"repositories/app/_manifests/tags/" + strings.Repeat("x", 129), directory},
		{"repositories/app/_manifests/tags/file", file},
		{"repositories/app/_manifests/tags/with\nline", directory},
		{"repositories/app/_layers/sha256/link", file},
		{"repositories/app/_other", directory},
		{"repositories/Upper", directory},
		{"repositories/a..b", directory},
		{"repositories/file", file},
		{"repositories/loop", loop},
		{"repositories/\xff\xfe", directory},
		{"repositories/_layers", directory},
	}
	for _, dir := range []string{"lost+found", "blobs/lost+found", "blobs/sha256/lost+found", "repositories/lost+found", "blobs/sha256/00", "blobs/sha256/01"} {
		must(t, os.MkdirAll(v2(v.Registry, dir), 0o755))
	}
	want := make([]string, 0, len(strange))
	for _, s := range strange {
		must(t, s.make(v2(v.Registry, s.path)))
		want = append(want, s.path)
	}
	slices.Sort(want)
	snap := scan(t, open(t, v.Registry))
	if got := problemPaths(snap); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, p := range snap.Problems {
		if !errors.Is(p.Err, mooring.ErrInvalid) {
			t.Errorf("%s: got %v, want one that wraps ErrInvalid", p.Path, p.Err)
		}
	}
	if len(snap.Repositories) != 2 {
		t.Fatalf("got %d repositories, want 2", len(snap.Repositories))
	}
	intact(t, snap.Repositories[1], v.safe)
}

// The tree ends where names become longer than a registry takes: neither a deep tree nor a loop of directories makes a walk without end.
func TestScanEndsInADeepTree(t *testing.T) {
	r := layouttest.New(t)
	deep := strings.Repeat("a/", 127) + "a" // 255 bytes
	r.Image(deep, "1", []byte("layer"))
	must(t, os.MkdirAll(v2(r, "repositories/"+strings.Repeat("b/", 300)+"_layers"), 0o755))
	snap := scan(t, open(t, r))
	if len(snap.Repositories) != 1 || snap.Repositories[0].Name != deep || len(snap.Repositories[0].Tags) != 1 {
		t.Errorf("got %d repositories, want the one whose name is 255 bytes long", len(snap.Repositories))
	}
	if len(snap.Problems) != 1 || !errors.Is(snap.Problems[0].Err, mooring.ErrInvalid) {
		t.Errorf("got problems %v, want one: a name that is too long", snap.Problems)
	}
}

// A symbolic link leads out of the storage, or round in it: what is behind it is not the registry's.
func TestScanFollowsNoSymbolicLink(t *testing.T) {
	elsewhere := layouttest.New(t)
	elsewhere.Image("app", "1", []byte("layer"))
	for _, below := range []string{
		"repositories/app", "repositories/app/_layers", "repositories/app/_layers/sha256", "repositories/app/_manifests",
		"repositories/app/_manifests/tags", "repositories/app/_manifests/tags/1", "repositories/app/_manifests/tags/1/current",
		"repositories/app/_manifests/revisions/sha256", "blobs/sha256", "blobs", "repositories",
	} {
		r := layouttest.New(t)
		r.Image("app", "1", []byte("layer"))
		must(t, os.RemoveAll(v2(r, below)))
		must(t, os.Symlink(v2(elsewhere, below), v2(r, below)))
		snap := scan(t, open(t, r))
		told := len(snap.Problems)
		for _, repository := range snap.Repositories {
			for _, tag := range repository.Tags {
				if tag.Current.Problem != "" {
					told++
				}
			}
		}
		if told != 1 {
			t.Errorf("%s: got %d complaints (%v), want 1", below, told, snap.Problems)
		}
	}
}

// The volume may have to be unmounted: a walk is over when its context is.
func TestScanEndsWithItsContext(t *testing.T) {
	v := newVictim(t)
	ctx, cancel := canceled(t)
	defer cancel()
	if snap, err := open(t, v.Registry).Scan(ctx, 0); !errors.Is(err, errEnough) {
		t.Errorf("got %v and %v, want the context's cause", snap, err)
	}
}
