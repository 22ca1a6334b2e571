package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// newRegistry serves the repository shop/web: a manifest as its tag 1.0, and the blobs as they are given, whatever they are called.
func newRegistry(t *testing.T, manifest string, blobs map[string]string) registry {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest, isBlob := strings.CutPrefix(r.URL.Path, "/v2/shop/web/blobs/")
		text, found := blobs[digest]
		switch {
		case r.URL.Path == "/v2/shop/web/manifests/1.0":
			_, _ = w.Write([]byte(manifest))
		case isBlob && found && r.Method == http.MethodGet:
			_, _ = w.Write([]byte(text))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return registry{address: strings.TrimPrefix(server.URL, "http://")}
}

// A registry that gives back other bytes than were pushed, or fewer, or none, must be found out.
func TestRehashBelievesOnlyTheBytes(t *testing.T) {
	whole := "layer"
	digest := "sha256:" + hexSum([]byte(whole))
	for name, c := range map[string]struct {
		served string
		size   int64
		want   error
	}{
		"whole":      {whole, 5, nil},
		"torn":       {"laye", 5, errUnexpected},
		"zeroed":     {"\x00\x00\x00\x00\x00", 5, errUnexpected},
		"wrong size": {whole, 6, errUnexpected},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t, "", map[string]string{digest: c.served})
			if err := r.rehash(t.Context(), "shop/web", blob{Digest: digest, Size: c.size}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		r := newRegistry(t, "", nil)
		if err := r.rehash(t.Context(), "shop/web", blob{Digest: digest, Size: 5}); !errors.Is(err, errUnexpected) {
			t.Errorf("got %v, want %v", err, errUnexpected)
		}
	})
}

func TestManifestIsCalledByItsOwnBytes(t *testing.T) {
	text := `{"config":{"digest":"sha256:c","size":1},"layers":[{"digest":"sha256:l","size":2}]}`
	got, err := newRegistry(t, text, nil).manifest(t.Context(), "shop/web", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if want := "sha256:" + hexSum([]byte(text)); got.Digest != want {
		t.Errorf("digest %s, want %s", got.Digest, want)
	}
	if want := "[{sha256:c 1} {sha256:l 2}]"; fmt.Sprint(got.blobs()) != want {
		t.Errorf("blobs %v, want %s", got.blobs(), want)
	}
}

// An answer of 200 that names no layers proves nothing, though there is nothing in it that is wrong.
func TestManifestWithoutLayersIsRefused(t *testing.T) {
	for _, text := range []string{`{}`, `{"manifests":[]}`, `{"config":{"digest":"sha256:c"},"layers":[]}`, `no JSON`} {
		if got, err := newRegistry(t, text, nil).manifest(t.Context(), "shop/web", "1.0"); err == nil {
			t.Errorf("manifest %q: got %v, want an error", text, got)
		}
	}
}

// A gap, a torn line or one that is there twice is a lost or forged acknowledgement.
func TestJobLogMustHaveEveryLineOnceAndWhole(t *testing.T) {
	line := func(n int) string { return strconv.Itoa(n) + " job done" }
	for name, c := range map[string]struct {
		lines []string
		want  error
	}{
		"whole": {[]string{line(1), line(2), line(3)}, nil},
		"gap":   {[]string{line(1), line(3)}, errUnexpected},
		"twice": {[]string{line(1), line(1)}, errUnexpected},
		"torn":  {[]string{line(1), "2 jo"}, errUnexpected},
		"empty": {[]string{""}, errUnexpected},
	} {
		t.Run(name, func(t *testing.T) {
			if err := inOrder(c.lines); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// When the time is over, the error says what was waited for and why it was not so, not only that time passed.
func TestWaitSaysWhyTheLastTryFailed(t *testing.T) {
	err := play.Wait(t.Context(), "the moon", 1, func(context.Context) error { return errUnexpected })
	if err == nil || !strings.Contains(err.Error(), "the moon") {
		t.Errorf("got %v, want an error that names the moon", err)
	}
}
