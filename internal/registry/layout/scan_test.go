package layout_test

import (
	"context"
	"errors"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

func open(tb testing.TB, r *layouttest.Registry) *layout.Storage {
	tb.Helper()
	s, err := layout.Open(r.Dir)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func scan(tb testing.TB, s *layout.Storage) *layout.Snapshot {
	tb.Helper()
	snap, err := s.Scan(tb.Context(), 0)
	if err != nil {
		tb.Fatal(err)
	}
	return snap
}

// A directory without a registry is not an empty registry: nothing of it may pass for verified.
func TestOpenRefusesADirectoryWithoutARegistry(t *testing.T) {
	if _, err := layout.Open(t.TempDir()); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("got %v, want one that wraps ErrNotFound", err)
	}
}

// Everything that was pushed is found, and nothing else, with no complaint.
func TestScanFindsAllThatWasPushed(t *testing.T) {
	r := layouttest.New(t)
	img := r.Image("library/app", "1.0", []byte("one"), []byte("two"))
	r.Index("library/app", "latest", img.Descriptor)
	r.Referrer("library/app", img.Descriptor, "application/vnd.example.signature", []byte("signed"))
	r.Schema1("old", "v0", []byte("three"))
	r.Upload("library/app", []byte("half"))
	many := r.Fill(layouttest.Scale{Repositories: 7, Images: 40, Layers: 3, LayerSize: 100})
	snap := scan(t, open(t, r))
	if len(snap.Problems) != 0 {
		t.Errorf("got problems %v, want none", snap.Problems)
	}
	if got, want := len(snap.Repositories), 2+7; got != want {
		t.Errorf("got %d repositories, want %d", got, want)
	}
	if got, want := len(snap.Blobs), 4+1+3+2+40*5; got != want {
		t.Errorf("got %d blobs, want %d", got, want)
	}
	for _, img := range many {
		for _, d := range append(img.Layers, img.Config, img.Descriptor) {
			if got := snap.Blobs[d.Digest]; got.Size != d.Size || got.Inode == 0 || got.Modified.IsZero() || got.Changed.IsZero() {
				t.Errorf("got %+v, want one of %d bytes with its times", got, d.Size)
			}
		}
	}
	app := snap.Repositories[0]
	if app.Name != "library/app" || len(app.Tags) != 2 || len(app.Revisions) != 3 || len(app.Layers) != 5 {
		t.Errorf("got %+v, want library/app with 2 tags, 3 revisions and 5 layers", app)
	}
	if tag := app.Tags[0]; tag.Name != "1.0" || tag.Current.Target != img.Digest || tag.Current.Problem != "" || len(tag.Index) != 1 || tag.Index[0].Target != img.Digest {
		t.Errorf("got %+v, want 1.0 at %s", tag, img.Digest)
	}
}

var errEnough = errors.New("enough")

// canceled returns a context that has ended.
func canceled(t *testing.T) (context.Context, func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	return ctx, func() { cancel(nil) }
}
