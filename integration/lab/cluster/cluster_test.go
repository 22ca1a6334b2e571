//go:build machines

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/integration/lab/cluster"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const (
	one = "docker1"
	two = "docker2"

	bootWait = 5 * time.Minute  // with everything else that the machine does
	soon     = 60 * time.Second // for what takes a moment
)

// lab is a lab for one test.
type lab struct {
	*cluster.Cluster

	mu    sync.Mutex
	lines []string // that the guests sent
}

func start(t *testing.T, opts cluster.Options) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the images of machines have root's files")
	}
	l := &lab{}
	opts.Dir, opts.Say = filepath.Join(t.TempDir(), "lab"), t.Output()
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	opts.OnLine = func(vm, stream, line string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, vm+" "+stream+" "+line)
	}
	c, err := cluster.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	l.Cluster = c
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}

func (l *lab) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// shell runs a script in a machine, which must succeed, and returns what it prints.
func (l *lab) shell(t *testing.T, vm, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootWait)
	defer cancel()
	out, err := l.VM(vm).Shell(ctx, script)
	if err != nil {
		t.Fatalf("%s: %s: %v", vm, script, err)
	}
	return strings.TrimSpace(out)
}

// machine returns what vCenter knows of the machine.
func (l *lab) machine(t *testing.T, name string) vcenter.Machine {
	t.Helper()
	all := l.Machines()
	i := slices.IndexFunc(all, func(m vcenter.Machine) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("vCenter has %+v, want %s among them", all, name)
	}
	return all[i]
}

// host returns the host of that name as vCenter shows it.
func (l *lab) host(t *testing.T, name string) vcenter.Host {
	t.Helper()
	all := l.Hosts()
	i := slices.IndexFunc(all, func(h vcenter.Host) bool { return h.Name == name })
	if i < 0 {
		t.Fatalf("vCenter has %+v, want %s among them", all, name)
	}
	return all[i]
}

// nextBoot waits for another boot of the machine.
func (l *lab) nextBoot(t *testing.T, vm, before string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootWait)
	defer cancel()
	if _, err := l.VM(vm).AwaitBoot(ctx, before); err != nil {
		t.Fatal(err)
	}
}

// until waits until the condition holds.
func until(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(within)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}

// plugin returns what the plugin in the machine has of vSphere.
func (l *lab) plugin(t *testing.T, vm string) *esx.Host {
	t.Helper()
	a := l.Plugin()
	account := esx.Account{URL: l.URL(), Username: a.User, Password: esx.Secret(a.Password), CAFile: l.CAFile()}
	s, err := esx.NewSession(account, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close the session: %v", err)
		}
	})
	return esx.NewHost(s, esx.Where{VM: l.machine(t, vm).BIOS, Linger: time.Second}, slog.New(slog.DiscardHandler))
}

// The cluster is what the failover suite stands on: each of its promises once, on two machines that are used one after the other.
func TestMachinesThatBootAndDie(t *testing.T) {
	l := start(t, cluster.Options{TimeScale: 10, Files: []cluster.File{{Path: "/etc/lab/greeting", Mode: 0o640, Text: "hello\n"}}})
	t.Run("machines have what they need to be hosts of containers", l.furnished)
	t.Run("a disk that is attached through vCenter appears, and outlives the host", l.hostDies)
	t.Run("an isolated host's machines run on", l.hostIsolated)
	t.Run("a machine whose process dies is started again", l.processDies)
	t.Run("a guest that powers itself off is off in vCenter", l.guestPowersOff)
	t.Run("cables are pulled one by one", l.cablesPulled)
	t.Run("a frozen machine goes on where it was", l.frozen)
	t.Run("a fresh root has nothing of the old", l.freshRoot)
	t.Run("nothing is left", l.nothingLeft)
}

