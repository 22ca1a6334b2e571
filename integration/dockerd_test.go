package integration_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	dockerSocket = "/run/docker.sock"
	image        = "mooring-test"
	patience     = 60 * time.Second
)

// dockerd is a Docker Engine of the test's own.
type dockerd struct {
	dir     string
	flags   []string // besides those that every one has
	log     *os.File
	cmd     *exec.Cmd
	running bool
}

// newDockerd starts an engine with an empty data directory, loads the test image and ends it all with the test.
func newDockerd(t *testing.T) *dockerd {
	t.Helper()
	d := &dockerd{dir: t.TempDir()}
	var err error
	if d.log, err = os.Create(filepath.Join(d.dir, "dockerd.log")); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	t.Cleanup(func() {
		d.stop(t)
		// A killed engine leaves its data directory mounted on itself, and containers' filesystems in it.
		_ = exec.Command("umount", "--recursive", filepath.Join(d.dir, "data")).Run()
	})
	load := exec.CommandContext(t.Context(), "docker", "import", "-", image)
	load.Stdin = bytes.NewReader(imageTar(t))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("load the test image: %v\n%s", err, out)
	}
	return d
}

// start starts the engine and waits until its API answers.
func (d *dockerd) start(t *testing.T) {
	t.Helper()
	_ = os.Remove("/run/docker.pid") // a killed engine leaves it
	// containerd outlives a killed dockerd, which finds it again.
	flags := append([]string{"--data-root", filepath.Join(d.dir, "data"), "--iptables=false", "--bridge=none", "--log-level=warn"}, d.flags...)
	d.cmd = exec.Command("dockerd", flags...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start dockerd: %v", err)
	}
	d.running = true
	defer func() {
		if t.Failed() {
			said, err := os.ReadFile(d.log.Name())
			t.Logf("dockerd says (%v):\n%s", err, said)
		}
	}()
	until(t, "dockerd answers", func() bool { return exec.Command("docker", "version").Run() == nil })
}

// kill ends the engine at once; its containers are killed when the next one starts.
func (d *dockerd) kill(t *testing.T) { d.end(t, syscall.SIGKILL) }

// stop ends the engine in order.
func (d *dockerd) stop(t *testing.T) { d.end(t, syscall.SIGTERM) }

func (d *dockerd) end(t *testing.T, sig os.Signal) {
	t.Helper()
	if !d.running {
		return
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		t.Errorf("end dockerd: %v", err)
	}
	_ = d.cmd.Wait() // the signal is the error
	d.running = false
}

// imageTar returns a root filesystem with Debian's static busybox.
func imageTar(t *testing.T) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("the test image needs busybox-static: %v", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		t.Helper()
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, applet := range []string{"sh", "cat", "echo", "ls", "sleep", "touch", "sync", "rm", "test", "true", "id", "stat"} {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(tar.Header{Name: "seed/file", Mode: 0o644}, []byte("copied up\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// docker runs the command and returns its standard output without the last line break; it must succeed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryDocker(t, args...)
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tryDocker runs the command and returns what it printed.
func tryDocker(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// until waits for what other processes do.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("after %s it is not so that %s", patience, what)
		}
	}
}
