package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// oneBadGeneration loses the newest generation of the ledger, with a holder in it that the older one does not know. Containers go on with their volumes, labels and
// holders are right, and once vCenter can be asked nothing is left of the damage.
func oneBadGeneration(t *testing.T, r *rig) {
	newVolume(t, "va")
	docker(t, "start", "va")
	newVolume(t, "vb")
	docker(t, "start", "vb") // the newest generation alone has its holder
	r.stopPlugin(t)
	truncate(t, r.ledgers(t)[0])
	if err := r.StopServing(); err != nil {
		t.Fatal(err)
	}
	r.startPlugin(t)
	if got := r.conditions(t); !slices.Contains(got, "ledger-behind") {
		t.Errorf("got conditions %v, want ledger-behind among them", got)
	}
	for _, name := range []string{"va", "vb"} {
		docker(t, "exec", name, "touch", "/d/kept")
		if got := inspect(t, name, "{{.Labels.keep}}"); got != "me" {
			t.Errorf("%s: got label %q, want me", name, got)
		}
		fails(t, "in use", "volume", "rm", name)
	}
	if err := r.StartServing(); err != nil {
		t.Fatal(err)
	}
	until(t, "the ledger has caught up", func() bool { return !slices.Contains(r.conditions(t), "ledger-behind") })
	for _, name := range []string{"va", "vb"} {
		if len(r.view(t, mooring.Name(name)).Holders) == 0 {
			t.Errorf("%s: has no holder while its container runs", name)
		}
		docker(t, "stop", name)
	}
	for _, name := range []mooring.Name{"va", "vb"} {
		until(t, string(name)+" is held by nobody", func() bool { return len(r.view(t, name).Holders) == 0 })
		r.detached(t, name)
		docker(t, "start", string(name))
		docker(t, "exec", string(name), "test", "-e", "/d/kept")
	}
}

// lostLedger loses both generations. dockerd gets no answer, the one reply after which it keeps labels and references; the command says what is
// wrong, and a rebuild cures it under a running container, also for the requests that dockerd repeats meanwhile, with empty bodies.
func lostLedger(t *testing.T, r *rig) {
	newVolume(t, "va")
	docker(t, "start", "va")
	docker(t, "exec", "va", "touch", "/d/kept")
	r.stopPlugin(t)
	for _, f := range r.ledgers(t) {
		truncate(t, f)
	}
	mark := r.mark(t)
	r.startPlugin(t)
	var asking sync.WaitGroup
	asking.Go(func() { fails(t, "", "volume", "inspect", "va") })
	until(t, "dockerd asks", func() bool {
		return strings.Count(string(read(t, r.unit.LogFile())[mark:]), "left without an answer") >= 2
	})
	if got := r.conditions(t); !slices.Equal(got, []string{"ledger-lost"}) {
		t.Errorf("got conditions %v, want ledger-lost alone", got)
	}
	status, err := exec.CommandContext(t.Context(), build(t, "mooring"), "status").CombinedOutput()
	if !strings.Contains(string(status), "ledger rebuild") {
		t.Errorf("mooring status: got %v, want the cure\n%s", err, status)
	}
	rebuilt, err := exec.CommandContext(t.Context(), build(t, "mooring"), "ledger", "rebuild").CombinedOutput()
	if err != nil || !strings.Contains(string(rebuilt), "1 volume(s)") {
		t.Errorf("rebuild: got %v, want the one volume\n%s", err, rebuilt)
	}
	asking.Wait()
	r.ready(t)
	if got := inspect(t, "va", "{{.Labels.keep}}"); got != "me" {
		t.Errorf("got label %q, want me", got)
	}
	fails(t, "in use", "volume", "rm", "va")
	docker(t, "exec", "va", "test", "-e", "/d/kept")
	if len(r.view(t, "va").Holders) == 0 {
		t.Error("the volume has no holder while its container runs")
	}
	docker(t, "stop", "va")
	r.detached(t, "va")
	r.mustHold(t, "va", 0)
}

// conditions returns the codes of all that is wrong.
func (r *rig) conditions(t *testing.T) []string {
	t.Helper()
	var st admin.Status
	r.ask(t, admin.StatusPath, &st)
	var codes []string
	for _, c := range st.Conditions {
		codes = append(codes, c.Code)
	}
	return codes
}

// post sends a request to a Unix socket and returns the answer's body, empty if there was no answer.
func post(t *testing.T, socket, path, body string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://plugin"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ledgers returns the files of the ledger that there are, the newest first.
func (r *rig) ledgers(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.Dir(), "state", "ledger.[01]"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the ledger: got files %v, %v", files, err)
	}
	if len(files) == 2 && r.generation(t, files[1]) > r.generation(t, files[0]) {
		files[0], files[1] = files[1], files[0]
	}
	return files
}

func (r *rig) generation(t *testing.T, file string) int {
	t.Helper()
	_, rest, _ := strings.Cut(string(read(t, file)), "generation=")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return n
}
