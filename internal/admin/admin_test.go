package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// The command's exit code hangs on the sentinel, so it must not change by crossing the socket.
func TestErrorsCrossTheSocketWithTextHintAndSentinel(t *testing.T) {
	sentinels := map[error]int{
		mooring.ErrInvalid:     http.StatusBadRequest,
		mooring.ErrNotFound:    http.StatusNotFound,
		mooring.ErrExists:      http.StatusConflict,
		mooring.ErrInUse:       http.StatusConflict,
		mooring.ErrFenced:      http.StatusLocked,
		mooring.ErrPolicy:      http.StatusUnprocessableEntity,
		mooring.ErrCapacity:    http.StatusInsufficientStorage,
		mooring.ErrCorrupt:     http.StatusInternalServerError,
		mooring.ErrUnavailable: http.StatusServiceUnavailable,
		errors.New("boom"):     http.StatusInternalServerError,
	}
	for sentinel, wantStatus := range sentinels {
		t.Run(sentinel.Error(), func(t *testing.T) {
			err := error(&mooring.VolumeError{Op: "remove", Name: "db", Err: fmt.Errorf("it: %w", sentinel)})
			err = &mooring.HintError{Err: err, Hint: "docker compose stop"}

			problem, status := admin.ProblemOf(err)
			if status != wantStatus {
				t.Errorf("status %d, want %d", status, wantStatus)
			}
			wire, marshalErr := json.Marshal(problem)
			if marshalErr != nil {
				t.Fatal(marshalErr)
			}
			var arrived admin.Problem
			if unmarshalErr := json.Unmarshal(wire, &arrived); unmarshalErr != nil {
				t.Fatal(unmarshalErr)
			}
			got := arrived.Err()
			if got.Error() != err.Error() {
				t.Errorf("text %q, want %q", got, err)
			}
			if hint, ok := errors.AsType[*mooring.HintError](got); !ok || hint.Hint != "docker compose stop" {
				t.Errorf("hint %v, want docker compose stop", hint)
			}
			if got, want := mooring.ExitCode(got), mooring.ExitCode(err); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

func TestErrorWithoutHintGetsNone(t *testing.T) {
	problem, _ := admin.ProblemOf(mooring.ErrNotFound)
	if hint, ok := errors.AsType[*mooring.HintError](problem.Err()); ok {
		t.Errorf("hint %q, want none", hint.Hint)
	}
}

// A name may hold spaces, percent signs and non-ASCII letters; the server must get back what the user typed.
func TestVolumePathReachesTheServerUnescaped(t *testing.T) {
	for _, name := range []mooring.Name{"db", "a b", "50%", "a?b#c", "größe", "..x", "a%2Fb"} {
		var got string
		mux := http.NewServeMux()
		mux.HandleFunc(admin.VolumePattern, func(_ http.ResponseWriter, r *http.Request) { got = r.PathValue("name") })
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, admin.VolumePath(name), nil))
		if got != string(name) {
			t.Errorf("%s: server got %q, want %q", admin.VolumePath(name), got, name)
		}
	}
}

// Scripts read these keys; lists are never null, so that jq '.holders[]' works on a volume without holders.
func TestViewHasThePublishedKeys(t *testing.T) {
	view := admin.NewView(mooring.Volume{
		Spec:    mooring.Spec{Name: "db", Size: 20 * mooring.GB, FSType: mooring.Ext4, Policy: "SW=2"},
		Backing: "[vsanDatastore] dockvols/default/db.vmdk",
		Created: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC),
	})
	got, err := json.Marshal(view)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"db","size":"20gb","size_bytes":21474836480,"fstype":"ext4","policy":"SW=2","profile":"",` +
		`"backing":"[vsanDatastore] dockvols/default/db.vmdk","datastore":"vsanDatastore","disk":"",` +
		`"created":"2020-01-02T03:04:05Z","created_by":"","format":"","mountpoint":"","attached":false,"mounted":false,` +
		`"holders":[],"policy_applied":"","policy_reported":"","compliance":"","sidecar":"unknown","conditions":[]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
