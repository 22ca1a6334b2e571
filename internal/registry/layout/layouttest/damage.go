package layouttest

import (
	"os"
	"path/filepath"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Data returns the path of a blob's file.
func (r *Registry) Data(d registry.Digest) string {
	return r.path("blobs/sha256", d.Hex()[:2], d.Hex(), "data")
}

// LayerLink returns the path of a repository's link to a blob.
func (r *Registry) LayerLink(repository string, d registry.Digest) string {
	return r.path("repositories", repository, "_layers/sha256", d.Hex(), "link")
}

// RevisionLink returns the path of a repository's link to a manifest.
func (r *Registry) RevisionLink(repository string, d registry.Digest) string {
	return r.path("repositories", repository, "_manifests/revisions/sha256", d.Hex(), "link")
}

// TagLink returns the path of a tag's current link.
func (r *Registry) TagLink(repository, tag string) string {
	return r.path("repositories", repository, "_manifests/tags", tag, "current/link")
}

// IndexLink returns the path of a tag's link to a manifest that it names or once named.
func (r *Registry) IndexLink(repository, tag string, d registry.Digest) string {
	return r.path("repositories", repository, "_manifests/tags", tag, "index/sha256", d.Hex(), "link")
}

func (r *Registry) path(parts ...string) string {
	return filepath.Join(append([]string{r.Dir, "docker/registry/v2"}, parts...)...)
}

// Truncate cuts a file to size bytes; 0 empties it, as a power cut does.
func (r *Registry) Truncate(path string, size int64) {
	r.tb.Helper()
	r.check(os.Truncate(path, size))
}

// Flip changes one bit of the byte at an offset.
func (r *Registry) Flip(path string, offset int64) {
	r.tb.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	r.check(err)
	defer func() { r.check(f.Close()) }()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	r.check(err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, offset)
	r.check(err)
}

// Remove deletes a file, or a directory with all in it. Without its data file a blob's directory stays, as after a crash.
func (r *Registry) Remove(path string) {
	r.tb.Helper()
	r.check(os.RemoveAll(path))
}

// Overwrite replaces a file's content.
func (r *Registry) Overwrite(path, content string) {
	r.tb.Helper()
	r.write(path, []byte(content))
}
