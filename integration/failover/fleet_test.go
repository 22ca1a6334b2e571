//go:build machines

package failover_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/lab/cluster"
	"github.com/mooring-sh/mooring/integration/lab/image"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const (
	// scale is how many times faster than vSphere's the lab's clocks run.
	scale = 10

	// writerImage is the image of the writers, and writerBinary where the guest itself has the program.
	writerImage  = "mooring-writer"
	writerBinary = "/usr/local/bin/mooring-writer"

	one = "docker1"
	two = "docker2"
)

// fleet is a lab with its machines, which the cases use one after the other.
type fleet struct {
	*cluster.Cluster

	kind    kind
	dir     string
	witness *failover.Witness
	begun   time.Time
	stack   *stack // nil: the machines have none
}

// kind is what machines a case needs.
type kind string

const (
	trixie   kind = "two machines with Debian 13"
	bookworm kind = "one machine with Debian 12 and Docker 20.10"
	steady   kind = "two machines with Debian 13, two processors each, and a clock that counts their instructions" // for measurements

	// Of these, the first machine has a stack that is built like Harbor's.
	harbor    kind = "one machine with Debian 13 and a stack"
	harborTwo kind = "two machines with Debian 13, one with a stack"
	harborOld kind = "one machine with Debian 12, Docker 20.10 and a stack"
)

// stacked says whether the first machine has a stack.
func (k kind) stacked() bool { return k == harbor || k == harborTwo || k == harborOld }

// shape writes what machines the kind has into the lab's options. A stack has as many processors as this machine is expected to have.
func (k kind) shape(o *cluster.Options) {
	o.VMs = 2
	switch k {
	case trixie:
	case steady:
		o.CPUs, o.Accel = 2, qemu.Counted
	case bookworm:
		o.VMs, o.Suites = 1, []image.Suite{image.Bookworm}
	case harbor:
		o.VMs, o.CPUs = 1, 2
	case harborTwo:
		o.CPUs = 2
	case harborOld:
		o.VMs, o.CPUs, o.Suites = 1, 2, []image.Suite{image.Bookworm}
	}
}

// settings go after the configuration that the lab writes. Idle disks go soon, because each case ends with looking whether they are gone.
const settings = "linger: 3s\nboot_linger: 10s\nrefresh: 10s\nlog_level: debug\n"

// builds are made once for a run.
type builds struct {
	writer  []byte // the program
	rootfs  []byte // the image, as a tar
	deb     string // the package
	newer   string // one of a newer version
	problem error
}

//nolint:gochecknoglobals // what is built is built once
var buildOnce = sync.OnceValue(func() builds {
	var b builds
	b.writer, b.problem = compile("writer", "./writer")
	if b.problem == nil {
		b.rootfs, b.problem = writerRoot(b.writer)
	}
	if b.problem == nil {
		b.deb, b.newer, b.problem = debs()
	}
	return b
})

// debs makes the package twice, of two versions, as make packages does.
func debs() (deb, newer string, err error) {
	dir, err := artefactDir()
	if err != nil {
		return "", "", err
	}
	var made []string
	for _, version := range []string{"0.0.0~suite1", "0.0.0~suite2"} {
		cmd := exec.Command("go", "run", "./packaging", "-out", filepath.Join(dir, "packages"), "-version", version, "-arch", "amd64", "-kind", "deb")
		cmd.Dir = filepath.Join("..", "..")
		var talk strings.Builder
		cmd.Stderr = &talk
		out, err := cmd.Output()
		if err != nil {
			return "", "", fmt.Errorf("make the package: %w\n%s", err, talk.String())
		}
		made = append(made, strings.TrimSpace(string(out)))
	}
	return made[0], made[1], nil
}

// writerRoot is an image with nothing but the writer.
func writerRoot(binary []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: "writer", Mode: 0o755, Size: int64(len(binary))})
	_, err2 := w.Write(binary)
	return buf.Bytes(), errors.Join(err, err2, w.Close())
}

