package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	main "github.com/mooring-sh/mooring/integration/harborlike/roles"
)

const image = `{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"sha256:c","size":3},"layers":[{"digest":"sha256:l","size":5}]}`

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// kept is a database in memory. It notes in which order things happened.
type kept struct {
	mu     sync.Mutex
	events []string
	tags   map[string]string // digest by repository:tag
	broken error
}

func (k *kept) note(event string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, event)
}

func (k *kept) Record(_ context.Context, repository, tag string, m main.Manifest) error {
	k.note("committed " + repository + ":" + tag)
	if k.broken == nil {
		k.tags[repository+":"+tag] = m.Digest
	}
	return k.broken
}

func (k *kept) Forget(_ context.Context, repository, digest string) error {
	k.note("forgot " + repository + "@" + digest)
	return k.broken
}

func (k *kept) Digest(_ context.Context, repository, tag string) (string, error) {
	return k.tags[repository+":"+tag], k.broken
}

func (k *kept) Repositories(context.Context) ([]string, error) {
	return []string{"library/a"}, k.broken
}

func (k *kept) Tags(_ context.Context, repository string) ([]string, error) {
	if repository != "library/a" {
		return nil, k.broken
	}
	return []string{"v1"}, k.broken
}

// newCore returns core's address before a registry that takes everything.
func newCore(t *testing.T) (string, *kept) {
	t.Helper()
	k := &kept{tags: map[string]string{}}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.note("registry " + r.Method + " " + r.URL.Path)
		switch r.Method {
		case http.MethodPut:
			w.Header().Set("Docker-Content-Digest", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
			w.WriteHeader(http.StatusCreated)
		case http.MethodDelete:
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(registry.Close)
	to, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := httptest.NewServer(main.NewCore(slog.New(slog.DiscardHandler), k, to))
	t.Cleanup(c.Close)
	return c.URL, k
}

func ask(t *testing.T, method, to, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Harbor from 2.15 on: the registry never hears of a tag, and the client's 201 comes after the commit.
func TestPushIsAcknowledgedAfterItIsCommitted(t *testing.T) {
	t.Parallel()
	at, k := newCore(t)
	status, _ := ask(t, http.MethodPut, at+"/v2/library/a/manifests/v1", image)
	if status != http.StatusCreated {
		t.Errorf("status %d; want 201", status)
	}
	want := []string{"registry PUT /v2/library/a/manifests/" + digest(image), "committed library/a:v1"}
	if !slices.Equal(k.events, want) {
		t.Errorf("events %q; want %q", k.events, want)
	}
	k.broken = errors.New("no space left")
	if status, _ := ask(t, http.MethodPut, at+"/v2/library/a/manifests/v1", image); status != http.StatusInternalServerError {
		t.Errorf("status %d with a database that is broken; want 500", status)
	}
}

func TestTagIsResolvedInTheDatabase(t *testing.T) {
	t.Parallel()
	at, k := newCore(t)
	k.tags["library/a:v1"] = "sha256:1"
	for _, tt := range []struct {
		method, path, forwarded string
		status                  int
	}{
		{http.MethodGet, "/v2/library/a/manifests/v1", "GET /v2/library/a/manifests/sha256:1", http.StatusOK},
		{http.MethodHead, "/v2/library/a/manifests/v1", "HEAD /v2/library/a/manifests/sha256:1", http.StatusOK},
		{http.MethodGet, "/v2/library/a/manifests/sha256:2", "GET /v2/library/a/manifests/sha256:2", http.StatusOK},
		{http.MethodGet, "/v2/library/a/manifests/v2", "", http.StatusNotFound},
		{http.MethodGet, "/v2/library/a/blobs/sha256:3", "GET /v2/library/a/blobs/sha256:3", http.StatusOK},
		{http.MethodGet, "/v2/", "GET /v2/", http.StatusOK},
		{http.MethodGet, "/v2/library/a/tags/list", "", http.StatusOK},
		{http.MethodGet, "/v2/library/b/tags/list", "", http.StatusNotFound},
		{http.MethodGet, "/v2/_catalog", "", http.StatusOK},
		{http.MethodDelete, "/v2/library/a/manifests/v1", "", http.StatusMethodNotAllowed},
	} {
		k.events = nil
		status, _ := ask(t, tt.method, at+tt.path, "")
		if status != tt.status {
			t.Errorf("%s %s: status %d; want %d", tt.method, tt.path, status, tt.status)
		}
		var want []string
		if tt.forwarded != "" {
			want = []string{"registry " + tt.forwarded}
		}
		if !slices.Equal(k.events, want) {
			t.Errorf("%s %s: %q; want %q", tt.method, tt.path, k.events, want)
		}
	}
}

func TestDeletedManifestIsForgotten(t *testing.T) {
	t.Parallel()
	at, k := newCore(t)
	if status, _ := ask(t, http.MethodDelete, at+"/v2/library/a/manifests/sha256:1", ""); status != http.StatusAccepted {
		t.Errorf("status %d; want 202", status)
	}
	want := []string{"registry DELETE /v2/library/a/manifests/sha256:1", "forgot library/a@sha256:1"}
	if !slices.Equal(k.events, want) {
		t.Errorf("events %q; want %q", k.events, want)
	}
}

func TestManifestThatIsNotWhatItIsCalledIsRefused(t *testing.T) {
	t.Parallel()
	at, k := newCore(t)
	for path, body := range map[string]string{"sha256:1": image, "v1": "no manifest"} {
		if status, _ := ask(t, http.MethodPut, at+"/v2/library/a/manifests/"+path, body); status != http.StatusBadRequest {
			t.Errorf("PUT %s: status %d; want 400", path, status)
		}
	}
	if k.events != nil {
		t.Errorf("events %q; want none", k.events)
	}
}

func TestPingIsPong(t *testing.T) {
	t.Parallel()
	at, _ := newCore(t)
	if status, text := ask(t, http.MethodGet, at+"/api/v2.0/ping", ""); status != http.StatusOK || text != "Pong" {
		t.Errorf("%d %q; want 200 Pong", status, text)
	}
}

// The port is open while PostgreSQL replays its log. The real core takes that for ready, and dies.
func TestCoreDiesWhileTheDatabaseIsStartingUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // not core's look at the port
				body := "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"
				_, _ = conn.Write(append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(body)+4)), body...))
			}
			_ = conn.Close()
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	t.Setenv("POSTGRESQL_HOST", host)
	t.Setenv("POSTGRESQL_PORT", port)
	if err := main.PlayCore(t.Context(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "starting up") {
		t.Errorf("core ended with %v; want what the database said", err)
	}
}

// A proxy that has its address for core's is told so by every answer.
func TestJobserviceRefusesWhatIsMeantForCore(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(main.NewJobservice())
	defer s.Close()
	for path, want := range map[string]int{"/api/v1/stats": 200, "/api/v2.0/ping": 401, "/v2/": 401, "/v2/library/a/manifests/v1": 401, "/": 401} {
		if status, text := ask(t, http.MethodGet, s.URL+path, ""); status != want || want == 401 && !strings.Contains(text, "header 'Authorization' missing") {
			t.Errorf("GET %s: %d %s; want %d", path, status, text, want)
		}
	}
}

func TestRoleMustBeNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"portal"}, {"core", "jobservice"}} {
		if err := main.Play(t.Context(), args...); err == nil || !strings.Contains(err.Error(), "core, jobservice or registryctl") {
			t.Errorf("roles %q: %v; want what there is", args, err)
		}
	}
}
