package plugin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/plugin"
)

// healthy is a machine with which nothing is wrong.
func healthy() plugin.Observed {
	return plugin.Observed{
		Inspection: mooring.Inspection{
			Machine: mooring.Machine{Name: "docker1"}, DiskUUIDs: mooring.Yes, Controllers: 4, SnapshotsOK: mooring.Yes, RightsOK: mooring.Yes,
			HA: mooring.HA{Cluster: "C", Enabled: mooring.Yes, Restart: mooring.Yes, Override: mooring.No},
		},
		Around: plugin.Surroundings{SystemdSocket: mooring.Yes, DockerAfter: mooring.Yes, LiveRestore: mooring.No, WritableOK: mooring.Yes},
	}
}

// G21: each line is one thing that may be wrong or not known with a machine that is healthy otherwise: the check that says so, with what it names. Whatever wants something
// done says what.
func TestG21Examine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*plugin.Observed)
		code   string
		want   admin.Result
		names  string
	}{
		"no UUIDs":                   {func(o *plugin.Observed) { o.Inspection.DiskUUIDs = mooring.No }, "disk-uuids", admin.Fails, "disk.EnableUUID"},
		"UUIDs not readable":         {func(o *plugin.Observed) { o.Inspection.DiskUUIDs = mooring.Unknown }, "disk-uuids", admin.Untold, "may not read"},
		"UUIDs seen":                 {func(o *plugin.Observed) { o.Inspection.DiskUUIDs = mooring.Unknown; o.Attached = []mooring.Name{"db"} }, "disk-uuids", admin.Fine, "sees"},
		"one controller":             {func(o *plugin.Observed) { o.Inspection.Controllers = 1 }, "controllers", admin.Warns, "there are 1"},
		"HA off":                     {func(o *plugin.Observed) { o.Inspection.HA.Enabled, o.Inspection.HA.Restart = mooring.No, mooring.No }, "ha", admin.Warns, "off in the cluster C"},
		"no cluster":                 {func(o *plugin.Observed) { o.Inspection.HA = mooring.HA{Enabled: mooring.No, Restart: mooring.No} }, "ha", admin.Warns, "no cluster"},
		"restart disabled":           {func(o *plugin.Observed) { o.Inspection.HA.Restart, o.Inspection.HA.Override = mooring.No, mooring.Yes }, "ha", admin.Warns, "settings of its own"},
		"restart disabled for all":   {func(o *plugin.Observed) { o.Inspection.HA.Restart = mooring.No }, "ha", admin.Warns, "restart of machines is disabled"},
		"restarted by its own":       {func(o *plugin.Observed) { o.Inspection.HA.Override = mooring.Yes }, "ha", admin.Fine, "settings of its own"},
		"HA not readable":            {func(o *plugin.Observed) { o.Inspection.HA = mooring.HA{} }, "ha", admin.Untold, "may not read"},
		"cluster readable, HA not":   {func(o *plugin.Observed) { o.Inspection.HA = mooring.HA{Cluster: "C"} }, "ha", admin.Untold, "may not read"},
		"snapshots":                  {func(o *plugin.Observed) { o.Inspection.Snapshots = []string{"before"} }, "snapshots", admin.Warns, "before"},
		"snapshots not readable":     {func(o *plugin.Observed) { o.Inspection.SnapshotsOK = mooring.Unknown }, "snapshots", admin.Untold, "may not read"},
		"a privilege is missing":     {func(o *plugin.Observed) { o.Inspection.Missing = []string{"X.Y on docker1"} }, "rights", admin.Fails, "X.Y on docker1"},
		"rights not told":            {func(o *plugin.Observed) { o.Inspection.RightsOK = mooring.Unknown }, "rights", admin.Untold, "does not say"},
		"no policy service":          {func(o *plugin.Observed) { o.Inspection.Policies = "503 Service Unavailable" }, "policies", admin.Warns, "503"},
		"a twin":                     {func(o *plugin.Observed) { o.Inspection.Twins = []string{"docker1-copy"} }, "identity", admin.Warns, "docker1-copy"},
		"a clone":                    {func(o *plugin.Observed) { o.Moved = true }, "identity", admin.Warns, "clone"},
		"ledger behind":              {func(o *plugin.Observed) { o.Behind = true }, "ledger", admin.Warns, "newest generation"},
		"volumes attached":           {func(o *plugin.Observed) { o.Attached = []mooring.Name{"db", "web"} }, "attached", admin.Note, "db, web"},
		"socket of our own":          {func(o *plugin.Observed) { o.Around.SystemdSocket = mooring.No }, "socket", admin.Warns, "itself"},
		"socket of nobody knows":     {func(o *plugin.Observed) { o.Around.SystemdSocket = mooring.Unknown }, "socket", admin.Untold, "cannot be told"},
		"Docker before":              {func(o *plugin.Observed) { o.Around.DockerAfter = mooring.No }, "order", admin.Warns, "not ordered"},
		"no systemd":                 {func(o *plugin.Observed) { o.Around.DockerAfter = mooring.Unknown }, "order", admin.Untold, "does not say"},
		"live restore":               {func(o *plugin.Observed) { o.Around.LiveRestore = mooring.Yes }, "live-restore", admin.Note, "is on"},
		"Docker is not there":        {func(o *plugin.Observed) { o.Around.LiveRestore = mooring.Unknown }, "live-restore", admin.Untold, "does not answer"},
		"an unprotected directory":   {func(o *plugin.Observed) { o.Around.Writable = []string{"/mnt/db"} }, "mountpoints", admin.Warns, "/mnt/db"},
		"directories not looked at":  {func(o *plugin.Observed) { o.Around.WritableOK = mooring.Unknown }, "mountpoints", admin.Untold, "could not"},
		"vCenter away":               {func(o *plugin.Observed) { o.Unreachable = errors.New("connection refused") }, "vcenter", admin.Fails, "connection refused"},
		"vCenter away, so no rights": {func(o *plugin.Observed) { o.Unreachable = errors.New("connection refused") }, "rights", admin.Untold, "not asked"},
	} {
		o := healthy()
		c.change(&o)
		for _, got := range plugin.Examine(o) {
			if got.Result.Wants() && got.Cure == "" {
				t.Errorf("%s: %+v names no cure", name, got)
			}
			if got.Code == c.code && (got.Result != c.want || !strings.Contains(got.Text, c.names)) {
				t.Errorf("%s: got %+v, want %s with %q", name, got, c.want, c.names)
			}
			if got.Code != c.code && got.Result.Wants() && c.code != "rights" {
				t.Errorf("%s: something else is wrong: %+v", name, got)
			}
		}
	}
}

