package remote_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// A registry sends what its storage has. Only the hash tells that it is not what was pushed.
func TestAnImageManifestOfOtherBytesIsCorrupt(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	r := open(t, reg)
	for name, damaged := range map[string][]byte{
		"no JSON":       []byte("\x00\x00\x00\x00"),
		"another image": []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`),
		"cut":           []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci`),
	} {
		image := reg.Image("a", strings.ReplaceAll(name, " ", "-"))
		reg.Damage(image.Digest, damaged)
		_, err := r.ImageManifest(t.Context(), "a", image.Digest)
		wantError(t, err, mooring.ErrCorrupt, string(image.Digest), fmt.Sprintf("got %d bytes with the digest %s", len(damaged), registry.DigestOf(damaged)))
	}
}

// What has the right hash is what was pushed, even if nobody can read it: that is for whoever parses it to say.
func TestAnImageManifestOfTheRightBytesIsReturnedWhateverItIs(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	r := open(t, reg)
	for _, c := range []struct{ mediaType, content string }{
		{"application/vnd.example.unheard-of", "{}"}, {registry.OCIManifest, "no JSON at all"}, {registry.OCIManifest, `{"schemaVersion":9}`}, {"", `{"layers":3}`},
	} {
		d := reg.Manifest("a", c.mediaType, []byte(c.content), "1")
		got, err := r.ImageManifest(t.Context(), "a", d.Digest)
		if err != nil || string(got) != c.content {
			t.Errorf("%s %q: got %q, %v", c.mediaType, c.content, got, err)
		}
		if _, err := r.Resolve(t.Context(), "a", "1"); err != nil {
			t.Errorf("resolve %s: %v", c.mediaType, err)
		}
	}
}

// No manifest is larger than 4 MiB: more is not read.
func TestAnImageManifestIsBounded(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	r := open(t, reg)
	d := reg.Manifest("a", registry.OCIManifest, bytes.Repeat([]byte{' '}, registry.MaxManifest+1), "1")
	_, err := r.ImageManifest(t.Context(), "a", d.Digest)
	wantError(t, err, mooring.ErrCorrupt, "more than 4194304 bytes")
	exact := reg.Manifest("a", registry.OCIManifest, bytes.Repeat([]byte{' '}, registry.MaxManifest), "1")
	if _, err := r.ImageManifest(t.Context(), "a", exact.Digest); err != nil {
		t.Errorf("the largest that is allowed: %v", err)
	}
}

// A read that is cut is asked for again, and what can be read again is no damage.
func TestAnImageManifestThatIsCutIsAskedForAgain(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	image := reg.Image("a", "1")
	reg.Rules.Meddle = func(q *http.Request, n int) http.Handler {
		if strings.Contains(q.URL.Path, "/manifests/") && n < 2 {
			return remotetest.CutAfter(1000, []byte(`{"schema`))
		}
		return nil
	}
	if _, err := open(t, reg).ImageManifest(t.Context(), "a", image.Digest); err != nil {
		t.Error(err)
	}
}

// Old storage has manifests of schema 1, whose digest is that of the text without its signatures.
func TestASignedManifestOfSchema1IsHashedWithoutItsSignatures(t *testing.T) {
	payload := `{"schemaVersion":1,"name":"a","tag":"1","architecture":"amd64","fsLayers":[{"blobSum":"` + string(registry.DigestOf(nil)) + `"}],"history":[]`
	tail := "\n}"
	protected := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"formatLength":%d,"formatTail":%q}`, len(payload), base64.RawURLEncoding.EncodeToString([]byte(tail))))
	signed := payload + `,"signatures":[{"header":{"alg":"ES256"},"signature":"c2ln","protected":"` + protected + `"}]}`
	d := registry.DigestOf([]byte(payload + tail))
	reg := remotetest.New(t, remotetest.Rules{})
	reg.ManifestAs("a", d, registry.DockerManifest1, []byte(signed), "1")
	r := open(t, reg)
	got, err := r.ImageManifest(t.Context(), "a", d)
	if err != nil || string(got) != signed {
		t.Errorf("got %q, %v", got, err)
	}
	reg.Damage(d, []byte(strings.Replace(signed, "amd64", "arm64", 1)))
	_, err = r.ImageManifest(t.Context(), "a", d)
	wantError(t, err, mooring.ErrCorrupt)
}

func TestReferrersComeFromTheAPIOrTheFallbackTag(t *testing.T) {
	for _, api := range []bool{true, false} {
		reg := remotetest.New(t, remotetest.Rules{Referrers: api})
		image := reg.Image("a", "1")
		signature := reg.Refer("a", image, []byte("signature"))
		got, err := open(t, reg).Referrers(t.Context(), "a", image.Digest)
		if err != nil || len(got) != 1 || got[0].Digest != signature.Digest || got[0].Size != signature.Size {
			t.Errorf("API %v: got %v, %v, want %v", api, got, err, signature)
		}
		got, err = open(t, reg).Referrers(t.Context(), "a", signature.Digest)
		if err != nil || len(got) != 0 {
			t.Errorf("API %v: got %v, %v, want none", api, got, err)
		}
	}
}

// A referrers API that fails once is still one: taking it for missing would let every signature after it go unverified.
func TestAReferrersAPIThatFailsIsNotTakenForMissing(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Referrers: true})
	image := reg.Image("a", "1")
	reg.Refer("a", image, []byte("signature"))
	broken := true
	reg.Rules.Meddle = func(q *http.Request, _ int) http.Handler {
		if broken && strings.Contains(q.URL.Path, "/referrers/") {
			return remotetest.Status(http.StatusBadGateway, "")
		}
		return nil
	}
	r := open(t, reg)
	_, err := r.Referrers(t.Context(), "a", image.Digest)
	wantError(t, err, mooring.ErrUnavailable, "502")
	broken = false
	got, err := r.Referrers(t.Context(), "a", image.Digest)
	if err != nil || len(got) != 1 {
		t.Errorf("after it was mended: got %v, %v, want the signature", got, err)
	}
}
