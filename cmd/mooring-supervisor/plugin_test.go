package main_test

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	main "github.com/mooring-sh/mooring/cmd/mooring-supervisor"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

// What the plugin says of a volume decides whether a service may be started: what may still go by itself is told from what waits for a person.
func TestVolumeIsReadFromThePlugin(t *testing.T) {
	for name, c := range map[string]struct {
		view admin.View
		want supervisor.VolumeState
	}{
		"mounted":                   {admin.View{Mounted: true, Attached: true}, supervisor.VolumeMounted},
		"attached":                  {admin.View{Attached: true}, supervisor.VolumePresent},
		"detached":                  {admin.View{}, supervisor.VolumeAbsent},
		"taken":                     {admin.View{Conditions: []admin.Condition{{Code: "taken"}}}, supervisor.VolumeTaken},
		"fenced":                    {admin.View{Conditions: []admin.Condition{{Code: "fenced", Retried: true}}}, supervisor.VolumeFenced},
		"damaged":                   {admin.View{Attached: true, Conditions: []admin.Condition{{Code: "not-mounted"}}}, supervisor.VolumeDamaged},
		"vCenter is away":           {admin.View{Conditions: []admin.Condition{{Code: "not-mounted", Retried: true}}}, supervisor.VolumeFetching},
		"no disk":                   {admin.View{Conditions: []admin.Condition{{Code: "missing"}}}, supervisor.VolumeDamaged},
		"mounted, and not listed":   {admin.View{Mounted: true, Conditions: []admin.Condition{{Code: "missing"}}}, supervisor.VolumeMounted},
		"mounted, of another disk":  {admin.View{Mounted: true, Conditions: []admin.Condition{{Code: "foreign-mount"}}}, supervisor.VolumeDamaged},
		"a warning":                 {admin.View{Mounted: true, Conditions: []admin.Condition{{Code: "profile"}}}, supervisor.VolumeMounted},
		"a warning, and it is gone": {admin.View{Conditions: []admin.Condition{{Code: "busy"}, {Code: "taken"}}}, supervisor.VolumeTaken},
	} {
		if got := main.Volume(c.view); got.State != c.want {
			t.Errorf("%s: got %s, want %s", name, got.State, c.want)
		}
	}
}

// The plugin is asked over its socket, for volumes and for what vCenter saw; one that is not there, or refuses, is said with a cure.
func TestThePluginIsAsked(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	p := main.NewPlugin(socket)
	if _, reach := p.Observe(t.Context()); reach.OK() || reach.Cure != "systemctl start mooring-plugin.socket" {
		t.Errorf("without a plugin: got %+v", reach)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	broken := false
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.VolumesPath, func(w http.ResponseWriter, _ *http.Request) {
		if broken {
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(admin.Problem{Text: "no ledger", Hint: "mooring ledger rebuild", Code: "corrupt"})
			return
		}
		_ = json.NewEncoder(w).Encode(admin.Volumes{Volumes: []admin.View{{
			Name: "db", Conditions: []admin.Condition{{Code: "taken", Text: "VM2 has it", Cure: "stop it there"}},
		}}})
	})
	mux.HandleFunc("GET "+admin.RestartsPath, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(admin.Restarts{Sightings: []mooring.Sighting{{Text: r.URL.Query().Get("since")}}})
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	list, reach := p.Observe(t.Context())
	want := supervisor.Volume{Name: "db", State: supervisor.VolumeTaken, Text: "VM2 has it", Cure: "stop it there"}
	if !reach.OK() || len(list) != 1 || list[0] != want {
		t.Errorf("got %+v, %+v, want %+v", list, reach, want)
	}
	saw, err := p.Restarts(t.Context(), time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)))
	if err != nil || len(saw) != 1 || saw[0].Text != "2030-01-02T02:04:05Z" {
		t.Errorf("restarts: got %+v, %v", saw, err)
	}
	broken = true
	if _, reach := p.Observe(t.Context()); reach.Cure != "mooring ledger rebuild" || !strings.Contains(reach.Err, "no ledger") {
		t.Errorf("a plugin without a ledger: got %+v", reach)
	}
}
