// Package layout reads, proves and repairs a registry's storage on disk, as the filesystem driver of the distribution registry lays it out (and so Harbor's):
//
//	docker/registry/v2/blobs/sha256/<xx>/<digits>/data
//	docker/registry/v2/repositories/<name>/_layers/sha256/<digits>/link
//	docker/registry/v2/repositories/<name>/_manifests/revisions/sha256/<digits>/link
//	docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/current/link
//	docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/index/sha256/<digits>/link
//
// A link is a file with a digest as its text. Images' manifests are blobs like any other.
//
// It promises that a storage in any state can be read: a damaged one gives problems, never a panic, an endless walk or a way out of its directory; no symbolic link
// is followed. Nothing is held open between calls. It never deletes a registry's file: [Storage.Aside] moves, [Storage.Place] refuses to replace, and what
// [Storage.Relink] replaces is kept aside.
//
// A registry may write meanwhile. It makes a blob's directory before the file in it, and registries before 3.1 write links in place; so what looks wrong is looked at again
// before it is reported.
package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

const (
	rootPath  = "docker/registry/v2"
	asidePath = "docker/registry/mooring-aside"
	blobsPath = "blobs/sha256"
	algorithm = "sha256"
	dataName  = "data"
	linkName  = "link"
)

// Storage is a registry's storage in a directory. Its methods may be called at the same time.
type Storage struct {
	dir string
}

// Open returns the storage in dir, which contains docker/registry/v2. The error wraps [mooring.ErrNotFound] if there is no registry in it.
func Open(dir string) (*Storage, error) {
	info, err := os.Stat(filepath.Join(dir, rootPath))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open storage %s: no %s in it: %w", dir, rootPath, mooring.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("open storage: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open storage %s: %s is not a directory: %w", dir, rootPath, mooring.ErrNotFound)
	}
	return &Storage{dir: dir}, nil
}

// Dir returns the directory that contains docker/registry/v2.
func (s *Storage) Dir() string { return s.dir }

// root opens docker/registry/v2; whoever calls it closes it.
func (s *Storage) root() (dir, error) {
	d, err := openDir(filepath.Join(s.dir, rootPath))
	if errors.Is(err, fs.ErrNotExist) {
		return dir{}, fmt.Errorf("open %s: %w: %w", filepath.Join(s.dir, rootPath), mooring.ErrNotFound, err)
	}
	return d, err
}

// check refuses a digest that was never parsed: it is a path here.
func check(d registry.Digest) error {
	_, err := registry.ParseDigest(string(d))
	return err
}

// dataPath returns the path of a blob's file relative to docker/registry/v2.
func dataPath(d registry.Digest) string { return path.Join(blobDir(d), dataName) }

// blobDir returns the directory of a blob's file relative to docker/registry/v2.
func blobDir(d registry.Digest) string { return path.Join(blobsPath, d.Hex()[:2], d.Hex()) }
