package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/internal/admin"
)

// rig is everything at once: a simulated vCenter, the plugin under a service manager, and a Docker Engine.
type rig struct {
	*lab.Lab

	unit   *lab.Unit
	docker *dockerd
}

// newRig starts it all, with short waits (disks linger for a second). At its end nothing may have been detached from under anybody, and no
// disk may stay attached that nobody holds.
func newRig(t *testing.T) *rig {
	t.Helper()
	needRoot(t)
	r := &rig{}
	var err error
	if r.Lab, err = lab.Start(t.Context(), lab.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		mutable(t, r.MountDir())
	})
	config := []string{"log_level: debug", "linger: 1s", "boot_linger: 1s", "refresh: 1s"}
	if r.unit, err = r.StartUnit(lab.UnitOptions{Binary: build(t, "mooring-plugin"), Extra: config}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.endUnit(t) })
	r.ready(t)
	r.docker = newDockerd(t)
	t.Cleanup(func() { r.endContainers(t) })
	return r
}

// endContainers removes all containers, so that nobody holds anything, and waits until no disk is attached.
func (r *rig) endContainers(t *testing.T) {
	t.Helper()
	if t.Failed() || !r.docker.running {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	remove := exec.CommandContext(ctx, "sh", "-c", "docker ps -aq | xargs -r docker rm -f")
	if out, err := remove.CombinedOutput(); err != nil {
		t.Errorf("remove containers: %v\n%s", err, out)
	}
	until(t, "no disk is attached that nobody holds", func() bool { return len(r.attached()) == 0 })
}

func (r *rig) endUnit(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := r.unit.Close(ctx); err != nil {
		t.Errorf("end the plugin: %v", err)
	}
	for _, v := range r.Violations() {
		t.Errorf("a disk was detached while it was in use: %+v", v)
	}
	log, err := os.ReadFile(r.unit.LogFile())
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(log), "DATA RACE") || t.Failed() {
		t.Logf("the plugin's log:\n%s", log)
	}
	if strings.Contains(string(log), "DATA RACE") {
		t.Error("the plugin has a data race")
	}
}

// mutable takes the flag from unmounted mount directories that keeps everybody from writing there, or removing them.
func mutable(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("chattr", "-R", "-i", dir).CombinedOutput(); err != nil {
		t.Errorf("chattr: %v: %s", err, out)
	}
}

// ready waits until the plugin serves.
func (r *rig) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.unit.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// killPlugin kills the plugin; the service manager starts it again.
func (r *rig) killPlugin(t *testing.T) {
	t.Helper()
	if err := r.unit.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mark returns a place in the plugin's log.
func (r *rig) mark(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(r.unit.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// calls returns the operations that dockerd asked for since the mark.
func (r *rig) calls(t *testing.T, mark int64) []string {
	t.Helper()
	f, err := os.Open(r.unit.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if _, err := f.Seek(mark, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var ops []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "msg=request op="); ok {
			ops = append(ops, strings.Fields(rest)[0])
		}
	}
	return ops
}

// ask gets a path of the plugin's admin socket.
func (r *rig) ask(t *testing.T, path string, into any) {
	t.Helper()
	ask(t, r.unit.AdminSocket(), path, into)
}

// ask gets a path of an admin socket.
func ask(t *testing.T, socket, path string, into any) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) view(t *testing.T, name mooring.Name) admin.View {
	t.Helper()
	var v admin.View
	r.ask(t, admin.VolumePath(name), &v)
	return v
}

// mustHold fails unless the volume has so many holders.
func (r *rig) mustHold(t *testing.T, name mooring.Name, want int) {
	t.Helper()
	if v := r.view(t, name); len(v.Holders) != want {
		t.Errorf("%s: got holders %v, want %d", name, v.Holders, want)
	}
}

// detached waits until the volume's disk has left this machine.
func (r *rig) detached(t *testing.T, name mooring.Name) {
	t.Helper()
	until(t, string(name)+" is detached", func() bool { return !r.view(t, name).Attached })
}

// reconfigured returns how many ReconfigVM tasks vCenter has finished.
func (r *rig) reconfigured() int { return r.Tasks()["ReconfigVM_Task"].Succeeded }

// within says whether ok holds before the time is over.
func within(limit time.Duration, ok func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
	return true
}
