package plugin_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/plugin"
)

// ask sends one call of the protocol and returns the answer's fields.
func ask(t *testing.T, h http.Handler, verb, body string) map[string]any {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+verb, strings.NewReader(body)))
	var got map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s: %v in %q", verb, err, rec.Body)
	}
	return got
}

// G11: dockerd repeats a request whose connection broke with an empty body, which must not be taken for a volume without a name.
func TestG11EmptyNameIsRefusedOnEveryVerb(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	for _, verb := range []string{"Create", "Remove", "Mount", "Unmount", "Path", "Get"} {
		for _, body := range []string{"", "{}", `{"Name":""}`} {
			if verb == "Get" && body == "" {
				continue // see TestG1RepeatedLookUpIsNotAnswered
			}
			got := ask(t, r.Handler(), "VolumeDriver."+verb, body)
			if e, _ := got["Err"].(string); !strings.Contains(e, "volume name is empty") {
				t.Errorf("%s %q: got %v, want an error about the name", verb, body, got)
			}
		}
	}
	if n := len(r.world.calls); n != 0 {
		t.Errorf("calls: got %v, want none", r.world.calls)
	}
}

// G1: a look-up that dockerd repeats with an empty body is about a volume that it knows. Any error would make it forget that volume's labels and references.
func TestG1RepeatedLookUpIsNotAnswered(t *testing.T) {
	srv := httptest.NewServer(newRig(t, newWorld(), t.TempDir()).Handler())
	defer srv.Close()
	res, err := srv.Client().Post(srv.URL+"/VolumeDriver.Get", "", http.NoBody)
	if err == nil {
		res.Body.Close() //nolint:errcheck,gosec // a failure already
		t.Errorf("got status %s, want a broken connection", res.Status)
	}
}

func TestProtocol(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	h := r.Handler()
	for _, c := range []struct{ verb, body, want string }{
		{"Plugin.Activate", "", `{"Implements":["VolumeDriver"]}`},
		{"VolumeDriver.Capabilities", "", `{"Capabilities":{"Scope":"global"}}`},
		{"VolumeDriver.List", "", `{"Volumes":[]}`},
		{"VolumeDriver.Create", `{"Name":"db","Opts":{"size":"1gb"}}`, `{}`},
		{"VolumeDriver.Create", `{"Name":"db","Opts":{"size":"1pb"}}`, `{"Err":"create db: size \"1pb\": want a whole number followed by mb, gb or tb, such as 10gb: invalid"}`},
		{"VolumeDriver.List", "", `{"Volumes":[{"Name":"db"}]}`},
		{"VolumeDriver.Path", `{"Name":"db"}`, `{"Mountpoint":""}`},
		{"VolumeDriver.Mount", `{"Name":"db","ID":"c1"}`, `{"Mountpoint":"/mnt/db/data"}`},
		{"VolumeDriver.Path", `{"Name":"db"}`, `{"Mountpoint":"/mnt/db/data"}`},
		{"VolumeDriver.List", "", `{"Volumes":[{"Name":"db","Mountpoint":"/mnt/db/data"}]}`},
		{"VolumeDriver.Remove", `{"Name":"db"}`, `{"Err":"remove db: held by 1 mount(s) of Docker: in use (hint: docker ps --filter volume=db)"}`},
		{"VolumeDriver.Unmount", `{"Name":"db","ID":"c1"}`, `{}`},
		{"VolumeDriver.Unmount", `{"Name":"db","ID":"c1"}`, `{}`},
		{"VolumeDriver.Remove", `{"Name":"db"}`, `{}`},
		{"VolumeDriver.Get", `{"Name":"db"}`, `{"Err":"get db: no such volume: not found"}`},
		{"VolumeDriver.Mount", `{"Name":"db","ID":"c1"}`, `{"Err":"mount db: volume \"db\" in the ledger: not found"}`},
		{"VolumeDriver.Get", `not json`, `{"Err":"request: `},
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+c.verb, strings.NewReader(c.body)))
		if got := strings.TrimSpace(rec.Body.String()); !strings.HasPrefix(got, strings.TrimSuffix(c.want, "}")) {
			t.Errorf("%s %s:\ngot  %s\nwant %s", c.verb, c.body, got, c.want)
		}
	}
}

// docker volume inspect shows the policy that vCenter reports, never an untrue "none".
func TestGetShowsStatus(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	h := r.Handler()
	ask(t, h, "VolumeDriver.Create", `{"Name":"db","Opts":{"vsan-policy-name":"SW=2"}}`)
	status := func() map[string]any {
		vol, _ := ask(t, h, "VolumeDriver.Get", `{"Name":"db"}`)["Volume"].(map[string]any)
		st, _ := vol["Status"].(map[string]any)
		return st
	}
	st := status()
	if st["status"] != "detached" || st["vsan-policy-name"] != "SW=2" || st["policy reported by vCenter"] != "none while detached; last applied: SW=2" {
		t.Errorf("detached: got %v", st)
	}
}

// G10: while no generation of the ledger can be read, connections are closed without an answer: dockerd keeps what it knows.
func TestG10NoAnswerWithoutALedger(t *testing.T) {
	srv := httptest.NewServer(plugin.Unanswered(slog.New(slog.DiscardHandler)))
	defer srv.Close()
	post := func(path string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, nil)
		if err != nil {
			return "", err
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close() //nolint:errcheck // read to its end
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	for _, verb := range []string{"Get", "List", "Mount", "Unmount", "Create", "Remove", "Path", "Capabilities"} {
		if body, err := post("/VolumeDriver." + verb); err == nil {
			t.Errorf("%s: got the answer %q, want none", verb, body)
		}
	}
	if body, err := post("/Plugin.Activate"); err != nil || !strings.Contains(body, "VolumeDriver") {
		t.Errorf("activate: got %q, %v", body, err)
	}
}

func TestAdminSocket(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	get := func(path string, into any) int {
		t.Helper()
		rec := httptest.NewRecorder()
		r.AdminHandler(plugin.About{Version: "v1", VCenter: "https://vc/sdk"}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
		return rec.Code
	}
	var vols admin.Volumes
	get(admin.VolumesPath, &vols)
	if len(vols.Volumes) != 1 || !vols.Volumes[0].Mounted || vols.Volumes[0].Sidecar != admin.SidecarPresent {
		t.Errorf("volumes: got %+v", vols)
	}
	var v admin.View
	get(admin.VolumePath("db"), &v)
	if v.Mountpoint != "/mnt/db/data" || len(v.Holders) != 1 || v.SizeBytes != 10*mooring.GB {
		t.Errorf("volume: got %+v", v)
	}
	var p admin.Problem
	if code := get(admin.VolumePath("no/such"), &p); code != http.StatusNotFound || mooring.ExitCode(p.Err()) != 10 {
		t.Errorf("unknown volume: got %d %+v", code, p)
	}
	rec := httptest.NewRecorder()
	r.AdminHandler(plugin.About{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, admin.RebuildPath, nil))
	if rec.Code != http.StatusConflict {
		t.Errorf("rebuild of a ledger that can be read: got %d %s, want a refusal", rec.Code, rec.Body)
	}
	var st admin.Status
	get(admin.StatusPath, &st)
	if st.Version != "v1" || st.Volumes != 1 || st.Mounted != 1 || st.Held != 1 {
		t.Errorf("status: got %+v", st)
	}
}
