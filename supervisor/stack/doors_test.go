package stack_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// harborDoor is a Harbor's proxy, as far as the doors are asked: /api/v2.0/ping, and a registry behind tokens whose realm is Harbor's own name.
type harborDoor struct {
	*httptest.Server

	ping   atomic.Value // string
	blobs  map[string]string
	tokens atomic.Int64
	ask    string // the challenge's scheme
}

func newHarborDoor(t *testing.T, secure bool) *harborDoor {
	t.Helper()
	d := &harborDoor{blobs: make(map[string]string), ask: "Bearer"}
	d.ping.Store("Pong")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2.0/ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, d.ping.Load()) })
	mux.HandleFunc("GET /service/token", func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if r.Host != "harbor.example.com" || !ok || user != "robot$prover" || password != "secret" || r.FormValue("scope") != "repository:library/app:pull" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		d.tokens.Add(1)
		_, _ = fmt.Fprint(w, `{"token": "T"}`)
	})
	mux.HandleFunc("GET /v2/library/app/", func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if r.Header.Get("Authorization") != "Bearer T" && (d.ask == "Bearer" || password != "secret") {
			challenge := d.ask + ` realm="https://harbor.example.com/service/token",service="harbor-registry",scope="repository:library/app:pull"`
			w.Header().Set("WWW-Authenticate", challenge)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		text, ok := d.blobs[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprint(w, text)
	})
	d.Server = httptest.NewUnstartedServer(mux)
	if secure {
		d.StartTLS()
	} else {
		d.Start()
	}
	t.Cleanup(d.Close)
	return d
}

func (d *harborDoor) put(text string) (digest string, size int) {
	sum := sha256.Sum256([]byte(text))
	digest = "sha256:" + hex.EncodeToString(sum[:])
	d.blobs[digest] = text
	return digest, len(text)
}

// push puts an image behind the tag, as an index with one manifest, and returns the digest of its smallest blob.
func (d *harborDoor) push(t *testing.T, tag string) string {
	t.Helper()
	entry := func(text string) map[string]any {
		digest, size := d.put(text)
		return map[string]any{"digest": digest, "size": size}
	}
	marshal := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	config := entry(`{"small": 1}`)
	manifest := entry(marshal(map[string]any{"config": config, "layers": []any{entry(strings.Repeat("layer", 100))}}))
	d.blobs[tag] = marshal(map[string]any{"manifests": []any{manifest}})
	digest, _ := config["digest"].(string)
	return digest
}

// port returns the server's port.
func (d *harborDoor) port(t *testing.T) int {
	t.Helper()
	u, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The stack is up when the published port gives the right answer, and not when something answers.
func TestDoorsAreAskedForTheRightAnswer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		door := newHarborDoor(t, secure)
		s, engine := harborBehind(t, door, secure, stack.Verify{})
		if got := s.Ask(t.Context()); !got.Right || got.At.IsZero() || !strings.Contains(got.Text, "/api/v2.0/ping: right") {
			t.Errorf("got %+v, want right", got)
		}
		door.ping.Store(`{"errors": [{"code": "UNAUTHORIZED"}]}`)
		if got := s.Ask(t.Context()); got.Right || !strings.Contains(got.Text, `want "Pong"`) {
			t.Errorf("the wrong service behind the proxy: got %+v, want wrong", got)
		}
		door.Close()
		if got := s.Ask(t.Context()); got.Right || !strings.Contains(got.Text, "connection refused") {
			t.Errorf("nobody there: got %+v, want connection refused", got)
		}
		engine.change("proxy", func(c *container) { c.Ports = nil })
		engine.crash("proxy", 1)
		eventually(t, "the answer says that the proxy is down", func() bool {
			observe(t, s)
			got := s.Ask(t.Context())
			return !got.Right && got.Text == "proxy is exited"
		})
	}
}

// A pull-only account proves one manifest and one blob by hashing them. What the redirects and realms name is Harbor's own name, which is this door.
func TestDoorsArePulledThrough(t *testing.T) {
	door := newHarborDoor(t, false)
	config := door.push(t, "1")
	verify := stack.Verify{Account: "robot$prover", Password: func() (string, error) { return "secret", nil }, Image: "library/app:1"}
	s, _ := harborBehind(t, door, false, verify)
	if got := s.Ask(t.Context()); !got.Right || !strings.Contains(got.Text, "hashed, right") || door.tokens.Load() == 0 {
		t.Errorf("got %+v with %d tokens, want right", got, door.tokens.Load())
	}
	door.ask = "Basic"
	if got := s.Ask(t.Context()); !got.Right {
		t.Errorf("a registry that asks for a password: got %+v, want right", got)
	}
	whole := door.blobs[config]
	for damage, text := range map[string]string{"changed": strings.ToUpper(whole), "cut": whole[:5], "empty": "", "longer": whole + " "} {
		door.blobs[config] = text
		if got := s.Ask(t.Context()); got.Right || !strings.Contains(got.Text, config) {
			t.Errorf("a blob that is %s: got %+v, want wrong, naming %s", damage, got, config)
		}
	}
	delete(door.blobs, config)
	if got := s.Ask(t.Context()); got.Right || !strings.Contains(got.Text, "404") {
		t.Errorf("a blob that is gone: got %+v, want wrong", got)
	}
	door.blobs["1"] = ""
	if got := s.Ask(t.Context()); got.Right || !strings.Contains(got.Text, "manifest") {
		t.Errorf("an empty manifest: got %+v, want wrong", got)
	}
	verify.Password = func() (string, error) { return "wrong", nil }
	other, _ := harborBehind(t, door, false, verify)
	if got := other.Ask(t.Context()); got.Right || strings.Contains(fmt.Sprintf("%+v %s", got, verify.Password), "wrong\"") {
		t.Errorf("a wrong password: got %+v", got)
	}
}

func TestChallengeIsRead(t *testing.T) {
	got := stack.Parameters(`realm="https://h/service/token",service=x, scope="repository:a:pull,push"`)
	want := map[string]string{"realm": "https://h/service/token", "service": "x", "scope": "repository:a:pull,push"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for image, want := range map[string][2]string{
		"library/app": {"library/app", "latest"}, "library/app:1": {"library/app", "1"}, "a@sha256:0": {"a", "sha256:0"},
	} {
		if repository, reference := stack.SplitImage(image); [2]string{repository, reference} != want {
			t.Errorf("%s: got %s and %s", image, repository, reference)
		}
	}
}

// harborBehind returns a stack like Harbor's whose proxy publishes the door, and its Docker.
func harborBehind(t *testing.T, door *harborDoor, secure bool, verify stack.Verify) (*stack.Stack, *fakeEngine) {
	t.Helper()
	engine := newFakeEngine(t)
	port := docker.Port{Container: 8080, Protocol: "tcp", HostIP: "0.0.0.0", Host: door.port(t)}
	if secure {
		port.Container = 8443
	}
	engine.add(container{ID: "p1", Name: "nginx", Service: "proxy", State: "running", Ports: []docker.Port{port}})
	profile, err := stack.LoadProfile("harbor")
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, engine, stack.Config{Profile: profile, Verify: verify})
	observe(t, s)
	return s, engine
}
