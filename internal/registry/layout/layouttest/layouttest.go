// Package layouttest makes storages of registries for tests, as the distribution registry's filesystem driver would leave them, with real digests; and damages them.
//
// What it makes is not synced: it lasts as long as a test. Whatever goes wrong ends the test. Only [Registry.Fill] writes from several goroutines; a Registry serves one at a time.
package layouttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Registry is a registry's storage.
type Registry struct {
	Dir string // contains docker/registry/v2

	tb testing.TB
}

// New returns an empty storage in a directory of the test's.
func New(tb testing.TB) *Registry {
	tb.Helper()
	return At(tb, tb.TempDir())
}

// At returns the storage in dir, which it makes if there is none.
func At(tb testing.TB, dir string) *Registry {
	tb.Helper()
	r := &Registry{Dir: dir, tb: tb}
	r.check(os.MkdirAll(r.path("blobs/sha256"), 0o755))
	r.check(os.MkdirAll(r.path("repositories"), 0o755))
	return r
}

// Image is an image that was pushed.
type Image struct {
	registry.Descriptor // its manifest's

	Repository, Tag string
	Config          registry.Descriptor
	Layers          []registry.Descriptor
}

// Image pushes an image with these layers; it is not tagged if tag is empty.
func (r *Registry) Image(repository, tag string, layers ...[]byte) Image {
	r.tb.Helper()
	img := Image{Repository: repository, Tag: tag}
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "layers": digests(layers)})
	r.check(err)
	img.Config = r.Layer(repository, "application/vnd.oci.image.config.v1+json", config)
	for _, l := range layers {
		img.Layers = append(img.Layers, r.Layer(repository, "application/vnd.oci.image.layer.v1.tar", l))
	}
	img.Descriptor = r.Manifest(repository, tag, registry.OCIManifest, map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": img.Config, "layers": append([]registry.Descriptor{}, img.Layers...),
	})
	return img
}

// Index pushes an index of images that are in the repository.
func (r *Registry) Index(repository, tag string, manifests ...registry.Descriptor) registry.Descriptor {
	r.tb.Helper()
	return r.Manifest(repository, tag, registry.OCIIndex, map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": append([]registry.Descriptor{}, manifests...),
	})
}

// Referrer pushes an artifact, such as a signature, about subject.
func (r *Registry) Referrer(repository string, subject registry.Descriptor, artifactType string, content []byte) registry.Descriptor {
	r.tb.Helper()
	config := r.Layer(repository, "application/vnd.oci.empty.v1+json", []byte("{}"))
	layer := r.Layer(repository, artifactType, content)
	return r.Manifest(repository, "", registry.OCIManifest, map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "artifactType": artifactType,
		"config": config, "layers": []registry.Descriptor{layer}, "subject": subject,
	})
}

// Schema1 pushes an image as Docker did before 2016: its manifest has no sizes.
func (r *Registry) Schema1(repository, tag string, layers ...[]byte) registry.Descriptor {
	r.tb.Helper()
	var sums []map[string]any
	for _, l := range layers {
		sums = append(sums, map[string]any{"blobSum": r.Layer(repository, "", l).Digest})
	}
	return r.Manifest(repository, tag, registry.DockerManifest1, map[string]any{"schemaVersion": 1, "name": repository, "tag": tag, "fsLayers": sums})
}

// Layer pushes a blob into a repository.
func (r *Registry) Layer(repository, mediaType string, content []byte) registry.Descriptor {
	r.tb.Helper()
	d := r.Blob(content)
	d.MediaType = mediaType
	r.link(r.LayerLink(repository, d.Digest), d.Digest)
	return d
}

// Manifest pushes a manifest, which is written as JSON, or as it is if it is a []byte; it is not tagged if tag is empty.
func (r *Registry) Manifest(repository, tag, mediaType string, manifest any) registry.Descriptor {
	r.tb.Helper()
	content, ok := manifest.([]byte)
	if !ok {
		var err error
		content, err = json.Marshal(manifest)
		r.check(err)
	}
	d := r.Blob(content)
	d.MediaType = mediaType
	r.link(r.RevisionLink(repository, d.Digest), d.Digest)
	if tag != "" {
		r.Tag(repository, tag, d.Digest)
	}
	return d
}

// Tag makes a tag name a manifest.
func (r *Registry) Tag(repository, tag string, d registry.Digest) {
	r.tb.Helper()
	r.link(r.IndexLink(repository, tag, d), d)
	r.link(r.TagLink(repository, tag), d)
}

// Blob writes a blob that no repository has.
func (r *Registry) Blob(content []byte) registry.Descriptor {
	r.tb.Helper()
	d := registry.Descriptor{Digest: registry.DigestOf(content), Size: int64(len(content))}
	r.write(r.Data(d.Digest), content)
	return d
}

// Upload leaves an upload that never ended.
func (r *Registry) Upload(repository string, content []byte) {
	r.tb.Helper()
	dir := r.path("repositories", repository, "_uploads", "4b1a8d3c-6e0f-4e0e-9d43-2f4f3c1f8d55")
	r.write(filepath.Join(dir, "data"), content)
	r.write(filepath.Join(dir, "startedat"), []byte("2006-01-02T15:04:05Z"))
}

func (r *Registry) link(path string, d registry.Digest) {
	r.tb.Helper()
	r.write(path, []byte(d))
}

func (r *Registry) write(path string, content []byte) {
	r.tb.Helper()
	r.check(writeFile(path, content))
}

func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

func (r *Registry) check(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatalf("make a registry: %v", err)
	}
}

func digests(contents [][]byte) []registry.Digest {
	var all []registry.Digest
	for _, c := range contents {
		all = append(all, registry.DigestOf(c))
	}
	return all
}
