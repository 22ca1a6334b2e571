package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// manifest is what the database is told of an image, or of an index of images.
type manifest struct {
	MediaType string
	Digest    string
	Config    descriptor
	Blobs     []descriptor // of an image: configuration and layers
	Children  []descriptor // of an index: manifests
	Size      int64        // of the manifest and the blobs
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

func readManifest(body []byte, mediaType string) (manifest, error) {
	var read struct {
		MediaType string       `json:"mediaType"`
		Config    descriptor   `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(body, &read); err != nil {
		return manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	sum := sha256.Sum256(body)
	m := manifest{
		MediaType: cmp.Or(mediaType, read.MediaType), Digest: "sha256:" + hex.EncodeToString(sum[:]), Config: read.Config, Children: read.Manifests, Size: int64(len(body)),
	}
	if read.Config.Digest != "" {
		m.Blobs = append([]descriptor{read.Config}, read.Layers...)
	}
	for _, b := range m.Blobs {
		m.Size += b.Size
	}
	return m, nil
}
