package integration_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/supervisor/images"
)

const (
	proxyAddress = "127.0.0.1:80" // where the stack is reached
	pingPath     = "/api/v2.0/ping"
	layerSize    = 1 << 20 // of the images that are pushed
)

// harbor is the stack built like Harbor's, on a Docker Engine of the test's own.
type harbor struct {
	docker  *dockerd
	dir     string
	records []push.Record // of all that was pushed
}

// newHarbor returns a stack that is ready to be started, on Docker's own volumes.
func newHarbor(t *testing.T) *harbor {
	t.Helper()
	needRoot(t)
	return newHarborOn(t, newDockerd(t), "local")
}

// newHarborOn does so on an engine that runs, with volumes of that driver.
func newHarborOn(t *testing.T, d *dockerd, driver string) *harbor {
	t.Helper()
	archive, err := harborlike.Get(t.Context(), harborlike.Options{})
	if err != nil {
		t.Fatal(err)
	}
	loading := time.Now()
	docker(t, "load", "--input", archive)
	t.Logf("the images are loaded in %.1f s", time.Since(loading).Seconds())
	h := &harbor{docker: d, dir: filepath.Join(t.TempDir(), "harbor")}
	if err := harborlike.Write(h.dir, harborlike.Project{Data: filepath.Join(h.dir, "data"), Logs: filepath.Join(h.dir, "log")}); err != nil {
		t.Fatal(err)
	}
	for _, volume := range []string{"vsanvol1", "vsanvol2", "vsanvol3"} {
		docker(t, "volume", "create", "--driver", driver, volume)
	}
	h.script(t, harborlike.Prepare)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", "--volumes", "nginx", "harbor-log").Run() }) // nothing restarts against the engine's end
	return h
}

// script runs one of the project's scripts.
func (h *harbor) script(t *testing.T, name string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(h.dir, name)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// up brings up what is not running.
func (h *harbor) up(t *testing.T) {
	t.Helper()
	h.compose(t, "up", "-d")
}

func (h *harbor) compose(t *testing.T, args ...string) {
	t.Helper()
	argv := []string{"docker-compose"}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		argv = []string{"docker", "compose"}
	}
	cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], args...)...)
	cmd.Dir = h.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// get asks the proxy.
func get(ctx context.Context, path string) (int, string) { return askProxy(ctx, http.MethodGet, path) }

func askProxy(ctx context.Context, method, path string) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+proxyAddress+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

func (h *harbor) pong(t *testing.T) {
	t.Helper()
	until(t, "the proxy answers Pong", func() bool {
		status, text := get(t.Context(), pingPath)
		return status == http.StatusOK && text == "Pong"
	})
}

// push pushes as many images as there are pushers.
func (h *harbor) push(t *testing.T, seed uint64) {
	t.Helper()
	note := func(r push.Record) error {
		h.records = append(h.records, r)
		return nil
	}
	l := push.Load{Pushers: 3, Images: 2, Tags: 2, Layers: 2, LayerSize: layerSize, Seed: seed}
	if err := push.New(proxyAddress, patience).Run(t.Context(), l, note, func(err error) error { return err }); err != nil {
		t.Fatal(err)
	}
}

// registryAnswers waits until the registry does, through the proxy: Pong is core's word alone.
func registryAnswers(t *testing.T) {
	t.Helper()
	until(t, "the registry answers", func() bool {
		status, _ := get(t.Context(), "/v2/")
		return status == http.StatusOK
	})
}

// proved pulls everything that was acknowledged so far, once the registry answers.
func (h *harbor) proved(t *testing.T) {
	t.Helper()
	registryAnswers(t)
	v, err := push.New(proxyAddress, patience).Check(t.Context(), h.records)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Misses) > 0 || v.Images != len(h.records)/2 {
		t.Errorf("after %d pushes: %+v", len(h.records)/2, v)
	}
}

// services are the names of the stack's containers.
func services() []string {
	return []string{
		"harbor-core", "harbor-db", "harbor-jobservice", "harbor-log", "harbor-portal", "nginx", "redis", "registry", "registryctl",
	}
}

