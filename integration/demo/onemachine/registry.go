package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// registry reads a registry by the OCI distribution API. It believes nothing but bytes that it has hashed: a registry
// answers HEAD from a cache for a blob that is gone.
type registry struct{ address string }

// manifest is what an image is made of.
type manifest struct {
	Digest string `json:"-"` // of the bytes that were read
	Config blob   `json:"config"`
	Layers []blob `json:"layers"`
}

type blob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// blobs returns the configuration and the layers.
func (m manifest) blobs() []blob { return append([]blob{m.Config}, m.Layers...) }

var errUnexpected = errors.New("not as acknowledged")

// ready reports whether the registry answers.
func (r registry) ready(ctx context.Context) error {
	body, err := r.get(ctx, "/v2/")
	if err != nil {
		return err
	}
	return body.Close()
}

// manifest reads the manifest that reference, a tag or a digest, names.
func (r registry) manifest(ctx context.Context, repository, reference string) (manifest, error) {
	body, err := r.get(ctx, "/v2/"+repository+"/manifests/"+reference)
	if err != nil {
		return manifest{}, err
	}
	defer func() { _ = body.Close() }() // read to its end already
	raw, err := io.ReadAll(io.LimitReader(body, 4<<20))
	if err != nil {
		return manifest{}, fmt.Errorf("read manifest %s:%s: %w", repository, reference, err)
	}
	m := manifest{Digest: "sha256:" + hexSum(raw)}
	if err := json.Unmarshal(raw, &m); err != nil {
		return manifest{}, fmt.Errorf("read manifest %s:%s: %w", repository, reference, err)
	}
	if m.Config.Digest == "" || len(m.Layers) == 0 {
		return manifest{}, fmt.Errorf("manifest %s:%s names no layers: %w", repository, reference, errUnexpected)
	}
	return m, nil
}

// rehash reads the blob to its end and compares what it is with what it is called.
func (r registry) rehash(ctx context.Context, repository string, b blob) error {
	body, err := r.get(ctx, "/v2/"+repository+"/blobs/"+b.Digest)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to its end already
	hash := sha256.New()
	size, err := io.Copy(hash, body)
	if err != nil {
		return fmt.Errorf("read blob %s: %w", b.Digest, err)
	}
	if got := fmt.Sprintf("sha256:%x", hash.Sum(nil)); got != b.Digest || size != b.Size {
		return fmt.Errorf("blob %s of %d bytes is %s of %d bytes: %w", b.Digest, b.Size, got, size, errUnexpected)
	}
	return nil
}

func (r registry) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the registry: %w", err)
	}
	req.Header.Add("Accept", "application/vnd.docker.distribution.manifest.v2+json")
	req.Header.Add("Accept", "application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the registry: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // its content says no more than its status
		return nil, fmt.Errorf("ask the registry for %s: %s: %w", path, resp.Status, errUnexpected)
	}
	return resp.Body, nil
}
