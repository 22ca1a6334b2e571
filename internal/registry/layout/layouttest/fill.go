package layouttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Scale says how large a registry Fill makes.
type Scale struct {
	Repositories int // that the images are spread over, in two projects
	Images       int
	Layers       int // of each image, its own: so there are Images × (Layers + 2) blobs
	LayerSize    int // in bytes; at least 16
	Seed         uint64
}

// Fill pushes many images, one tag each, one after the other over all repositories. The same scale makes the same content. Blobs and links are made in the order in which a client pushes them.
func (r *Registry) Fill(s Scale) []Image {
	r.tb.Helper()
	images := make([]Image, s.Images)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < s.Images; i += len(errs) {
				if errs[w] = r.fillOne(&images[i], s, i); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	r.check(errors.Join(errs...))
	return images
}

func (r *Registry) fillOne(img *Image, s Scale, i int) error {
	img.Repository = fmt.Sprintf("project-%d/service-%d", i%s.Repositories%2, i%s.Repositories)
	img.Tag = fmt.Sprintf("v%d", i/s.Repositories)
	random := rand.NewChaCha8(seed(s.Seed, uint64(i)))
	blob := func(content []byte) (registry.Descriptor, error) {
		d := registry.Descriptor{Digest: registry.DigestOf(content), Size: int64(len(content))}
		return d, writeFile(r.Data(d.Digest), content)
	}
	layer := func(mediaType string, content []byte) (registry.Descriptor, error) {
		d, err := blob(content)
		d.MediaType = mediaType
		return d, errors.Join(err, writeFile(r.LayerLink(img.Repository, d.Digest), []byte(d.Digest)))
	}
	var err error
	var layers []string
	for range s.Layers {
		content := make([]byte, max(s.LayerSize, 16))
		_, _ = random.Read(content)
		d, lerr := layer("application/vnd.oci.image.layer.v1.tar", content)
		err = errors.Join(err, lerr)
		img.Layers = append(img.Layers, d)
		layers = append(layers, describe(d))
	}
	config, cerr := layer("application/vnd.oci.image.config.v1+json", fmt.Appendf(nil, `{"architecture": "amd64", "os": "linux", "created_by": "%d.%d"}`, s.Seed, i))
	img.Config = config
	manifest, merr := blob(fmt.Appendf(nil, `{"schemaVersion": 2, "mediaType": %q, "config": %s, "layers": [%s]}`,
		registry.OCIManifest, describe(config), strings.Join(layers, ", ")))
	img.Descriptor = manifest
	img.MediaType = registry.OCIManifest
	link := []byte(img.Digest)
	return errors.Join(err, cerr, merr,
		writeFile(r.RevisionLink(img.Repository, img.Digest), link),
		writeFile(r.IndexLink(img.Repository, img.Tag, img.Digest), link),
		writeFile(r.TagLink(img.Repository, img.Tag), link))
}

func describe(d registry.Descriptor) string {
	return fmt.Sprintf(`{"mediaType": %q, "digest": %q, "size": %d}`, d.MediaType, d.Digest, d.Size)
}

func seed(a, b uint64) (s [32]byte) {
	binary.LittleEndian.PutUint64(s[:], a)
	binary.LittleEndian.PutUint64(s[8:], b)
	return s
}
