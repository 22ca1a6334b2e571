package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

const digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing

// A text that is not exactly a digest names no content: whoever looked for it would find nothing, or something else.
func TestParseDigestTakesExactlyADigest(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"sha256:" + digits, true},
		{"", false},
		{"sha256:", false},
		{digits, false},
		{"sha256:" + digits[1:], false},
		{"sha256:" + digits + "0", false},
		{"sha256:" + digits + "\n", false},
		{"sha256:" + strings.ToUpper(digits), false},
		{"SHA256:" + digits, false},
		{"sha256:" + digits[:63] + "g", false},
		{"sha512:" + digits + digits, false},
		{"sha256:../../" + digits[6:], false},
	} {
		d, err := registry.ParseDigest(c.text)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%q: got %v, want a digest: %v", c.text, err, c.ok)
		}
		if c.ok && (string(d) != c.text || d.Hex() != digits || d.Short() != "sha256:e3b0c44298fc") {
			t.Errorf("%q: got %q, %q, %q", c.text, d, d.Hex(), d.Short())
		}
	}
}

// What a damaged file contains is shown, but not a megabyte of it.
func TestParseDigestShowsOnlyTheBeginningOfWhatIsNoDigest(t *testing.T) {
	_, err := registry.ParseDigest(strings.Repeat("x", 1<<20))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}

func TestDigestOfIsTheContentsSHA256(t *testing.T) {
	if got, want := registry.DigestOf(nil), registry.Digest("sha256:"+digits); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if d, err := registry.HexDigest(digits); err != nil || d != registry.DigestOf(nil) {
		t.Errorf("got %s and %v", d, err)
	}
	if got := len(registry.DigestOf(nil)); got != registry.LinkLen {
		t.Errorf("got %d bytes, want %d", got, registry.LinkLen)
	}
}

// A digest that was never parsed, such as an empty one, is shown and does not end the program.
func TestADigestThatIsNoneCanBeShown(t *testing.T) {
	for _, d := range []registry.Digest{"", "sha256", "x"} {
		if d.Short() != string(d) || d.Hex() != string(d) {
			t.Errorf("%q: got %q, %q", d, d.Short(), d.Hex())
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + digits)
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := registry.ParseDigest(text)
		if err != nil {
			return
		}
		again, err := registry.HexDigest(d.Hex())
		if err != nil || again != d || string(d) != text || len(text) != registry.LinkLen {
			t.Errorf("%q: got %q, %q and %v", text, d, again, err)
		}
	})
}
