package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
)

// payload is an image that exists nowhere else: busybox, and random bytes, so that its digests mean something.
type payload struct {
	archive []byte // as `docker load` reads it
	sum     string // SHA-256 of the file /payload in it
}

// newPayload returns an image called ref with size random bytes in /payload.
func newPayload(ref string, busybox []byte, size int) (payload, error) {
	random := make([]byte, size)
	if _, err := io.ReadFull(rand.Reader, random); err != nil {
		return payload{}, err
	}
	base, err := archive(entry{"bin/busybox", 0o755, busybox}, entry{"bin/sha256sum", 0o755, busybox})
	if err != nil {
		return payload{}, err
	}
	own, err := archive(entry{"payload", 0o644, random})
	if err != nil {
		return payload{}, err
	}
	image, err := imageArchive(ref, base, own)
	return payload{archive: image, sum: hexSum(random)}, err
}

// imageArchive returns an image with those layers in the form of `docker save` (image specification 1.2).
func imageArchive(ref string, layers ...[]byte) ([]byte, error) {
	var (
		files   []entry
		diffIDs []string
		names   []string
	)
	for _, layer := range layers {
		sum := hexSum(layer)
		names = append(names, sum+"/layer.tar")
		diffIDs = append(diffIDs, "sha256:"+sum)
		files = append(files, entry{sum + "/layer.tar", 0o644, layer})
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Cmd": []string{"/bin/sha256sum", "/payload"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the configuration of %s: %w", ref, err)
	}
	configName := hexSum(config) + ".json"
	index, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{ref}, "Layers": names}})
	if err != nil {
		return nil, fmt.Errorf("encode the index of %s: %w", ref, err)
	}
	return archive(append(files, entry{configName, 0o644, config}, entry{"manifest.json", 0o644, index})...)
}

// entry is a file in an archive.
type entry struct {
	name string
	mode int64
	data []byte
}

func archive(entries ...entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg}); err != nil {
			return nil, fmt.Errorf("archive %s: %w", e.name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("archive %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the archive: %w", err)
	}
	return b.Bytes(), nil
}

func hexSum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
