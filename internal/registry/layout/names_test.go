package layout_test

import (
	"regexp"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// FuzzNames compares what is taken for a name with the expressions that distribution has for it (reference/regexp.go): what a registry accepted must not be called strange.
func FuzzNames(f *testing.F) {
	component := regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
	tag := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	for _, s := range []string{"", "a", "9", "a-b", "a---b", "a_b", "a__b", "a___b", "a.b", "a..b", "a.-b", "-a", "a-", "_a", "A", "Latest", "v1.0_x-y", ".x", "a/b", "é", "a\n", "a\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := layout.IsComponent(s), component.MatchString(s); got != want {
			t.Errorf("%q as a part of a repository's name: got %v, want %v", s, got, want)
		}
		if got, want := layout.IsTag(s), tag.MatchString(s); got != want {
			t.Errorf("%q as a tag: got %v, want %v", s, got, want)
		}
	})
}

// FuzzEntries: whatever stands in the buffer of getdents64(2), its parsing ends.
func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x04name\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04name\x00"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		for _, name := range layout.EntryNames(buf) {
			if len(name) > len(buf) || name == "." || name == ".." {
				t.Errorf("got %q", name)
			}
		}
	})
}