// The supervisor is tested on this stack: so it must do what Harbor does, above all where Harbor fails.
func TestStackIsLikeHarbors(t *testing.T) {
	h := newHarbor(t)
	began := time.Now()
	h.up(t)
	up := time.Since(began)
	h.pong(t)
	t.Logf("up -d takes %.1f s, and Pong comes %.1f s after its begin", up.Seconds(), time.Since(began).Seconds())
	h.settled(t)
	t.Logf("memory:\n%s", docker(t, "stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}"))

	for _, step := range []struct {
		name string
		does func(*testing.T)
	}{
		{"processes have Harbor's users", h.users},
		{"pushed images are pulled", h.pushedAndPulled},
		{"a kill of all containers loses nothing", h.killed},
		{"damaged blobs are found and put right, whatever redis remembers", h.damagedBlobs},
		{"a registry without its log service stays down", h.logServiceLate},
		{"the proxy takes jobservice for core", h.staleUpstream},
	} {
		if !t.Run(step.name, step.does) {
			return // the next one begins with a stack that is well
		}
	}
}

func (h *harbor) running(t *testing.T) int {
	t.Helper()
	return len(strings.Fields(docker(t, "ps", "--quiet", "--filter", "status=running")))
}

// settled waits until all containers run, and the last one for good: jobservice ends as long as core does not answer.
func (h *harbor) settled(t *testing.T) {
	t.Helper()
	until(t, "all containers run", func() bool {
		_, err := tryDocker(t, "exec", "harbor-jobservice", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/api/v1/stats")
		return err == nil && h.running(t) == len(services())
	})
}

func (h *harbor) users(t *testing.T) {
	for container, user := range map[string]string{
		"harbor-core": "10000", "harbor-db": "999", "harbor-jobservice": "10000", "harbor-portal": "10000", "nginx": "10000", "redis": "999",
		"registry": "10000", "registryctl": "10000", "harbor-log": "10000",
	} {
		until(t, container+" runs as "+user, func() bool { // rsyslogd begins as root
			return docker(t, "exec", "--user", "0", container, "stat", "-c", "%u", "/proc/1") == user
		})
	}
	for volume, want := range map[string]string{"registry:/storage": "10000", "harbor-jobservice:/var/log/jobs": "10000", "harbor-db:/var/lib/postgresql/data": "999"} {
		container, dir, _ := strings.Cut(volume, ":")
		if got := docker(t, "exec", container, "stat", "-c", "%u", dir); got != want {
			t.Errorf("%s belongs to %s; want %s", volume, got, want)
		}
	}
}

func (h *harbor) pushedAndPulled(t *testing.T) {
	h.push(t, 1)
	h.push(t, 2) // moves the tags
	h.proved(t)
	docker(t, "pull", "--quiet", proxyAddress+"/library/load-0:v1")
	if out := docker(t, "exec", "registryctl", "find", "/storage", "-name", "tags"); out != "" {
		t.Errorf("the registry knows tags: %s", out)
	}
	count := "SELECT count(*) FROM tag t JOIN artifact a ON a.id = t.artifact_id JOIN artifact_blob b ON b.digest_af = a.digest"
	// Six tags, each of an image of a manifest, a configuration and two layers.
	if got := docker(t, "exec", "harbor-db", "psql", "-U", "postgres", "-d", "registry", "-Atc", count); got != "24" {
		t.Errorf("the database has %s blobs of images with tags; want 24", got)
	}
	if got := docker(t, "exec", "redis", "redis-cli", "-n", "1", "dbsize"); got == "0" {
		t.Error("the registry has put nothing into redis")
	}
	until(t, "there is a job log", func() bool {
		log, err := tryDocker(t, "exec", "harbor-jobservice", "sh", "-c", "cat /var/log/jobs/*.log")
		return err == nil && strings.Contains(log, "job 1 done")
	})
	if logs := docker(t, "exec", "harbor-log", "ls", "/var/log/docker"); !strings.Contains(logs, "registry.log") || !strings.Contains(logs, "proxy.log") {
		t.Errorf("the log service has written %s", logs)
	}
}

func (h *harbor) killed(t *testing.T) {
	docker(t, append([]string{"kill"}, services()...)...)
	began := time.Now()
	h.up(t)
	h.pong(t)
	t.Logf("Pong comes %.1f s after a kill of all and the begin of up -d", time.Since(began).Seconds())
	h.settled(t)
	h.proved(t)
}

// redis is the registry's memory of its blobs.
type redis struct{ t *testing.T }

// Flush empties it.
func (r redis) Flush(context.Context) error {
	docker(r.t, "exec", "redis", "redis-cli", "-n", "1", "flushdb") //nolint:contextcheck // it has the test's
	return nil
}

// Blobs that are damaged while the registry is down: the registry goes by what redis remembers, Mooring by the bytes.
func (h *harbor) damagedBlobs(t *testing.T) {
	dir := docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", "vsanvol1")
	backup := filepath.Join(t.TempDir(), "storage")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", dir, backup).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address, stop, err := powercut.Serve(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	source, err := remote.Open(remote.Access{Registry: address}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	storage, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, redisAnswers := range map[string]int{"redis remembers": http.StatusOK, "redis is empty": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			snap, err := storage.Scan(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			layers := layersOf(snap, "library/load-0")
			for _, d := range layers {
				if got := head(t.Context(), "library/load-0", d); got != http.StatusOK {
					t.Fatalf("the registry answers %d for %s", got, d)
				}
			}
			docker(t, "kill", "registry")
			if redisAnswers == http.StatusNotFound {
				_ = redis{t}.Flush(t.Context())
			}
			r := layouttest.At(t, dir)
			r.Truncate(r.Data(layers[0]), 100)
			r.Truncate(r.Data(layers[1]), 0)
			r.Flip(r.Data(layers[2]), 1000)
			r.Remove(r.Data(layers[3]))
			docker(t, "start", "registry")
			registryAnswers(t)
			if got := head(t.Context(), "library/load-0", layers[3]); got != redisAnswers {
				t.Errorf("for a blob that is gone the registry answers %d, want %d", got, redisAnswers)
			}
			outcomes, v, err := images.RepairAll(t.Context(), &images.Repair{Storage: storage, From: source, Caches: redis{t}}, layout.Pace{Direct: true}, nil)
			if err != nil || v.Damaged() {
				t.Errorf("after the repair: %v, %v", v.Findings, err)
			}
			repaired := map[registry.Digest]images.Kind{}
			for _, o := range outcomes {
				if o.Repaired && o.Finding.Repository == "library/load-0" {
					repaired[o.Finding.Digest] = o.Finding.Kind
				}
			}
			want := map[registry.Digest]images.Kind{layers[0]: images.BlobSize, layers[1]: images.BlobSize, layers[2]: images.BlobDamaged, layers[3]: images.BlobMissing}
			if !maps.Equal(repaired, want) {
				t.Errorf("repaired %v, want %v", repaired, want)
			}
			if got := head(t.Context(), "library/load-0", layers[3]); got != http.StatusOK {
				t.Errorf("for a blob that was fetched the registry answers %d", got)
			}
			h.proved(t)
		})
	}
}

