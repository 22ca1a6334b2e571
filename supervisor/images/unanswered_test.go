package images_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/supervisor/images"
)

// The manifest is refreshed while a push is under way: it may have seen the tag in the registry's memory, and a power cut took it before anybody was told. That is no damage, but it is said; a
// tag that had been there for longer was acknowledged.
func TestTagThatWasSeenBeforeItsPushWasAnsweredIsUnfinished(t *testing.T) {
	for name, tt := range map[string]struct {
		seen time.Duration // how long before the refresh the tag was written
		lost func(s stock) error
		want string
	}{
		"it is another again, seen at once": {
			time.Second, func(s stock) error {
				return os.WriteFile(s.TagLink("library/app", "latest"), []byte(s.former.Digest), 0o644)
			}, "tag-moved library/app:latest unfinished",
		},
		"it is another again, seen long since": {
			time.Minute, func(s stock) error {
				return os.WriteFile(s.TagLink("library/app", "latest"), []byte(s.former.Digest), 0o644)
			}, "tag-moved library/app:latest",
		},
		"it has no link, seen at once": {
			time.Second, func(s stock) error { return os.Remove(s.TagLink("library/app", "latest")) }, "tag-link library/app:latest unfinished",
		},
		"it has no link, seen long since": {
			time.Minute, func(s stock) error { return os.Remove(s.TagLink("library/app", "latest")) }, "tag-link library/app:latest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t)
			written := time.Now().Add(-tt.seen)
			if err := os.Chtimes(s.TagLink("library/app", "latest"), written, written); err != nil {
				t.Fatal(err)
			}
			p := newProver(t, images.Setup{Storage: s.Dir, Records: t.TempDir()})
			refresh(t, p)
			if err := tt.lost(s); err != nil {
				t.Fatal(err)
			}
			if got := said(verify(t, p)); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
