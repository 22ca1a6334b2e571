package push_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring/integration/harborlike/push"
)

// registry is a registry in memory with the rules of a real one: an upload has a place of its own, content must have the digest that it is called, and a
// manifest is taken only when all its blobs are there.
type registry struct {
	*httptest.Server

	mu        sync.Mutex
	uploads   map[string][]byte
	blobs     map[string][]byte // by repository@digest, manifests too
	tags      map[string]string // by repository:tag
	manifests int               // that were sent
	refuse    func(manifest int) bool
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{uploads: map[string][]byte{}, blobs: map[string][]byte{}, tags: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		path := strings.TrimPrefix(req.URL.Path, "/v2/")
		for _, part := range []struct {
			name   string
			answer func(w http.ResponseWriter, req *http.Request, repository, rest string, body []byte)
		}{{"/blobs/uploads/", r.upload}, {"/blobs/", r.blob}, {"/manifests/", r.manifest}} {
			if repository, rest, ok := strings.Cut(path, part.name); ok {
				part.answer(w, req, repository, rest, body)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *registry) address() string { return strings.TrimPrefix(r.URL, "http://") }

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (r *registry) upload(w http.ResponseWriter, req *http.Request, repository, id string, body []byte) {
	if req.Method == http.MethodPost {
		id = strconv.Itoa(len(r.uploads))
		r.uploads[id] = nil
	}
	content, begun := r.uploads[id]
	if !begun {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	r.uploads[id] = append(content, body...)
	status := http.StatusAccepted
	if req.Method == http.MethodPut {
		status = http.StatusCreated
		if name := req.URL.Query().Get("digest"); digest(r.uploads[id]) != name {
			status = http.StatusBadRequest
		} else {
			r.blobs[repository+"@"+name] = r.uploads[id]
		}
	}
	w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/"+id+"?_state=x")
	w.WriteHeader(status)
}

func (r *registry) blob(w http.ResponseWriter, _ *http.Request, repository, name string, _ []byte) {
	content, ok := r.blobs[repository+"@"+name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(content)
}

func (r *registry) manifest(w http.ResponseWriter, req *http.Request, repository, reference string, body []byte) {
	if req.Method != http.MethodPut {
		if to, ok := r.tags[repository+":"+reference]; ok {
			reference = to
		}
		r.blob(w, req, repository, reference, nil)
		return
	}
	r.manifests++
	var m struct {
		Config push.Blob
		Layers []push.Blob
	}
	err := json.Unmarshal(body, &m)
	for _, b := range append(m.Layers, m.Config) {
		if content, ok := r.blobs[repository+"@"+b.Digest]; !ok || int64(len(content)) != b.Size {
			err = fmt.Errorf("blob %s unknown", b.Digest)
		}
	}
	if err != nil || r.refuse != nil && r.refuse(r.manifests) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.blobs[repository+"@"+digest(body)] = body
	r.tags[repository+":"+reference] = digest(body)
	w.Header().Set("Docker-Content-Digest", digest(body))
	w.WriteHeader(http.StatusCreated)
}