// newFleet boots the machines and installs on each what the cases need.
func newFleet(ctx context.Context, k kind, say io.Writer, artefacts string) (*fleet, error) {
	built := buildOnce()
	if built.problem != nil {
		return nil, built.problem
	}
	f := &fleet{kind: k, dir: artefacts, witness: failover.NewWitness(), begun: time.Now()}
	log, err := os.Create(filepath.Join(artefacts, "lab.log"))
	if err != nil {
		return nil, err
	}
	opts := cluster.Options{
		Dir: filepath.Join(artefacts, "lab"), Hosts: 3, TimeScale: scale, Say: say,
		Log:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnLine: func(_, stream, line string) { f.witness.Note(stream, line, time.Now()) }, Packages: []string{built.deb},
		HA: monitoring(),
	}
	k.shape(&opts)
	if f.Cluster, err = cluster.Start(ctx, opts); err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	problems := make([]error, len(f.Names()))
	for i, vm := range f.Names() {
		all.Go(func() { problems[i] = f.furnish(ctx, vm, built) })
	}
	all.Wait()
	err = errors.Join(problems...)
	if err == nil && k.stacked() {
		f.stack, err = newStack(ctx, f, one)
	}
	if err != nil {
		f.save(context.WithoutCancel(ctx), artefacts)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// monitoring is vSphere's, but for its patience: times are a tenth, and in software emulation a guest may be silent for a few seconds and takes two
// minutes or three to boot. As many resets as the cases need are allowed.
func monitoring() vcenter.HA {
	return vcenter.HA{Monitoring: true, MonitorInterval: 5 * time.Minute, MinUptime: 40 * time.Minute, MaxResets: 1000}
}

// furnish puts the writer on a machine, lets its plugin wait less than usual, and its dockerd be restarted more often: systemd gives up a service that is
// started a fourth time within a minute, and several cases in a row do that.
func (f *fleet) furnish(ctx context.Context, vm string, built builds) error {
	m := f.VM(vm)
	if err := m.CopyIn(ctx, bytes.NewReader(built.writer), writerBinary, 0o755); err != nil {
		return fmt.Errorf("copy the writer to %s: %w", vm, err)
	}
	if err := m.CopyIn(ctx, bytes.NewReader(built.rootfs), "/tmp/writer.tar", 0o644); err != nil {
		return fmt.Errorf("copy the writer's image to %s: %w", vm, err)
	}
	script := `cat >>/etc/mooring/mooring.yaml <<'END'
` + settings + `END
mkdir -p /etc/systemd/system/docker.service.d
printf '[Unit]\nStartLimitIntervalSec=0\n' >/etc/systemd/system/docker.service.d/often.conf
systemctl daemon-reload
systemctl restart mooring-plugin
until docker version >/dev/null 2>&1; do sleep 0.2; done
docker import --change 'ENTRYPOINT ["/writer"]' /tmp/writer.tar ` + writerImage + ` >/dev/null
rm /tmp/writer.tar`
	_, err := m.Shell(ctx, script)
	if err != nil {
		return fmt.Errorf("furnish %s: %w", vm, err)
	}
	return nil
}

// volumeOf returns the name of the volume that lies at that backing; false: it is no volume.
func volumeOf(backing string) (string, bool) {
	_, file, ok := strings.Cut(backing, "/default/") // below dockvols, of which vSAN shows the folder's UUID
	if !ok {
		return "", false
	}
	return strings.CutSuffix(file, ".vmdk")
}

// attached returns the volumes in the machine's hardware list.
func (f *fleet) attached(vm string) []string {
	var out []string
	for _, m := range f.Machines() {
		for _, d := range m.Disks {
			if name, ok := volumeOf(d.Backing); ok && m.Name == vm {
				out = append(out, name)
			}
		}
	}
	return out
}

func (f *fleet) on(vm string) bool {
	return slices.ContainsFunc(f.Machines(), func(m vcenter.Machine) bool { return m.Name == vm && m.PoweredOn })
}

// hostOf returns the host that runs the machine.
func (f *fleet) hostOf(vm string) string {
	for _, m := range f.Machines() {
		if m.Name == vm {
			return m.Host
		}
	}
	return ""
}

// extent returns the file on this machine that holds the volume's bytes.
func (f *fleet) extent(tb testing.TB, vol string) string {
	tb.Helper()
	var found string
	err := filepath.WalkDir(f.dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == vol+"-flat.vmdk" {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		tb.Fatalf("the extent of %s: got %q, %v", vol, found, err)
	}
	return found
}

// save keeps what helps to understand a failure.
func (f *fleet) save(ctx context.Context, dir string) {
	_ = os.MkdirAll(dir, 0o755) // the writes below will say it
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "failover: keep", name, "of the failure:", err)
		}
	}
	var events strings.Builder
	for _, e := range f.Events() {
		fmt.Fprintf(&events, "%s %-40s %-10s %-22s %s\n", e.Time.Format("15:04:05.000"), e.Type, e.VM, e.Host, e.Text)
	}
	write("events.txt", []byte(events.String()))
	write("machines.txt", fmt.Appendf(nil, "%+v\n%+v\n", f.Hosts(), f.Machines()))
	for _, vm := range f.Names() {
		m := f.VM(vm)
		if console, err := os.ReadFile(m.ConsoleFile()); err == nil {
			write(vm+".console", console)
		}
		limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
		scripts := map[string]string{
			"journal": "journalctl --no-pager -o short-precise -n 20000", "containers": "docker ps -a; docker volume ls; for c in $(docker ps -aq); do docker inspect $c; done",
			"ledger": "head -c 1000000 /var/lib/mooring/*", "status": "mooring status; mooring volume ls; findmnt; lsblk -o +SERIAL; ps aux",
		}
		if f.kind.stacked() {
			scripts["recovery"] = "mooring stack ps; mooring recovery ls; mooring recovery show; mooring recovery show -o json"
			scripts["logs"] = "tail -n 300 /var/log/harbor/*.log " + stackDir + "/docker-compose.override.yml " + toldFile
		}
		for name, script := range scripts {
			out, err := m.Shell(limit, script+" 2>&1 || true")
			if err != nil {
				out += "\n" + err.Error()
			}
			write(vm+"."+name, []byte(out))
		}
		cancel()
	}
}
