package images_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// In a registry of 10,000 images the three that are wrong are found, and nothing else; and a push is taken in without looking at the others.
func TestTenThousandImages(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 30,000 blobs")
	}
	s := layouttest.New(t)
	all := s.Fill(layouttest.Scale{Repositories: 100, Images: 10_000, Layers: 1, LayerSize: 100, Seed: 7})
	p := newProver(t, images.Setup{Storage: s.Dir, Commit: time.Nanosecond})
	began := time.Now()
	refresh(t, p)
	took := time.Since(began)
	if c := p.Last().Manifest; c.Images != 10_000 || c.Tags != 10_000 || c.Blobs != 30_000 {
		t.Fatalf("got %+v", c)
	}
	began = time.Now()
	if v := verify(t, p); v.Damaged() || v.Intact != 10_000 || v.Hashed != 10_000 {
		t.Fatalf("got %d of %d, hashed %d: %q", v.Intact, v.Images, v.Hashed, said(v))
	}
	t.Logf("the first refresh took %s, tiers 1 and 2 took %s", took, time.Since(began))

	s.Image("project-0/service-0", "new", []byte("new"))
	began = time.Now()
	if v := refresh(t, p); v.Images > 200 || p.Last().Manifest.Images != 10_001 {
		t.Errorf("looked at %d images", v.Images)
	}
	t.Logf("a refresh after a push took %s", time.Since(began))

	a, b, c := all[17], all[5000], all[9999]
	s.Truncate(s.Data(a.Layers[0].Digest), 3)
	s.Remove(s.Data(b.Digest))
	s.Remove(filepath.Dir(s.LayerLink(c.Repository, c.Config.Digest)))
	want := []string{
		"blob-size " + a.Repository + ":" + a.Tag, "image-missing " + b.Repository + ":" + b.Tag, "layer-link " + c.Repository + ":" + c.Tag,
	}
	v := verify(t, p)
	got := said(v)
	slices.Sort(got)
	if !slices.Equal(got, want) || v.Intact != v.Images-3 {
		t.Errorf("got %q, %d of %d, want %q", got, v.Intact, v.Images, want)
	}
}
