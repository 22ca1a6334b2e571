package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Thing is what may be lost.
type Thing string

// The things, as they lie in a registry's storage.
const (
	Blob         Thing = "blob"          // content of a layer or a configuration
	Manifest     Thing = "manifest"      // content of an image's manifest
	LayerLink    Thing = "layer link"    // without it the repository does not have the blob
	RevisionLink Thing = "revision link" // without it the repository does not have the manifest
	Tag          Thing = "tag"           // its current link
)

// State is what is wrong with a thing.
type State string

// The states.
const (
	Missing State = "missing"
	Empty   State = "empty"      // no bytes
	Zeroed  State = "zeroed"     // its length, and every byte zero: the length became durable before the content
	Wrong   State = "wrong"      // not the content with that digest; no link to it; no digest at all
	Stale   State = "stale"      // of a tag: an image that was pushed before the acknowledged one
	Failed  State = "unreadable" // an I/O error
)

// Loss is something that was acknowledged and is not there.
type Loss struct {
	Thing Thing
	State State
	Path  string // relative to docker/registry/v2
	Text  string // what is there instead
}

// Class returns what kind of loss it is: "tag empty".
func (l Loss) Class() string { return string(l.Thing) + " " + string(l.State) }

// String returns the loss as a line.
func (l Loss) String() string { return l.Class() + ": " + l.Path + ": " + l.Text }

// storage reads a registry's storage, each file once.
type storage struct {
	root   string
	losses map[string]Loss // by path
	seen   map[string]bool
}

// Check reads and hashes everything that must be in the registry's storage under dir, and returns what is lost, by path.
func Check(dir string, e Expectation) []Loss {
	s := storage{root: filepath.Join(dir, "docker/registry/v2"), losses: map[string]Loss{}, seen: map[string]bool{}}
	for b := range e.Blobs {
		s.link(LayerLink, filepath.Join("repositories", b.Repository, "_layers/sha256", b.Digest.Hex(), "link"), b.Digest)
		s.content(Blob, b.Digest)
	}
	for m := range e.Images {
		s.link(RevisionLink, filepath.Join("repositories", m.Repository, "_manifests/revisions/sha256", m.Digest.Hex(), "link"), m.Digest)
		s.content(Manifest, m.Digest)
	}
	for name, may := range e.Tags {
		s.tag(filepath.Join("repositories", name.Repository, "_manifests/tags", name.Tag, "current/link"), may)
	}
	var all []Loss
	for _, l := range s.losses {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Loss) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (s storage) lose(thing Thing, state State, path, text string) {
	s.losses[path] = Loss{thing, state, path, text}
}

// read returns a file's content, unless it was read before or cannot be.
func (s storage) read(thing Thing, path string) (text string, ok bool) {
	if s.seen[path] {
		return "", false
	}
	s.seen[path] = true
	content, err := os.ReadFile(filepath.Join(s.root, path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.lose(thing, Missing, path, "no such file")
	case err != nil:
		s.lose(thing, Failed, path, err.Error())
	case len(content) == 0:
		s.lose(thing, Empty, path, "0 bytes")
	case isZero(content):
		s.lose(thing, Zeroed, path, fmt.Sprintf("%d bytes of zero", len(content)))
	default:
		return string(content), true
	}
	return "", false
}

// link reads a link, which must name that digest.
func (s storage) link(thing Thing, path string, want registry.Digest) {
	if text, ok := s.read(thing, path); ok && text != string(want) {
		s.lose(thing, Wrong, path, fmt.Sprintf("%q", text))
	}
}

// tag reads a tag's current link, which must name one of these images.
func (s storage) tag(path string, may map[registry.Digest]bool) {
	text, ok := s.read(Tag, path)
	if !ok || may[registry.Digest(text)] {
		return
	}
	if _, err := registry.ParseDigest(text); err != nil {
		s.lose(Tag, Wrong, path, fmt.Sprintf("%q", text))
		return
	}
	var want []string
	for d := range may {
		want = append(want, d.Short())
	}
	slices.Sort(want)
	s.lose(Tag, Stale, path, registry.Digest(text).Short()+"; want "+strings.Join(want, " or "))
}

// content hashes a blob's content.
func (s storage) content(thing Thing, want registry.Digest) {
	path := filepath.Join("blobs/sha256", want.Hex()[:2], want.Hex(), "data")
	text, ok := s.read(thing, path)
	if got := registry.DigestOf([]byte(text)); ok && got != want {
		s.lose(thing, Wrong, path, fmt.Sprintf("%d bytes, %s", len(text), got.Short()))
	}
}

func isZero(content []byte) bool { return len(bytes.Trim(content, "\x00")) == 0 }