func (l *lab) furnished(t *testing.T) {
	for _, vm := range l.Names() {
		if got := l.shell(t, vm, "hostname; cat /etc/lab/greeting; stat -c %a /etc/lab/greeting /etc/mooring/vcenter-password; docker version -f '{{.Server.Os}}'"); got != vm+"\nhello\n640\n600\nlinux" {
			t.Errorf("%s: got %q, want its name, the file with its mode, the password for root alone, and Docker", vm, got)
		}
		want := strings.ToLower(l.machine(t, vm).BIOS)
		if got := strings.ToLower(l.shell(t, vm, "cat /sys/class/dmi/id/product_uuid")); got != want {
			t.Errorf("%s: got UUID %s, want %s", vm, got, want)
		}
		l.shell(t, vm, reachVCenter)
	}
	l.shell(t, one, reachOther)
	l.shell(t, one, `perl -MIO::Socket::UNIX -e 'print {IO::Socket::UNIX->new("/run/mooring-lab/lines.sock") or die $!} "greeting from docker1\n"'`)
	if got := l.shell(t, one, published); got != "served\nserved" {
		t.Errorf("got %q from a container, want what it serves at its published port and to its neighbour", got)
	}
	until(t, soon, "the line that the guest sent", func() bool { return slices.Contains(l.heard(), one+" greeting from "+one) })
}

// reachVCenter succeeds in a guest that reaches vCenter at the address that the plugin is configured with.
const reachVCenter = `at=$(sed -n 's#.*https://\([^/]*\)/sdk.*#\1#p' /etc/mooring/mooring.yaml)
timeout 10 bash -c "exec 3<>/dev/tcp/${at%:*}/${at#*:}"`

// reachOther succeeds in the first machine if the second answers it, which refuses a connection that nobody serves.
const reachOther = `for i in 1 2 3; do timeout 5 bash -c '>/dev/tcp/` + two + `/9' 2>&1 | grep -q refused && exit; done; exit 1`

// published asks a container at its published port, and by its name from another one: what a compose stack needs of a network.
const published = `mkdir /tmp/www && echo served >/tmp/www/index.html
docker network create stack >/dev/null
docker run -d --rm --name web --network stack -p 127.0.0.1:8080:80 -v /tmp/www:/www busybox:lab httpd -f -h /www >/dev/null
timeout 30 sh -c 'until busybox wget -q -O - http://127.0.0.1:8080/; do sleep 0.2; done' 2>/dev/null
docker run --rm --network stack busybox:lab wget -q -O - http://web/
docker kill web >/dev/null
docker network rm stack >/dev/null`

// dataDisk is the link by which a guest finds the disk.
func dataDisk(vol mooring.Volume) string {
	return "/dev/disk/by-id/wwn-0x" + strings.ReplaceAll(string(vol.Disk), "-", "")
}

