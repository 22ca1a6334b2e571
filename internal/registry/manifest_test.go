package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// descriptor returns one as it stands in a manifest.
func descriptor(content string, more ...string) string {
	return fmt.Sprintf(`{"mediaType": "m", "digest": %q, "size": %d%s}`, registry.DigestOf([]byte(content)), len(content), strings.Join(more, ""))
}

// Everything that an image needs is known from its manifest, whatever wrote it: what is not found there is never looked for.
func TestParseManifestFindsEverythingThatIsReferredTo(t *testing.T) {
	for _, c := range []struct {
		name, content, mediaType string
		want                     []string // contents of what must be in the registry
	}{
		{"OCI", `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": ` + descriptor("c") + `, "layers": [` + descriptor("l") + `, ` + descriptor("m") + `]}`, registry.OCIManifest, []string{"c", "l", "m"}},
		{"OCI that does not name its type", `{"schemaVersion": 2, "config": ` + descriptor("c") + `, "layers": []}`, registry.OCIManifest, []string{"c"}},
		{"Docker", `{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": ` + descriptor("c") + `, "layers": [` + descriptor("l") + `]}`, registry.DockerManifest, []string{"c", "l"}},
		{"foreign layer", `{"schemaVersion": 2, "config": ` + descriptor("c") + `, "layers": [` + descriptor("f", `, "urls": ["https://example.com/f"]`) + `]}`, registry.OCIManifest, []string{"c"}},
		{"index", `{"schemaVersion": 2, "manifests": [` + descriptor("a") + `, ` + descriptor("b") + `]}`, registry.OCIIndex, []string{"a", "b"}},
		{"empty index", `{"schemaVersion": 2, "manifests": []}`, registry.OCIIndex, nil},
		{"Docker's list", `{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "manifests": [` + descriptor("a") + `]}`, registry.DockerList, []string{"a"}},
		{"referrer", `{"schemaVersion": 2, "artifactType": "x/y", "config": ` + descriptor("{}") + `, "layers": [` + descriptor("s") + `], "subject": ` + descriptor("gone") + `}`, registry.OCIManifest, []string{"{}", "s"}},
		{"OCI's former artifact", `{"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": [` + descriptor("b") + `]}`, "application/vnd.oci.artifact.manifest.v1+json", []string{"b"}},
		{"artifact without blobs", `{"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": [], "subject": ` + descriptor("s") + `}`, "application/vnd.oci.artifact.manifest.v1+json", nil},
		{"schema 1", `{"schemaVersion": 1, "fsLayers": [{"blobSum": "` + string(registry.DigestOf([]byte("l"))) + `"}], "history": [{"v1Compatibility": "{}"}]}`, registry.DockerManifest1, []string{"l"}},
	} {
		m, err := registry.ParseManifest([]byte(c.content))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got, want []registry.Digest
		for _, d := range m.References() {
			got = append(got, d.Digest)
		}
		for _, content := range c.want {
			want = append(want, registry.DigestOf([]byte(content)))
		}
		if m.MediaType != c.mediaType || !slices.Equal(got, want) {
			t.Errorf("%s: got %s and %v, want %s and %v", c.name, m.MediaType, got, c.mediaType, want)
		}
	}
}

// Schema 1 gives no sizes: nothing may be found wrong because of that.
func TestASchema1LayersSizeIsUnknown(t *testing.T) {
	m, err := registry.ParseManifest([]byte(`{"schemaVersion": 1, "fsLayers": [{"blobSum": "` + string(registry.DigestOf(nil)) + `"}]}`))
	if err != nil || len(m.Blobs) != 1 || m.Blobs[0].Size != registry.UnknownSize {
		t.Errorf("got %+v and %v", m, err)
	}
}

// Whatever a crash left of a manifest is corrupt, and is said to be.
func TestParseManifestRefusesWhatIsNone(t *testing.T) {
	whole := `{"schemaVersion": 2, "config": ` + descriptor("c") + `, "layers": [` + descriptor("l") + `]}`
	for _, content := range []string{
		"", "null", "[]", "{}", `"sha256"`, "\x00\x00\x00\x00",
		whole[:len(whole)/2],
		whole + "x",
		`{"schemaVersion": 2}`,
		`{"schemaVersion": 2, "config": {"digest": "", "size": 1}}`,
		`{"schemaVersion": 2, "config": {"digest": "sha256:../../etc/passwd", "size": 1}}`,
		`{"schemaVersion": 2, "config": {"digest": "` + string(registry.DigestOf(nil)) + `", "size": -2}}`,
		`{"schemaVersion": 2, "config": {"digest": "` + string(registry.DigestOf(nil)) + `", "size": 99999999999999999999}}`,
		`{"schemaVersion": 2, "layers": [null], "config": ` + descriptor("c") + `}`,
		`{"schemaVersion": 2, "manifests": [{}]}`,
		`{"schemaVersion": 2, "config": ` + descriptor("c") + `, "subject": {"digest": "x"}}`,
		`{"schemaVersion": 2, "config": ` + descriptor("c") + `, "layers": [{"digest": "x", "urls": ["https://example.com"]}]}`,
		`{"schemaVersion": 1, "fsLayers": [{"blobSum": "tarsum.v1+sha256:1"}]}`,
		strings.Repeat("[", 1<<20),
	} {
		m, err := registry.ParseManifest([]byte(content))
		if !errors.Is(err, mooring.ErrCorrupt) {
			t.Errorf("%.80q: got %+v and %v, want one that wraps ErrCorrupt", content, m, err)
		}
	}
}

// Whatever is read from a damaged storage: an error that says so, or digests that can be looked for.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion": 2, "config": ` + descriptor("c") + `, "layers": [` + descriptor("l") + `], "subject": ` + descriptor("s") + `}`))
	f.Add([]byte(`{"schemaVersion": 2, "manifests": [` + descriptor("a") + `]}`))
	f.Add([]byte(`{"schemaVersion": 1, "fsLayers": [{"blobSum": "` + string(registry.DigestOf(nil)) + `"}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := registry.ParseManifest(content)
		if err != nil {
			if !errors.Is(err, mooring.ErrCorrupt) {
				t.Errorf("got %v, want one that wraps ErrCorrupt", err)
			}
			return
		}
		if m.MediaType == "" {
			t.Error("got no media type")
		}
		for _, d := range m.References() {
			if _, err := registry.ParseDigest(string(d.Digest)); err != nil || d.Size < registry.UnknownSize {
				t.Errorf("got %+v: %v", d, err)
			}
		}
	})
}