// layersOf returns a repository's layers: the blobs that are large.
func layersOf(snap *layout.Snapshot, repository string) (layers []registry.Digest) {
	for _, r := range snap.Repositories {
		for _, l := range r.Layers {
			if r.Name == repository && snap.Blobs[l.Target].Size >= layerSize {
				layers = append(layers, l.Target)
			}
		}
	}
	return layers
}

// head returns what the registry answers when it is asked whether it has a blob.
func head(ctx context.Context, repository string, d registry.Digest) int {
	status, _ := askProxy(ctx, http.MethodHead, "/v2/"+repository+"/blobs/"+string(d))
	return status
}

// Docker starts a container again that ends, and never one whose log driver was not there.
func (h *harbor) logServiceLate(t *testing.T) {
	docker(t, "kill", "harbor-log", "registry")
	if out, err := tryDocker(t, "start", "registry"); err == nil || !strings.Contains(out, "failed to initialize logging driver") {
		t.Errorf("registry started without its log service: %v %s", err, out)
	}
	docker(t, "start", "harbor-log")
	until(t, "the log service listens", func() bool {
		return strings.Contains(docker(t, "exec", "harbor-log", "netstat", "-ltn"), ":10514")
	})
	const state = "{{.State.Status}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}"
	if got := docker(t, "inspect", "--format", state, "registry"); got != "exited 0 always" {
		t.Errorf("registry is %q; want exited, and not started again", got)
	}
	docker(t, "start", "registry")
	h.proved(t)
}

// Every container is well, and every answer is wrong. The proxy heals by a reload.
func (h *harbor) staleUpstream(t *testing.T) {
	for range 2 {
		h.script(t, harborlike.StaleUpstream)
		if status, text := get(t.Context(), pingPath); status != http.StatusUnauthorized || !strings.Contains(text, "Authorization") {
			t.Fatalf("the proxy answers %d %s; want jobservice's 401", status, text)
		}
		if got := h.running(t); got != len(services()) {
			t.Errorf("%d containers run; want all", got)
		}
		docker(t, "exec", "nginx", "nginx", "-s", "reload")
		h.pong(t)
	}
	h.proved(t)
	names := strings.Fields(docker(t, "ps", "--all", "--format", "{{.Names}}"))
	if slices.Sort(names); !slices.Equal(names, services()) {
		t.Errorf("containers %v; want %v", names, services())
	}
}