func (l *lab) hostDies(t *testing.T) {
	plugin := l.plugin(t, one)
	vol, err := plugin.Create(t.Context(), mooring.Spec{Name: "data", Size: 256 * mooring.MB, FSType: mooring.Ext4}, mooring.Given{Size: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := plugin.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	link := dataDisk(vol)
	await := "timeout 200 sh -c 'until [ -b " + link + " ]; do sleep 0.1; done'\n"
	l.shell(t, one, await+"mkfs.ext4 -q "+link+"\nmount "+link+" /mnt\necho acknowledged >/mnt/data\nsync /mnt/data /mnt\necho lost >/run/memory")
	boot, host := l.VM(one).Boot(), l.machine(t, one).Host
	began := time.Now()
	if err := l.KillHost(host); err != nil {
		t.Fatal(err)
	}
	if got := l.host(t, host); got.State != "notResponding" {
		t.Errorf("dead host: got %+v, want it not responding", got)
	}
	l.nextBoot(t, one, boot)
	t.Logf("the machine answers again %s after its host died", time.Since(began).Round(time.Second))
	if got := l.machine(t, one); got.Host == host || !got.PoweredOn || len(got.Disks) != 2 {
		t.Errorf("got %+v, want it on, on another host than %s, with its two disks", got, host)
	}
	if got := l.shell(t, one, await+"mount "+link+" /mnt\ncat /mnt/data\numount /mnt\ntest -e /run/memory || echo forgotten"); got != "acknowledged\nforgotten" {
		t.Errorf("got %q, want what was written to the disk, and nothing of the memory", got)
	}
	if !slices.ContainsFunc(l.Events(), func(e vcenter.Event) bool { return strings.Contains(e.Type, "VmRestartedByHA") && e.VM == one }) {
		t.Errorf("got events %+v, want the restart by HA among them", l.Events())
	}
	if err := l.StartHost(host); err != nil {
		t.Fatal(err)
	}
	if err := plugin.Detach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	l.shell(t, one, "timeout 30 sh -c 'while [ -e "+link+" ]; do sleep 0.1; done'")
}

func (l *lab) hostIsolated(t *testing.T) {
	boot, host := l.VM(two).Boot(), l.machine(t, two).Host
	if err := l.IsolateHost(host); err != nil {
		t.Fatal(err)
	}
	until(t, soon, "the host to be unreachable", func() bool { return l.host(t, host).State == "notResponding" })
	if got := l.shell(t, two, "echo here"); got != "here" {
		t.Errorf("got %q from the machine on the isolated host", got)
	}
	if err := l.StartHost(host); err != nil {
		t.Fatal(err)
	}
	until(t, soon, "the host to be back", func() bool { return l.host(t, host).State == "connected" })
	if got := l.VM(two).Boot(); got != boot {
		t.Errorf("got boot %s, want %s still", got, boot)
	}
}

func (l *lab) processDies(t *testing.T) {
	boot := l.VM(two).Boot()
	if err := l.Kill(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	l.nextBoot(t, two, boot)
	if err := l.Kill(t.Context(), "nobody"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("kill nobody: got %v, want ErrNotFound", err)
	}
}

func (l *lab) guestPowersOff(t *testing.T) {
	boot := l.VM(two).Boot()
	if _, err := l.VM(two).Shell(t.Context(), "systemctl poweroff --no-block"); err != nil && !errors.Is(err, mooring.ErrUnavailable) { // it may end first
		t.Fatal(err)
	}
	until(t, bootWait, "vCenter to see the machine off", func() bool { return !l.machine(t, two).PoweredOn })
	if l.VM(two).Running() {
		t.Error("the machine's process runs, want it gone")
	}
	if err := l.PowerOn(two); err != nil {
		t.Fatal(err)
	}
	l.nextBoot(t, two, boot)
}

func (l *lab) cablesPulled(t *testing.T) {
	ctx := t.Context()
	reaches := func(script string) bool {
		_, err := l.VM(one).Shell(ctx, script)
		return err == nil
	}
	for _, c := range []struct {
		network         string
		vCenter, guests bool
	}{{"vcenter", false, true}, {"guests", true, false}, {"all", false, false}} {
		if err := l.Cut(ctx, one, c.network); err != nil {
			t.Fatal(err)
		}
		if v, g := reaches(reachVCenter), reaches(reachOther); v != c.vCenter || g != c.guests {
			t.Errorf("cut off from %s: reaches vCenter %v and the other machine %v, want %v and %v", c.network, v, g, c.vCenter, c.guests)
		}
		if err := l.Join(ctx, one, c.network); err != nil {
			t.Fatal(err)
		}
		l.shell(t, one, reachVCenter)
		l.shell(t, one, reachOther)
	}
	if err := l.Cut(ctx, one, "internet"); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("cut off from a network that there is not: got %v, want ErrInvalid", err)
	}
}

func (l *lab) frozen(t *testing.T) {
	m := l.VM(one)
	boot := m.Boot()
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if out, err := m.Shell(ctx, "echo here"); err == nil {
		t.Errorf("got %q from a frozen machine", out)
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	l.shell(t, one, "true")
	if got := m.Boot(); got != boot {
		t.Errorf("got boot %s, want %s still", got, boot)
	}
}

func (l *lab) freshRoot(t *testing.T) {
	l.shell(t, two, "echo old >/etc/lab/greeting; touch /root/old; sync /etc/lab/greeting /root")
	began := time.Now()
	if err := l.Fresh(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	t.Logf("a fresh machine took %s", time.Since(began).Round(time.Second))
	if got := l.shell(t, two, "cat /etc/lab/greeting; ls /root"); got != "hello" {
		t.Errorf("got %q, want the greeting and nothing else", got)
	}
}

func (l *lab) nothingLeft(t *testing.T) {
	if n := len(children(t)); n != 2 {
		t.Errorf("got %d QEMUs before, want 2", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left := children(t); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	var files []string
	err := filepath.WalkDir(l.Dir(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, filepath.Base(path))
		}
		return err
	})
	slices.Sort(files)
	if want := []string{"console.log", "console.log", "mooring-lab.lock"}; err != nil || !slices.Equal(files, want) {
		t.Errorf("got files %v, %v, want %v", files, err, want)
	}
}

// children returns the QEMUs that this process has started.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		comm, rest, _ := bytes.Cut(text, []byte(") "))
		var state string
		var parent int
		if _, err := fmt.Fscan(bytes.NewReader(rest), &state, &parent); err != nil {
			t.Fatal(err)
		}
		if parent == os.Getpid() && bytes.Contains(comm, []byte("(qemu-")) {
			out = append(out, string(comm))
		}
	}
	return out
}
