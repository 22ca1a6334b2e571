// Package remotetest is a registry in memory for tests of what asks registries. It answers as distribution does, and with Rules.Harbor as Harbor does; what it has
// can be damaged in the ways that storage is, and any request of a test's choice can be meddled with. It is for tests only: it has no limits, and panics when it is used wrongly.
package remotetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Scheme is how the registry wants to know who asks.
type Scheme int

// The schemes.
const (
	Nobody Scheme = iota // everybody may pull
	Basic
	Token
)

// Rules say how the registry behaves. They are set before it is asked.
type Rules struct {
	Scheme         Scheme
	User, Password string
	// Harbor: repositories want a token, and a password from whoever sends a token that they refuse; the catalogue wants a password. Its REST API lists projects.
	Harbor bool
	// Projects are those whose repositories the account may pull from; nil: all.
	Projects []string
	// Catalogue: the account may list it.
	Catalogue bool
	// PageSize is the largest page of the catalogue, and of tags if they are asked for in pages; zero: all on one page.
	PageSize int
	// Referrers: there is a referrers API.
	Referrers bool
	// Elsewhere: blobs are redirected to another server, Registry.Storage.
	Elsewhere bool
	// Warm: HEAD, and the headers of GET, give what a blob once had: a cache remembers it.
	Warm bool
	// Meddle answers a request instead of the registry, if it returns a handler. n counts the requests of this method for this path, from 0.
	Meddle func(r *http.Request, n int) http.Handler
}

// Request is one that was received.
type Request struct {
	Method, Path, Query, UserAgent, Authorization, Range string
	Elsewhere                                            bool // by the other server
}

// Registry is a registry on this machine. Content is put in directly.
type Registry struct {
	Server  *httptest.Server
	Storage *httptest.Server // where blobs are, if the rules say so
	Rules   Rules

	mu           sync.Mutex
	requests     []Request
	counts       map[string]int
	blobs        map[registry.Digest]*stored
	repositories map[string]*repository
}

// stored is content: an image's manifest or a blob, which a registry keeps alike.
type stored struct {
	content   []byte
	mediaType string
	size      int // as it was
	gone      bool
}

type repository struct {
	tags      map[string]registry.Digest
	blobs     map[registry.Digest]bool
	manifests map[registry.Digest]bool
}

// New returns a registry that is closed when the test ends.
func New(tb testing.TB, rules Rules) *Registry {
	tb.Helper()
	return start(tb, rules, httptest.NewServer)
}

// NewTLS returns one that is spoken to by https, with a certificate that Server.Certificate returns.
func NewTLS(tb testing.TB, rules Rules) *Registry {
	tb.Helper()
	return start(tb, rules, httptest.NewTLSServer)
}

func start(tb testing.TB, rules Rules, serve func(http.Handler) *httptest.Server) *Registry {
	tb.Helper()
	r := &Registry{Rules: rules, counts: make(map[string]int), blobs: make(map[registry.Digest]*stored), repositories: make(map[string]*repository)}
	r.Server = serve(http.HandlerFunc(r.serve))
	r.Storage = serve(http.HandlerFunc(r.serveStorage))
	tb.Cleanup(r.Server.Close)
	tb.Cleanup(r.Storage.Close)
	return r
}

// Host returns the registry's name, with its port.
func (r *Registry) Host() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.Server.URL, "https://"), "http://")
}

// Requests returns what was received so far.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// Blob puts a blob in, and links it to the repository.
func (r *Registry) Blob(repo string, content []byte) registry.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := registry.Descriptor{MediaType: "application/octet-stream", Digest: registry.DigestOf(content), Size: int64(len(content))}
	r.blobs[d.Digest] = &stored{content: content, size: len(content)}
	r.repository(repo).blobs[d.Digest] = true
	return d
}

// Manifest puts an image's manifest in as it is, and has the tags name it.
func (r *Registry) Manifest(repo, mediaType string, content []byte, tags ...string) registry.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := registry.Descriptor{MediaType: mediaType, Digest: registry.DigestOf(content), Size: int64(len(content))}
	r.put(repo, d.Digest, mediaType, content, tags)
	return d
}

// ManifestAs does so under a digest that need not be the content's: schema 1 is hashed without its signatures.
func (r *Registry) ManifestAs(repo string, d registry.Digest, mediaType string, content []byte, tags ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(repo, d, mediaType, content, tags)
}

func (r *Registry) put(repo string, d registry.Digest, mediaType string, content []byte, tags []string) {
	r.blobs[d] = &stored{content: content, mediaType: mediaType, size: len(content)}
	rep := r.repository(repo)
	rep.manifests[d] = true
	for _, tag := range tags {
		rep.tags[tag] = d
	}
}

func (r *Registry) repository(name string) *repository {
	rep := r.repositories[name]
	if rep == nil {
		rep = &repository{tags: make(map[string]registry.Digest), blobs: make(map[registry.Digest]bool), manifests: make(map[registry.Digest]bool)}
		r.repositories[name] = rep
	}
	return rep
}

// Image puts an image of these layers in, with a configuration that is the repository's and the tag's own.
func (r *Registry) Image(repo, tag string, layers ...[]byte) registry.Descriptor {
	var below []registry.Descriptor
	for _, l := range layers {
		below = append(below, r.Blob(repo, l))
	}
	return r.ImageOf(repo, tag, below...)
}

// ImageOf does so for layers as they are described, whether or not they are there.
func (r *Registry) ImageOf(repo, tag string, layers ...registry.Descriptor) registry.Descriptor {
	conf := r.Blob(repo, fmt.Appendf(nil, `{"os":"linux","image":"%s:%s"}`, repo, tag))
	return r.Manifest(repo, registry.OCIManifest, encode(map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": conf, "layers": layers,
	}), tag)
}

// Index puts an index of image manifests in.
func (r *Registry) Index(repo, tag string, children ...registry.Descriptor) registry.Descriptor {
	return r.Manifest(repo, registry.OCIIndex, encode(map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": children,
	}), tag)
}

// Refer puts an artifact in that is about the subject, and under its fallback tag if there is no referrers API.
func (r *Registry) Refer(repo string, subject registry.Descriptor, content []byte) registry.Descriptor {
	d := r.Manifest(repo, registry.OCIManifest, encode(map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "artifactType": "application/vnd.example.signature",
		"config": r.Blob(repo, []byte("{}")), "layers": []registry.Descriptor{r.Blob(repo, content)}, "subject": subject,
	}))
	if !r.Rules.Referrers {
		r.Index(repo, strings.Replace(string(subject.Digest), ":", "-", 1), d)
	}
	return d
}

// Damage replaces what is stored under a digest. Nil: the file is gone.
func (r *Registry) Damage(d registry.Digest, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d].content, r.blobs[d].gone = content, content == nil
}

// Unlink takes a blob or an image's manifest out of a repository, and leaves it where else it is.
func (r *Registry) Unlink(repo string, d registry.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repositories[repo].blobs, d)
	delete(r.repositories[repo].manifests, d)
}

// Untag takes a tag away.
func (r *Registry) Untag(repo, tag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repositories[repo].tags, tag)
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
