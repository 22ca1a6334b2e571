package push

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// What Docker calls what it pushes.
const (
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Image says what is pushed, and as what.
type Image struct {
	Repository string
	Tag        string
	Layers     int // each with one file
	LayerSize  int // of that file, in bytes
	Seed       uint64
	Rate       int // bytes of a blob that are sent in a second; 0: as many as are taken
}

// piece is content with a digest.
type piece []byte

func (p piece) digest() string {
	sum := sha256.Sum256(p)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (p piece) blob() Blob { return Blob{p.digest(), int64(len(p))} }

// content is an image as it is pushed.
type content struct {
	manifest piece
	blobs    []piece // the configuration, then the layers
}

// descriptor is how a manifest names a blob.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Blob
}

// build makes the image. Gzip is told not to compress: random bytes would only cost time.
func (img Image) build() (content, error) {
	var layers []piece
	var named []descriptor
	diffs := []string{}
	for n := range img.Layers {
		archive, err := img.layer(n)
		if err != nil {
			return content{}, err
		}
		var zipped bytes.Buffer
		z, err := gzip.NewWriterLevel(&zipped, gzip.NoCompression)
		if err != nil {
			return content{}, err
		}
		if _, err := z.Write(archive); err != nil {
			return content{}, err
		}
		if err := z.Close(); err != nil {
			return content{}, err
		}
		layer := piece(zipped.Bytes())
		layers = append(layers, layer)
		named = append(named, descriptor{layerType, layer.blob()})
		diffs = append(diffs, archive.digest())
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"author": fmt.Sprintf("seed %d", img.Seed), // so that images without layers differ, too
	})
	if err != nil {
		return content{}, err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{configType, piece(config).blob()},
		"layers": named,
	})
	return content{manifest, append([]piece{config}, layers...)}, err
}

// layer returns an archive with one file.
func (img Image) layer(n int) (piece, error) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], img.Seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(n)) //nolint:gosec // a count
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h := tar.Header{Name: fmt.Sprintf("layer-%d", n), Mode: 0o644, Size: int64(img.LayerSize)}
	if err := w.WriteHeader(&h); err != nil {
		return nil, err
	}
	_, err := io.CopyN(w, rand.NewChaCha8(seed), h.Size)
	err = errors.Join(err, w.Close())
	return buf.Bytes(), err // after Close, which writes
}
