package images

import (
	"cmp"
	"errors"
	"path"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// Seen is what a storage, or a registry over HTTP, was seen to have.
type Seen struct {
	*layout.Snapshot

	// Images are those that a revision, a tag, an index or the database names, if there is something under their digest.
	Images map[registry.Digest]Image
	// Rows is what the database says, which then has the tags. Nil: the storage has them, or the database did not answer.
	Rows *Rows
	// TagsUnknown: the tags are in a database that did not answer.
	TagsUnknown bool
	// Only are the repositories that were looked at; nil: all.
	Only map[string]bool
	// Remote: seen over HTTP. There are no links, and no sizes and times but of what was hashed.
	Remote bool
	// Cache: the registry fetches by itself what it does not have (a pull-through cache), so nothing can be missing.
	Cache bool
	// Notes are for the verdict.
	Notes []string

	unlinked map[pair]error // over HTTP: blobs that one repository gave and another, which needs them, did not
}

// Image is what an image's manifest says.
type Image struct {
	Media     string          // the artifact's type if it has one, else that of the image's manifest
	Subject   registry.Digest // what a referrer is about
	Blobs     []Ref           // but the foreign ones, which are elsewhere
	Manifests []Ref
	// Err: it was hashed and is not right ([mooring.ErrCorrupt]), is not there ([mooring.ErrNotFound]), or could not be read. What it refers to is then as the manifest or the database has it, if they do.
	Err error

	hashed bool // just now
}

// Ref names content that an image's manifest refers to.
type Ref struct {
	Digest registry.Digest
	Size   int64 // registry.UnknownSize: nobody says
}

// parse returns what an image's manifest of the right digest says. One that cannot be parsed refers to nothing: it is what was pushed.
func parse(content []byte, intern func(registry.Digest) registry.Digest) Image {
	m, err := registry.ParseManifest(content)
	if err != nil {
		return Image{}
	}
	return imageOf(m, intern)
}

func imageOf(m registry.Manifest, intern func(registry.Digest) registry.Digest) Image {
	refs := func(all []registry.Descriptor) []Ref {
		list := make([]Ref, 0, len(all))
		for _, d := range all {
			if len(d.URLs) == 0 {
				list = append(list, Ref{Digest: intern(d.Digest), Size: d.Size})
			}
		}
		return list
	}
	img := Image{Media: cmp.Or(m.ArtifactType, m.MediaType), Blobs: refs(m.Blobs), Manifests: refs(m.Manifests)}
	if len(img.Media) > maxName {
		img.Media = img.Media[:maxName]
	}
	if m.Subject != nil {
		if _, err := registry.ParseDigest(string(m.Subject.Digest)); err == nil {
			img.Subject = m.Subject.Digest
		}
	}
	return img
}

// findLink returns the link of that name, nil if there is none. The links are sorted by it.
func findLink(links []layout.Link, name registry.Digest) *layout.Link {
	i, ok := slices.BinarySearchFunc(links, name, func(l layout.Link, d registry.Digest) int { return cmp.Compare(l.Name, d) })
	if !ok {
		return nil
	}
	return &links[i]
}

// sound reports whether there is such a link, and it is valid.
func sound(l *layout.Link) bool { return l != nil && l.Problem == "" }

// obstacles are the paths of a storage that could not be read.
type obstacles map[string]error

func obstaclesOf(snap *layout.Snapshot) obstacles {
	o := make(obstacles)
	for _, p := range snap.Problems {
		if !errors.Is(p.Err, mooring.ErrInvalid) {
			o[p.Path] = p.Err
		}
	}
	return o
}

// to returns why the path, or a directory above it, could not be read; nil if it could.
func (o obstacles) to(p string) error {
	for len(o) > 0 {
		if err, ok := o[p]; ok {
			return err
		}
		if p == "." || p == "/" || p == "" {
			break
		}
		p = path.Dir(p)
	}
	return nil
}

// Where things are in a storage, relative to docker/registry/v2.
const repositoriesPath = "repositories"

func repositoryPath(name string) string { return path.Join(repositoriesPath, name) }

func blobPath(d registry.Digest) string {
	return path.Join("blobs/sha256", d.Hex()[:2], d.Hex(), "data")
}

func revisionPath(repository string, d registry.Digest) string {
	return path.Join(repositoriesPath, repository, "_manifests/revisions/sha256", d.Hex(), "link")
}

func layerPath(repository string, d registry.Digest) string {
	return path.Join(repositoriesPath, repository, "_layers/sha256", d.Hex(), "link")
}

func tagPath(repository, tag string) string {
	return path.Join(repositoriesPath, repository, "_manifests/tags", tag, "current/link")
}
