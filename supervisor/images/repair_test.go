package images_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

func isUnavailable(err error) bool { return errors.Is(err, mooring.ErrUnavailable) }

// mirror is another registry with the same content.
func mirror(t *testing.T, s stock) *remotetest.Registry {
	t.Helper()
	r := remotetest.New(t, remotetest.Rules{Scheme: remotetest.Basic, User: "me", Password: "secret"})
	for _, img := range []struct {
		repository string
		d          registry.Descriptor
		layers     []registry.Descriptor
	}{
		{"library/app", s.app.Descriptor, append(s.app.Layers, s.app.Config)},
		{"library/multi", s.part.Descriptor, append(s.part.Layers, s.part.Config)},
		{"library/multi", s.index, nil},
		{"team/other", s.other.Descriptor, append(s.other.Layers, s.other.Config)},
	} {
		read := func(d registry.Digest) []byte {
			content, err := os.ReadFile(s.Data(d))
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
		for _, l := range img.layers {
			r.Blob("backup/"+img.repository, read(l.Digest))
		}
		r.Manifest("backup/"+img.repository, img.d.MediaType, read(img.d.Digest), "latest")
	}
	return r
}

// flushed counts how often caches were flushed.
type flushed int

func (f *flushed) Flush(context.Context) error { *f++; return nil }

// repair verifies the storage, repairs what is found, and verifies it again.
func repair(t *testing.T, s stock, from images.Source, caches images.Caches) ([]images.Outcome, images.Verdict) {
	t.Helper()
	storage, err := layout.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &images.Repair{Storage: storage, From: from, Prefix: "backup/", Caches: caches}
	outcomes, v, err := images.RepairAll(t.Context(), r, pace(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes, v
}

// Everything that was damaged and that can be proved is right again, durably, from another registry; what was damaged is aside, byte for byte; and the caches are flushed.
func TestRepairPutsRightWhatCanBeProved(t *testing.T) {
	s := newStock(t)
	r := mirror(t, s)
	shared := registry.DigestOf([]byte("shared layer"))
	s.Truncate(s.Data(shared), 5)
	s.Remove(s.Data(s.other.Digest))
	s.Flip(s.Data(s.part.Layers[0].Digest), 1)
	s.Truncate(s.Data(s.part.Digest), 0)
	s.Overwrite(s.RevisionLink("library/multi", s.part.Digest), "sha256:")
	s.Remove(s.LayerLink("team/other", shared))
	s.Remove(s.RevisionLink("library/multi", s.app.Digest))
	s.Remove(s.TagLink("library/app", "1.0"))
	s.Overwrite(s.IndexLink("library/app", "latest", s.former.Digest), "sha256:")
	var caches flushed
	outcomes, v := repair(t, s, dial(t, r), &caches)
	if v.Damaged() || v.Intact != v.Images {
		t.Errorf("got %q, %d of %d intact", said(v), v.Intact, v.Images)
	}
	for _, o := range outcomes {
		if !o.Repaired {
			t.Errorf("not repaired: %+v", o)
		}
	}
	if caches == 0 {
		t.Error("the caches were not flushed")
	}
	aside, err := os.ReadFile(filepath.Join(s.Dir, "docker/registry/mooring-aside/blobs/sha256", shared.Hex()[:2], shared.Hex(), "data"))
	if err != nil || string(aside) != "share" {
		t.Errorf("aside lies %q, %v, want what was damaged", aside, err)
	}
}

// G28: What another registry does not have, or has wrong, is not put in place; and what nobody can prove is left to people.
func TestRepairLeavesWhatCannotBeProved(t *testing.T) {
	s := newStock(t)
	r := mirror(t, s)
	own := registry.DigestOf([]byte("others' own"))
	r.Damage(own, []byte("others' 0wn"))
	s.Truncate(s.Data(own), 1)
	s.Remove(s.Data(s.former.Layers[0].Digest)) // the other registry does not have it
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	s.Overwrite(s.TagLink("library/app", "latest"), string(s.former.Digest))
	outcomes, v := repair(t, s, dial(t, r), nil)
	if got, want := said(v), []string{"blob-missing library/app:latest", "blob-missing team/other:v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, o := range outcomes {
		if o.Repaired || o.Text == "" {
			t.Errorf("got %+v, want that it was not repaired, and why", o)
		}
	}
	if got := said(verify(t, p)); !slices.Contains(got, "tag-moved library/app:latest") {
		t.Errorf("got %q", got)
	}
}

// Links need no other registry.
func TestRepairWithoutAnotherRegistryMakesLinks(t *testing.T) {
	s := newStock(t)
	s.Remove(s.LayerLink("team/other", s.other.Layers[0].Digest))
	s.Flip(s.Data(s.other.Layers[1].Digest), 0)
	outcomes, v := repair(t, s, nil, nil)
	if got, want := said(v), []string{"blob-damaged team/other:v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(outcomes) != 2 || !strings.Contains(outcomes[len(outcomes)-1].Text+outcomes[0].Text, "no registry to fetch it from") {
		t.Errorf("got %+v", outcomes)
	}
}

// A damaged blob that no image needs goes aside: else whoever pushes it is told that it is there.
func TestRepairMovesDamageAsideThatNoImageNeeds(t *testing.T) {
	s := newStock(t)
	d := s.Blob([]byte("left over"))
	s.Truncate(s.Data(d.Digest), 0)
	_, v := repair(t, s, nil, nil)
	if v.Damaged() {
		t.Errorf("got %q", said(v))
	}
	if _, err := os.Stat(s.Data(d.Digest)); err == nil {
		t.Error("it is still there")
	}
}
