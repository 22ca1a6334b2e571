package plugin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/plugin"
)

// problemOf returns the error that crossed the socket.
func problemOf(t *testing.T, body []byte) error {
	t.Helper()
	var p admin.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatal(err)
	}
	return p.Err()
}

// release asks for a release as the command does, and returns the answer or the error that crosses the socket.
func (r *rig) release(t *testing.T, name mooring.Name, body string) (admin.Released, error) {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, admin.ReleasePath(name), strings.NewReader(body))
	r.AdminHandler(plugin.About{}).ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		return admin.Released{}, problemOf(t, rec.Body.Bytes())
	}
	var done admin.Released
	if err := json.Unmarshal(rec.Body.Bytes(), &done); err != nil {
		t.Fatal(err)
	}
	return done, nil
}

// G16: a volume of a powered-off machine is released when it is asked for, refused while the machine may write, and attached by nobody but a container.
func TestG16Release(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	if _, err := r.world.Create(t.Context(), mooring.Spec{Name: "db"}, mooring.Given{}); err != nil { // the other machine's
		t.Fatal(err)
	}
	r.world.set(func() { r.world.disks["db"].owner = "docker1" })
	const ask = `{"from": "docker1"}`
	_, err := r.release(t, "db", ask)
	if hint, ok := errors.AsType[*mooring.HintError](err); !errors.Is(err, mooring.ErrInUse) || !ok || hint.Hint == "" || !strings.HasPrefix(err.Error(), "release db: docker1") {
		t.Errorf("powered on: got %v, want ErrInUse with a hint", err)
	}
	r.world.set(func() { r.world.off = map[string]bool{"docker1": true} })
	for _, want := range []bool{true, false} {
		if done, err := r.release(t, "db", ask); err != nil || done != (admin.Released{Volume: "db", From: "docker1", Released: want}) {
			t.Errorf("powered off: got %+v, %v, want released %t", done, err, want)
		}
	}
	if d := r.world.disk("db"); d.attached || r.world.count("attach") != 0 {
		t.Errorf("attached by the release: %+v", d)
	}
	if _, err := r.Get(t.Context(), "db"); err != nil { // dockerd always asks first
		t.Fatal(err)
	}
	r.mount(t, "db", "c1", dockerd(1))
	if n := r.log.count("op=release", "vm=docker1"); n != 3 {
		t.Errorf("logged %d times, want once for each request", n)
	}
}

// G11, G16: what cannot be released is said, and vCenter is not asked for it.
func TestG16ReleaseOfNothing(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	for name, c := range map[string]struct {
		volume mooring.Name
		body   string
		want   error
	}{
		"no such volume":      {"none", `{"from": "docker1"}`, mooring.ErrNotFound},
		"no machine named":    {"db", `{}`, mooring.ErrInvalid},
		"no body":             {"db", ``, mooring.ErrInvalid},
		"not a volume's name": {"a", `{"from": "docker1"}`, mooring.ErrInvalid},
	} {
		if _, err := r.release(t, c.volume, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if n := r.world.count("release"); n != 0 {
		t.Errorf("asked vCenter %d times, want 0", n)
	}
	r.world.set(func() { r.world.down = true })
	if _, err := r.release(t, "db", `{"from": "docker1"}`); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("without vCenter: got %v, want ErrUnavailable", err)
	}
}
