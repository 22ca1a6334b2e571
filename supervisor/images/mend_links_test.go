package images_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// What a power cut leaves of a link that is written in place.
var emptied = []string{"", strings.Repeat("\x00", registry.LinkLen)} //nolint:gochecknoglobals // a constant table

func says(t *testing.T, link string, want string) {
	t.Helper()
	got, err := os.ReadFile(link)
	if err != nil || string(got) != want {
		t.Errorf("%s says %q (%v); want %q", link, got, err, want)
	}
}

// A second push of what is there, unchanged or under one more tag, writes its links once more: a power cut in that moment empties links that were acknowledged long
// before. Without them the registry answers with an error for an image of which every byte is there.
func TestEmptyLinkIsMadeAnewFromItsName(t *testing.T) {
	for _, content := range emptied {
		r := layouttest.New(t)
		img := r.Image("library/app", "v1", []byte("one"), []byte("two"))
		links := map[string]registry.Digest{
			r.LayerLink("library/app", img.Layers[0].Digest): img.Layers[0].Digest,
			r.LayerLink("library/app", img.Config.Digest):    img.Config.Digest,
			r.RevisionLink("library/app", img.Digest):        img.Digest,
			r.IndexLink("library/app", "v1", img.Digest):     img.Digest,
		}
		for link := range links {
			r.Overwrite(link, content)
		}
		v := verify(t, newProver(t, images.Setup{Storage: r.Dir}))
		if v.Damaged() || v.Intact != 1 || len(v.Notes) < len(links) {
			t.Errorf("%d zeros: findings %v, %d images intact, notes %q; want none, one, and a note for each of %d links", len(content), v.Findings, v.Intact, v.Notes, len(links))
		}
		for link, want := range links {
			says(t, link, string(want))
		}
	}
}

// The push that was under way may have emptied the tag's link, and another one those to the same image: the tag must not fall back to an image of before.
func TestTagIsMadeAnewFromAnImageWhoseLinksWereEmptiedToo(t *testing.T) {
	for _, content := range emptied {
		r := layouttest.New(t)
		older := r.Image("library/app", "latest", []byte("one"))
		newer := r.Image("library/app", "latest", []byte("two"))
		for _, link := range []string{
			r.TagLink("library/app", "latest"), r.RevisionLink("library/app", newer.Digest), r.IndexLink("library/app", "latest", newer.Digest),
		} {
			r.Overwrite(link, content)
		}
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(r.IndexLink("library/app", "latest", older.Digest), hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, newProver(t, images.Setup{Storage: r.Dir})); v.Damaged() {
			t.Errorf("findings %v; want none", v.Findings)
		}
		says(t, r.TagLink("library/app", "latest"), string(newer.Digest))
	}
}

// A link to content that is wrong makes the registry say that it has it: nobody would push it again.
func TestEmptyLinkToWhatIsNotRightStaysAFinding(t *testing.T) {
	for name, damage := range map[string]func(r *layouttest.Registry, data string){
		"gone":    func(r *layouttest.Registry, data string) { r.Remove(data) },
		"flipped": func(r *layouttest.Registry, data string) { r.Flip(data, 1) },
		"emptied": func(r *layouttest.Registry, data string) { r.Truncate(data, 0) },
	} {
		r := layouttest.New(t)
		img := r.Image("library/app", "v1", []byte("one"), []byte("two"))
		layer := img.Layers[0].Digest
		damage(r, r.Data(layer))
		r.Overwrite(r.LayerLink("library/app", layer), "")
		if v := verify(t, newProver(t, images.Setup{Storage: r.Dir})); !v.Damaged() {
			t.Errorf("%s: no findings; want some", name)
		}
		says(t, r.LayerLink("library/app", layer), "")
	}
}

// G28: Only what a power cut leaves is mended: a link that says something else was not left by one, and one that is gone was perhaps deleted.
func TestLinkThatIsWrongOrGoneIsLeftAsItIs(t *testing.T) {
	r := layouttest.New(t)
	img := r.Image("library/app", "v1", []byte("one"), []byte("two"))
	wrong := string(img.Digest)
	r.Overwrite(r.LayerLink("library/app", img.Layers[0].Digest), wrong)
	r.Overwrite(r.LayerLink("library/app", img.Config.Digest), "sha256:")
	gone := r.LayerLink("library/app", img.Layers[1].Digest)
	r.Remove(gone)
	if v := verify(t, newProver(t, images.Setup{Storage: r.Dir})); len(v.Findings) != 3 {
		t.Errorf("findings %v; want three", v.Findings)
	}
	says(t, r.LayerLink("library/app", img.Layers[0].Digest), wrong)
	says(t, r.LayerLink("library/app", img.Config.Digest), "sha256:")
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("stat of what was gone: %v; want no such file", err)
	}
}

func TestNothingIsMendedByLooking(t *testing.T) {
	r := layouttest.New(t)
	img := r.Image("library/app", "v1", []byte("one"))
	r.Overwrite(r.RevisionLink("library/app", img.Digest), "")
	if v := verify(t, newProver(t, images.Setup{Storage: r.Dir, LookOnly: true})); !v.Damaged() {
		t.Error("no findings; want the empty link")
	}
	says(t, r.RevisionLink("library/app", img.Digest), "")
}
