package layout_test

import (
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// A registry before 3.1 truncates a link in place and writes it anew. A power cut between the two leaves no bytes; one after ext4 has made the length durable, and not
// yet the content, leaves as many zeros. Neither says anything about what the link said, unlike a link that says something wrong.
func TestLinkThatAPowerCutTookTheContentOfIsEmpty(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"no bytes":       {"", layout.LinkEmpty},
		"zeros":          {strings.Repeat("\x00", registry.LinkLen), layout.LinkEmpty},
		"one zero":       {"\x00", layout.LinkEmpty},
		"half a digest":  {"sha256:0123", layout.LinkInvalid},
		"zeros, then it": {"\x00\x00sha256:0123", layout.LinkInvalid},
		"a line break":   {"\n", layout.LinkInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := layouttest.New(t)
			img := r.Image("a", "b", []byte("one"))
			r.Overwrite(r.TagLink("a", "b"), tt.content)
			r.Overwrite(r.RevisionLink("a", img.Digest), tt.content)
			repository := scan(t, open(t, r)).Repositories[0]
			for what, l := range map[string]layout.Link{"tag": repository.Tags[0].Current, "revision": repository.Revisions[0]} {
				if l.Problem != tt.want || l.Target != "" {
					t.Errorf("%s: problem %q, target %q; want %q and none", what, l.Problem, l.Target, tt.want)
				}
			}
		})
	}
}
