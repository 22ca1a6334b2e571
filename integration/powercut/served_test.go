package powercut_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/internal/registry"
)

// The experiment reads files. That a registry makes of repaired files what it made of them before is what a registry says.
func TestRegistryServesWhatWasRepaired(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var records []push.Record
	serve(t, dir, func(ctx context.Context, r push.Registry) {
		note := func(record push.Record) error {
			records = append(records, record)
			return nil
		}
		if err := r.Run(ctx, push.Load{Pushers: 2, Images: 6, Tags: 2, Layers: 2, LayerSize: 2000, Seed: 1}, note, func(err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	})
	emptied := empty(t, dir)
	serve(t, dir, func(ctx context.Context, r push.Registry) {
		v, err := r.Check(ctx, records)
		if err != nil {
			t.Fatal(err)
		}
		if v.Images+v.Tags+v.Blobs > 0 {
			t.Errorf("with %d empty links the registry serves %d images, %d tags and %d blobs; want none", emptied, v.Images, v.Tags, v.Blobs)
		}
	})
	repaired, err := guards(t)().Verify(t.Context(), dir)
	if err != nil || repaired.Links != emptied || len(repaired.Findings) > 0 {
		t.Errorf("%d links made anew, findings %q, error %v; want %d and none", repaired.Links, repaired.Findings, err, emptied)
	}
	serve(t, dir, func(ctx context.Context, r push.Registry) {
		v, err := r.Check(ctx, records)
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Misses) > 0 || v.Images != 12 || v.Tags != 4 || v.Blobs != 36 {
			t.Errorf("verdict %+v; want 12 images, 4 tags and 36 blobs", v)
		}
	})
}

// A registry that finds an image's manifest of no bytes takes it for the one that is pushed, and acknowledges an image that cannot be read: so nothing may be left of a push that was cut off.
func TestPushThatWasCutOffCanBeMadeAgain(t *testing.T) {
	needRoot(t)
	for _, verified := range []bool{false, true} {
		dir := t.TempDir()
		var pushed []push.Record
		again := func(ctx context.Context, r push.Registry) {
			pushed = nil
			note := func(record push.Record) error {
				pushed = append(pushed, record)
				return nil
			}
			if err := r.Push(ctx, push.Image{Repository: "library/app", Tag: "v1", Layers: 1, LayerSize: 1000}, note); err != nil {
				t.Fatal(err)
			}
		}
		serve(t, dir, again)
		// The power fails while the manifest is written: neither link nor tag are there yet.
		hex := strings.TrimPrefix(pushed[0].Manifest.Digest, "sha256:")
		root := filepath.Join(dir, "docker/registry/v2")
		if err := os.Truncate(filepath.Join(root, "blobs/sha256", hex[:2], hex, "data"), 0); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(root, "repositories/library/app/_manifests")); err != nil {
			t.Fatal(err)
		}
		if verified {
			if _, err := guards(t)().Verify(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}
		serve(t, dir, again) // it is acknowledged, one way or the other
		serve(t, dir, func(ctx context.Context, r push.Registry) {
			v, err := r.Check(ctx, pushed)
			if err != nil {
				t.Fatal(err)
			}
			if there := len(v.Misses) == 0; there != verified {
				t.Errorf("verified %t: misses %v", verified, v.Misses)
			}
		})
	}
}

// serve runs a registry on the directory as long as do runs.
func serve(t *testing.T, dir string, do func(context.Context, push.Registry)) {
	t.Helper()
	address, stop, err := powercut.Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	do(t.Context(), push.New(address, time.Minute))
}

// empty takes the content of every link but those of tags' indexes, which are written before a tag's current link: half of them have no bytes then, half have zeros.
func empty(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "link" || strings.Contains(path, "/index/") {
			return err
		}
		n++
		return os.WriteFile(path, make([]byte, n%2*registry.LinkLen), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
