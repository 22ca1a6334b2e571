package powercut

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Kind says what a pusher does with an image.
type Kind string

// The kinds, as people and build jobs push.
const (
	Fresh  Kind = "fresh"   // a new image under one tag
	Retag  Kind = "retag"   // a new image under a tag of its own, and then the same under latest
	Again  Kind = "again"   // an image that was pushed before, unchanged, under the same tag
	AtOnce Kind = "at once" // a new image by two clients at the same time, under two tags
)

// latest is the tag that everybody moves.
const latest = "latest"

// Choice is what one pusher pushes next.
type Choice struct {
	Kind       Kind
	Repository string
	Tags       []string
	Image      Image
}

// Image is content to be pushed. Its bytes follow from it.
type Image struct {
	Layers []Layer
}

// Layer is a blob of random bytes.
type Layer struct {
	Seed uint64
	Size int
}

const (
	pushersPerRepository = 2  // who move the same latest
	imagesPerBase        = 20 // that are built on one base layer, which other repositories use as well
)

// Chooser makes the choices of one pusher. They follow from the seed and the pusher's number, whatever else happens.
type Chooser struct {
	seed   uint64
	pusher int
	random *rand.Rand
	made   int
	before []Choice
}

// NewChooser returns the choices of the pusher with that number.
func NewChooser(seed uint64, pusher int) *Chooser {
	return &Chooser{seed: seed, pusher: pusher, random: rand.New(rand.NewPCG(seed, uint64(pusher)))} //nolint:gosec // must be repeatable, and not secret
}

// Next returns the next choice. About half of the pushes are of latest.
func (c *Chooser) Next() Choice {
	const kept = 32 // images that may be pushed again
	if len(c.before) > 0 && c.random.IntN(8) == 0 {
		choice := c.before[c.random.IntN(len(c.before))]
		choice.Kind = Again
		return choice
	}
	own := fmt.Sprintf("p%d-%d", c.pusher, c.made)
	choice := Choice{Kind: Fresh, Repository: fmt.Sprintf("library/app%d", c.pusher/pushersPerRepository), Image: c.image()}
	switch n := c.random.IntN(16); {
	case n < 3:
		choice.Kind, choice.Tags = Retag, []string{own, latest}
	case n < 4:
		choice.Kind, choice.Tags = AtOnce, []string{own, latest}
	case n < 10:
		choice.Tags = []string{latest}
	default:
		choice.Tags = []string{own}
	}
	c.made++
	c.before = append(c.before, choice)
	c.before = c.before[max(0, len(c.before)-kept):]
	return choice
}

// image returns the next image: a base layer that all pushers come to at about the same time, and up to two of its own.
func (c *Chooser) image() Image {
	img := Image{Layers: []Layer{{Seed: c.seed<<16 + uint64(c.made/imagesPerBase), Size: 32 << 10}}} //nolint:gosec // a count
	for range 1 + c.random.IntN(2) {
		size := 512 << c.random.IntN(8) // to 64 KiB
		if c.random.IntN(32) == 0 {
			size = 1 << 20
		}
		img.Layers = append(img.Layers, Layer{Seed: c.random.Uint64(), Size: size + c.random.IntN(512)})
	}
	return img
}

// content is an image as it is pushed.
type content struct {
	layers   [][]byte
	config   []byte
	manifest []byte
}

// blobs returns the digests of all but the manifest.
func (c content) blobs() []registry.Digest {
	all := []registry.Digest{registry.DigestOf(c.config)}
	for _, l := range c.layers {
		all = append(all, registry.DigestOf(l))
	}
	return all
}

// What Docker calls what it pushes.
const (
	configType = "application/vnd.docker.container.image.v1+json"
	layerType  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// build returns the image's content.
func (img Image) build() (content, error) {
	var c content
	var named []registry.Descriptor
	for _, l := range img.Layers {
		var seed [32]byte
		for n := range 8 {
			seed[n] = byte(l.Seed >> (8 * n))
		}
		blob := make([]byte, l.Size)
		_, _ = rand.NewChaCha8(seed).Read(blob) // never fails
		c.layers = append(c.layers, blob)
		named = append(named, registry.Descriptor{MediaType: layerType, Digest: registry.DigestOf(blob), Size: int64(len(blob))})
	}
	var err error
	if c.config, err = json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "layers": img.Layers}); err != nil {
		return c, err
	}
	c.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": registry.DockerManifest,
		"config": registry.Descriptor{MediaType: configType, Digest: registry.DigestOf(c.config), Size: int64(len(c.config))},
		"layers": named,
	})
	return c, err
}