// G21: with a healthy machine nothing wants anything done.
func TestG21ExamineOfAHealthyMachine(t *testing.T) {
	checks := plugin.Examine(healthy())
	if i := slices.IndexFunc(checks, func(c admin.Check) bool { return c.Result != admin.Fine }); i >= 0 || len(checks) != 14 {
		t.Errorf("got %+v, want 14 checks and nothing found", checks)
	}
}

// inspector is a vCenter that answers, or does not.
type inspector struct {
	in  mooring.Inspection
	err error
}

func (i inspector) Inspect(context.Context) (mooring.Inspection, error) { return i.in, i.err }

func (i inspector) Restarts(_ context.Context, since time.Time) ([]mooring.Sighting, error) {
	return []mooring.Sighting{{At: since.Add(time.Minute), Type: "VmPoweredOnEvent", Host: "esx2", Text: "powered on"}}, i.err
}

// G9, G21: the doctor looks at the driver as it is, and says of what vCenter would have to say that it is not known while vCenter is away.
func TestG21Doctor(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir(), func(s *plugin.Settings) { s.Behind = true })
	r.create(t, "db")
	r.create(t, "web")
	r.mount(t, "db", "c1", dockerd(1))
	ask := func() map[string]admin.Check {
		t.Helper()
		rec := httptest.NewRecorder()
		r.AdminHandler(plugin.About{Version: "v1"}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, admin.DoctorPath, nil))
		var doc admin.Doctor
		if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil || doc.Version != "v1" {
			t.Fatalf("got %s, %v", rec.Body, err)
		}
		checks := make(map[string]admin.Check)
		for _, c := range doc.Checks {
			checks[c.Code] = c
		}
		return checks
	}
	r.Inspector = inspector{in: healthy().Inspection}
	r.Around = func(context.Context, bool) plugin.Surroundings { return healthy().Around }
	checks := ask()
	if c := checks["attached"]; c.Result != admin.Note || !strings.Contains(c.Text, "db") || strings.Contains(c.Text, "web") {
		t.Errorf("attached: got %+v, want db alone", c)
	}
	if checks["ledger"].Result != admin.Warns || checks["vcenter"].Result != admin.Fine || checks["socket"].Result != admin.Fine {
		t.Errorf("got %+v", checks)
	}
	r.Inspector = inspector{err: mooring.ErrUnavailable}
	checks = ask()
	if checks["vcenter"].Result != admin.Fails || checks["ha"].Result != admin.Untold || checks["attached"].Result != admin.Note {
		t.Errorf("without vCenter: got %+v", checks)
	}
}

// What vCenter saw of restarts is passed on as it is, and an error as one: it is evidence, which nobody waits for for long.
func TestRestartsArePassedOn(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	ask := func(query string) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		r.AdminHandler(plugin.About{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, admin.RestartsPath+query, nil))
		return rec.Code, strings.TrimSpace(rec.Body.String())
	}
	const since = "?since=2030-01-02T03:04:05Z"
	if code, body := ask(since); code != http.StatusServiceUnavailable {
		t.Errorf("nobody asks vCenter: got %d %s", code, body)
	}
	r.Inspector = inspector{}
	want := `{"sightings":[{"at":"2030-01-02T03:05:05Z","type":"VmPoweredOnEvent","host":"esx2","text":"powered on"}]}`
	if code, body := ask(since); code != http.StatusOK || body != want {
		t.Errorf("got %d %s, want %s", code, body, want)
	}
	if code, body := ask("?since=yesterday"); code != http.StatusBadRequest {
		t.Errorf("no time: got %d %s", code, body)
	}
	r.Inspector = inspector{err: mooring.ErrUnavailable}
	if code, body := ask(since); code != http.StatusServiceUnavailable {
		t.Errorf("vCenter is away: got %d %s", code, body)
	}
}
