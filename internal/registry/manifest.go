package registry

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mooring-sh/mooring"
)

// The media types of manifests.
const (
	OCIManifest     = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex        = "application/vnd.oci.image.index.v1+json"
	DockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList      = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest1 = "application/vnd.docker.distribution.manifest.v1+prettyjws" // schema 1: refused by registries of today, found on old storage
)

// MaxManifest is the size in bytes over which a registry refuses a manifest (distribution's limit of 4 MiB).
const MaxManifest = 4 << 20

// Descriptor names content that a manifest refers to.
type Descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    Digest   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls,omitempty"` // a foreign layer: it is elsewhere, and need not be in the registry
}

// Manifest is what a manifest refers to. Whether it is one of an image or of an artifact makes no difference here.
type Manifest struct {
	MediaType    string
	ArtifactType string
	Blobs        []Descriptor // configuration and layers, in this order; those of OCI's former artifact manifest
	Manifests    []Descriptor // of an index or a list
	Subject      *Descriptor  // what a referrer (a signature, an SBOM) is about; it need not exist
}

// ParseManifest reads a manifest; it does not compare its digest. The error wraps [mooring.ErrCorrupt], whatever is wrong with the content.
func ParseManifest(content []byte) (Manifest, error) {
	var raw struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		ArtifactType  string       `json:"artifactType"`
		Config        *Descriptor  `json:"config"`
		Layers        []Descriptor `json:"layers"`
		Blobs         []Descriptor `json:"blobs"`
		Manifests     []Descriptor `json:"manifests"`
		Subject       *Descriptor  `json:"subject"`
		FSLayers      []struct {
			BlobSum Digest `json:"blobSum"`
		} `json:"fsLayers"`
	}
	if err := json.Unmarshal(content, &raw); err != nil {
		return Manifest{}, fmt.Errorf("parse manifest: %w: %w", mooring.ErrCorrupt, err)
	}
	m := Manifest{MediaType: raw.MediaType, ArtifactType: raw.ArtifactType, Manifests: raw.Manifests, Subject: raw.Subject}
	if raw.Config != nil {
		m.Blobs = append(m.Blobs, *raw.Config)
	}
	m.Blobs = append(append(m.Blobs, raw.Layers...), raw.Blobs...)
	for _, l := range raw.FSLayers { // schema 1 gives no sizes
		m.Blobs = append(m.Blobs, Descriptor{Digest: l.BlobSum, Size: UnknownSize})
	}
	if m.MediaType == "" {
		m.MediaType = mediaType(raw.SchemaVersion, raw.Manifests != nil)
	}
	if len(m.Blobs) == 0 && raw.Layers == nil && raw.Blobs == nil && raw.Manifests == nil {
		return Manifest{}, fmt.Errorf("parse manifest: neither blobs nor manifests in it: %w", mooring.ErrCorrupt)
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// check refuses what nobody could look for: a digest that is none, a size that cannot be. Even what need not be there must have a name.
func (m Manifest) check() error {
	named := slices.Concat(m.Blobs, m.Manifests)
	if m.Subject != nil {
		named = append(named, *m.Subject)
	}
	for _, d := range named {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return fmt.Errorf("parse manifest: %w: %w", mooring.ErrCorrupt, err)
		}
		if d.Size < 0 && d.Size != UnknownSize {
			return fmt.Errorf("parse manifest: %s has %d bytes: %w", d.Digest, d.Size, mooring.ErrCorrupt)
		}
	}
	return nil
}

// UnknownSize is the size of what a manifest of schema 1 refers to.
const UnknownSize = -1

// References returns all that must be in the registry for the manifest to be of use: its blobs but the foreign ones, and its manifests.
func (m Manifest) References() []Descriptor {
	var all []Descriptor
	for _, d := range m.Blobs {
		if len(d.URLs) == 0 {
			all = append(all, d)
		}
	}
	return append(all, m.Manifests...)
}

// mediaType returns that of a manifest that does not name its own, as OCI's need not.
func mediaType(schema int, index bool) string {
	switch {
	case schema == 1:
		return DockerManifest1
	case index:
		return OCIIndex
	default:
		return OCIManifest
	}
}
