package harborlike

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// writeImages writes the images, which all consist of these layers, as `docker save` would: any Docker Engine loads it. The same trees give the same bytes.
func writeImages(file string, all []image, layers ...tree) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(writeArchive(f, all, layers), f.Close())
}

func writeArchive(out io.Writer, all []image, layers []tree) error {
	w := tar.NewWriter(out)
	var names, ids []string
	for _, layer := range layers {
		packed, err := layer.pack()
		if err != nil {
			return err
		}
		id := sum(packed)
		ids = append(ids, "sha256:"+id)
		names = append(names, id+"/layer.tar")
		if err := add(w, id+"/layer.tar", member{mode: 0o644, content: packed}); err != nil {
			return err
		}
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var entries []entry
	for _, img := range all {
		config, err := json.Marshal(map[string]any{
			"architecture": "amd64", "os": "linux", "created": time.Unix(0, 0).UTC(),
			"config": img.Config,
			"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
		})
		if err != nil {
			return fmt.Errorf("encode the configuration of %s: %w", img.Name, err)
		}
		name := sum(config) + ".json"
		if err := add(w, name, member{mode: 0o644, content: config}); err != nil {
			return err
		}
		entries = append(entries, entry{Config: name, RepoTags: []string{img.Name + ":latest"}, Layers: names})
	}
	list, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("encode the list of images: %w", err)
	}
	return errors.Join(add(w, "manifest.json", member{mode: 0o644, content: list}), w.Close())
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// pack returns the tree as an archive, with the directories that its members lie in.
func (t tree) pack() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{".": true}
	for _, name := range t.names() {
		if err := above(w, name, made); err != nil {
			return nil, err
		}
		made[name] = true
		if err := add(w, name, t[name]); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

// above adds the directories above a member. Those that the tree itself names came before.
func above(w *tar.Writer, name string, made map[string]bool) error {
	dir := path.Dir(name)
	if made[dir] {
		return nil
	}
	if err := above(w, dir, made); err != nil {
		return err
	}
	made[dir] = true
	return add(w, dir, member{mode: fs.ModeDir | 0o755})
}

func add(w *tar.Writer, name string, m member) error {
	h := tar.Header{Name: name, Mode: int64(m.mode.Perm()), Uid: m.uid, Gid: m.uid, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case m.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if m.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
	case m.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(m.content))
	}
	if err := w.WriteHeader(&h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := w.Write(m.content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
