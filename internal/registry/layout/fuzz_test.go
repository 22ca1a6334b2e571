package layout_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// plant makes a tree below dir from lines such as "d path", "f path content" and "l path target". What cannot be made is left out.
func plant(dir, text string) {
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		path, content, _ := strings.Cut(rest, " ")
		if !filepath.IsLocal(path) {
			continue
		}
		path = filepath.Join(dir, path)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		switch kind {
		case "d":
			_ = os.Mkdir(path, 0o755)
		case "f":
			_ = os.WriteFile(path, []byte(content), 0o644)
		case "l":
			_ = os.Symlink(content, path)
		}
	}
}

// Whatever a damaged filesystem shows: a scan ends without an error, what it says of a link agrees with itself, and everything that it found can be asked for.
func FuzzScan(f *testing.F) {
	hex := registry.DigestOf(nil).Hex()
	f.Add("f blobs/sha256/e3/" + hex + "/data\nf repositories/a/_layers/sha256/" + hex + "/link sha256:" + hex)
	f.Add("f repositories/a/b/_manifests/revisions/sha256/" + hex + "/link\nd repositories/a/_manifests/tags/x/current/link")
	f.Add("l repositories/a ..\nl blobs/sha256/e3 ../..\nf repositories/c/_manifests/tags/t/current/link sha256:x")
	f.Add("f repositories/a/_manifests/tags/t/index/sha256/" + hex + "/link/link\nd repositories/_layers/sha256/" + hex)
	f.Fuzz(func(t *testing.T, tree string) {
		r := layouttest.New(t)
		plant(filepath.Join(r.Dir, "docker/registry/v2"), tree)
		synctest.Test(t, func(t *testing.T) {
			s := open(t, r)
			snap, err := s.Scan(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, repository := range snap.Repositories {
				links := append(repository.Layers, repository.Revisions...)
				for _, tag := range repository.Tags {
					links = append(append(links, tag.Current), tag.Index...)
				}
				for _, l := range links {
					consistent(t, l)
				}
			}
			for d, b := range snap.Blobs {
				if d != b.Digest || b.Size < -1 {
					t.Errorf("got %+v for %s", b, d)
				}
			}
			if err := s.Rehash(t.Context(), blobs(snap), layout.Pace{Direct: true}, func(layout.Hashed) {}); err != nil {
				t.Error(err)
			}
		})
	})
}

func consistent(t *testing.T, l layout.Link) {
	t.Helper()
	if _, err := registry.ParseDigest(string(l.Target)); (err != nil) != (l.Target == "") {
		t.Errorf("got target %q", l.Target)
	}
	if valid := l.Target != "" && (l.Name == "" || l.Target == l.Name); valid != (l.Problem == "") || valid && l.Size != int64(registry.LinkLen) {
		t.Errorf("got %+v, want a valid link or a problem", l)
	}
	if !filepath.IsLocal(l.Path) {
		t.Errorf("got path %q", l.Path)
	}
}
