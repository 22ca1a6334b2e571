package images_test

import (
	"os"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// What is left of an image's manifest whose push was cut off would be taken for the whole when the push is made again.
func TestWhatACutOffPushLeavesOfABlobIsMovedAside(t *testing.T) {
	for name, recorded := range map[string]bool{"with a manifest": true, "without": false} {
		s := newStock(t)
		p := newProver(t, images.Setup{Storage: s.Dir})
		if recorded {
			p = newProver(t, images.Setup{Storage: s.Dir, Records: t.TempDir()})
			refresh(t, p)
		}
		var left []registry.Digest
		for _, content := range []string{"", "\x00\x00\x00", "half"} {
			d := s.Blob([]byte("whole, of which is left: " + content)).Digest
			s.Overwrite(s.Data(d), content)
			left = append(left, d)
		}
		v := verify(t, p)
		if v.Damaged() || v.Intact != v.Images {
			t.Errorf("%s: findings %v, %d of %d images intact; want none and all", name, v.Findings, v.Intact, v.Images)
		}
		for _, d := range left {
			if _, err := os.Stat(s.Data(d)); !os.IsNotExist(err) {
				t.Errorf("%s: stat of %s: %v; want it gone", name, d, err)
			}
			if !strings.Contains(strings.Join(v.Notes, "\n"), string(d)) {
				t.Errorf("%s: notes %q; want one on %s", name, v.Notes, d)
			}
		}
	}
}

// G28: What an image needs is damage, and stays where it is until somebody asks for a repair; so does all that is only looked at.
func TestOnlyWhatACutOffPushLeavesIsMovedAside(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir, Records: t.TempDir()})
	refresh(t, p)
	needed := s.app.Layers[0].Digest
	s.Truncate(s.Data(needed), 0)
	stray := s.Blob([]byte("stray")).Digest
	s.Truncate(s.Data(stray), 0)
	if v := verify(t, newProver(t, images.Setup{Storage: s.Dir, LookOnly: true})); !v.Damaged() {
		t.Error("no findings; want some")
	}
	if _, err := os.Stat(s.Data(stray)); err != nil {
		t.Errorf("looking has moved a blob aside: %v", err)
	}
	verify(t, p)
	if _, err := os.Stat(s.Data(needed)); err != nil {
		t.Errorf("what an image needs is not where it was: %v", err)
	}
	if _, err := os.Stat(s.Data(stray)); !os.IsNotExist(err) {
		t.Errorf("stat of the stray one: %v; want it gone", err)
	}
}
