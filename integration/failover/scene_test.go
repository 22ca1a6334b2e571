//go:build machines

package failover_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mooring-sh/mooring/integration/failover"
)

// The patience for things that do not need a boot, and for a boot in software emulation on a busy machine.
const (
	soon     = 90 * time.Second
	bootTime = 10 * time.Minute
)

// scene is one case on the fleet: its volumes, its containers, and how the machines were when it began.
type scene struct {
	*fleet
	t       testing.TB
	ctx     context.Context //nolint:containedctx // the case's, for every step of it
	prefix  string
	volumes []*vol
	boots   map[string]string // by machine, when the faults began
	marks   map[string]mark
	events  int // written before the case
	once    []expectation
	kernel  bool // the case itself makes the kernel complain
	after   []func()
	pushers []*pusher // to the stack
	// spent: the fleet cannot be used by another case.
	spent bool
}

// vol is a volume of the case and the container that writes to it.
type vol struct {
	name    string
	machine string // where its container is
	labels  map[string]string
	fs      string
	box     string // the container; empty: none
	policy  string // its restart policy
	down    bool   // it is expected not to run
	gone    bool   // the disk is expected to be deleted
}

// mark is a place in a machine's journal and kernel log.
type mark struct {
	boot            string
	journal, kernel int
}

// expectation is what the journal of a machine's plugin is to have.
type expectation struct {
	machine string
	parts   []string
}

// try runs a script in the machine and returns what it printed.
func (s *scene) try(vm, script string) (string, error) {
	began := time.Now()
	out, err := s.VM(vm).Shell(s.ctx, script)
	if os.Getenv("TRACE") != "" {
		say("  %s: %.150q: %.1f s, %v", vm, script, time.Since(began).Seconds(), err)
	}
	return strings.TrimSpace(out), err
}

// sh runs a script in the machine; it must succeed.
func (s *scene) sh(vm, script string) string {
	s.t.Helper()
	out, err := s.try(vm, script)
	if err != nil {
		s.t.Fatalf("%s: %s: %v\n%s", vm, script, err, out)
	}
	return out
}

// trace shows what a script prints, when somebody wants to know.
func (s *scene) trace(vm, script string) {
	if os.Getenv("TRACE") != "" {
		out, _ := s.try(vm, script)
		say("%s", out)
	}
}

// refused runs a script that must fail and say this.
func (s *scene) refused(vm, script string, want ...string) {
	s.t.Helper()
	out, err := s.try(vm, script+" 2>&1")
	if err == nil {
		s.t.Fatalf("%s: %s: got no error\n%s", vm, script, out)
	}
	text := out + " " + err.Error()
	for _, w := range want {
		if !strings.Contains(text, w) {
			s.t.Errorf("%s: %s: got %q, want it to say %q", vm, script, text, w)
		}
	}
}

// await waits until ok holds.
func (s *scene) await(limit time.Duration, what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			s.t.Fatalf("after %s it is not so that %s", limit, what)
		case <-s.ctx.Done():
			s.t.Fatalf("waiting until %s: %v", what, s.ctx.Err())
		}
	}
}

// pause lets the world go on for a while.
func (s *scene) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

// volume creates a volume with labels.
func (s *scene) volume(vm, short, fs string, options ...string) *vol {
	s.t.Helper()
	v := s.plan(vm, short, fs)
	s.sh(vm, v.create(options...))
	return v
}

// plan names a volume and notes it for the check.
func (s *scene) plan(vm, short, fs string) *vol {
	v := &vol{name: s.prefix + "-" + short, machine: vm, fs: fs}
	v.labels = map[string]string{"case": s.prefix, "keep": short}
	s.volumes = append(s.volumes, v)
	return v
}

// create is the command that creates the volume, as docker volume create does.
func (v *vol) create(options ...string) string {
	opts := map[string]string{"size": "512mb", "fstype": v.fs}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		opts[key] = value
	}
	return must("POST", "/volumes/create "+jsonOf(map[string]any{"Name": v.name, "Driver": "vmdk", "DriverOpts": opts, "Labels": v.labels}))
}

// run is the command that starts the volume's writer, as docker run does.
func (v *vol) run(policy string) string {
	v.box, v.policy = "w-"+v.name, policy
	return must("POST", "/containers/create?name="+v.box+" "+jsonOf(map[string]any{
		"Image": writerImage, "Cmd": []string{"write", "/data", v.name, "50ms"},
		"HostConfig": map[string]any{
			"NetworkMode": "none", "RestartPolicy": map[string]string{"Name": policy},
			"Binds": []string{v.name + ":/data", "/run/mooring-lab:/run/mooring-lab"},
		},
	}), "POST", "/containers/"+v.box+"/start")
}

// must is the command that asks dockerd, and fails if it says no.
func must(requests ...string) string {
	return writerBinary + " must '" + strings.Join(requests, "' '") + "'"
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings
	}
	return string(b)
}

// write starts a writer on the volume, and waits until it has acknowledged something.
func (s *scene) write(v *vol, policy string) {
	s.t.Helper()
	s.sh(v.machine, v.run(policy))
	v.down = false
	s.more(v, 3)
}

// pair is what most cases begin with: a writer on ext4 and one on xfs.
func (s *scene) pair(vm string) (*vol, *vol) {
	s.t.Helper()
	a, b := s.plan(vm, "ext4", "ext4"), s.plan(vm, "xfs", "xfs")
	s.sh(vm, both(a.create(), b.create())+" && "+both(a.run("always"), b.run("always")))
	s.more(a, 10)
	s.more(b, 10)
	return a, b
}

// both is a script that runs two commands at once and fails if one does.
func both(a, b string) string {
	return "{ " + a + " & one=$!; " + b + " & two=$!; wait $one && wait $two; }"
}

// more waits until the writer has acknowledged n records more than now.
func (s *scene) more(v *vol, n int) {
	s.t.Helper()
	s.moreWithin(v, n, soon)
}

func (s *scene) moreWithin(v *vol, n int, limit time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	have := len(s.witness.Heard(v.name).Acks)
	if err := s.witness.Await(ctx, v.name, func(h failover.Heard) bool { return len(h.Acks) >= have+n }); err != nil {
		s.t.Fatalf("the writer of %s on %s does not go on: %v", v.name, v.machine, err)
	}
}

// goOn waits until every writer that is to run has written again.
func (s *scene) goOn() {
	s.t.Helper()
	for _, v := range s.volumes {
		if v.box != "" && !v.down {
			s.more(v, 5)
		}
	}
}

// stop stops the writer's container.
func (s *scene) stop(v *vol) {
	s.t.Helper()
	s.sh(v.machine, "docker stop "+v.box+" >/dev/null")
	v.down = true
}

// drop removes the writer's container, so that the volume is free.
func (s *scene) drop(v *vol) {
	s.t.Helper()
	s.sh(v.machine, "docker rm -f "+v.box+" >/dev/null")
	v.box = ""
}

// known waits until the machine knows volumes that another has made. A dockerd that does not would make one of its own.
func (s *scene) known(vm string, volumes ...*vol) {
	s.t.Helper()
	for _, v := range volumes {
		s.await(soon, vm+" knows "+v.name, func() bool {
			out, _ := s.try(vm, "docker volume inspect -f '{{.Driver}}' "+v.name+" 2>&1")
			return out == "vmdk"
		})
	}
}

// moment is how long a fault waits for a machine that may well be down.
const moment = 5 * time.Second

// tryFor is try for a command that may never return.
func (s *scene) tryFor(vm, script string) {
	ctx, cancel := context.WithTimeout(s.ctx, moment)
	defer cancel()
	_, _ = s.VM(vm).Shell(ctx, script) // the machine may be down
}

// move starts the volume's writer on another machine, where it is to run from now on.
func (s *scene) move(v *vol, vm, policy string) {
	s.t.Helper()
	s.known(vm, v)
	if v.machine != vm {
		v.labels = nil // each dockerd keeps its own
	}
	v.machine = vm
	s.write(v, policy)
}

// detached waits until no machine has the volume's disk.
func (s *scene) detached(v *vol) {
	s.t.Helper()
	s.await(soon, v.name+" is detached", func() bool {
		return !slices.ContainsFunc(s.Names(), func(vm string) bool { return slices.Contains(s.attached(vm), v.name) })
	})
}

// brink is called when everything runs and the faults begin. dockerd writes down that it has started a container without waiting for the disk, and does
// not start one again of which that was lost: what dockerd has done so far is to be on the disk.
func (s *scene) brink() {
	s.t.Helper()
	s.boots = map[string]string{}
	for _, vm := range s.Names() {
		s.boots[vm] = s.VM(vm).Boot()
		s.sh(vm, "sync")
	}
	if s.stack != nil {
		s.sh(s.stack.vm, "rm -f "+toldFile+"; sync")
	}
}

// rebooted waits until the machine runs another boot than when the faults began, and its Docker answers.
func (s *scene) rebooted(vm string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, bootTime)
	defer cancel()
	boot, err := s.VM(vm).AwaitBoot(ctx, s.boots[vm])
	if err != nil {
		s.t.Fatalf("%s does not boot: %v", vm, err)
	}
	s.boots[vm] = boot
	defer s.trace(vm, "systemd-analyze --no-pager critical-chain docker.service; systemd-analyze --no-pager blame | head -12")
	s.await(bootTime, "docker of "+vm+" answers", func() bool {
		_, err := s.try(vm, "docker version >/dev/null 2>&1")
		return err == nil
	})
}

// sameBoot says that the machine has not booted since the faults began.
func (s *scene) sameBoot(vm string) {
	s.t.Helper()
	if got := s.sh(vm, "cat /proc/sys/kernel/random/boot_id"); got != s.boots[vm] {
		s.t.Errorf("%s has booted: its boot is %s, and was %s", vm, got, s.boots[vm])
	}
}

// must fails the case on an error of the lab.
func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// killHost cuts the power of the host that runs the machine, and returns its name. The case's clean-up brings it back.
func (s *scene) killHost(vm string) string {
	s.t.Helper()
	host := s.hostOf(vm)
	s.must(s.KillHost(host))
	s.t.Cleanup(func() { _ = s.StartHost(host) }) // started already, perhaps
	return host
}

// restored expects the line with which the plugin brings a held volume back after a boot, once for each volume of the machine.
func (s *scene) restored(vm string) {
	for _, v := range s.volumes {
		if v.machine == vm && v.box != "" && !v.down {
			s.once = append(s.once, expectation{vm, []string{"msg=restored volume=" + v.name + " "}})
		}
	}
}

// unformatted says that nothing was formatted on the machine in this boot so far.
func (s *scene) unformatted(vm string) {
	s.t.Helper()
	for _, line := range s.journal(vm).Lines {
		if strings.Contains(line, "mkfs") {
			s.t.Errorf("%s formatted something: %s", vm, line)
		}
	}
}

// wrote fails the case unless vCenter has written so many events of that type about the machine since the case began.
func (s *scene) wrote(vm, kind string, want int) {
	s.t.Helper()
	n := 0
	for _, e := range s.Events()[s.events:] {
		if strings.Contains(e.Type, kind) && e.VM == vm {
			n++
		}
	}
	if n != want {
		s.t.Errorf("vCenter wrote %d events %s of %s, want %d", n, kind, vm, want)
	}
}

// is says that the machine's Docker is of that version.
func (s *scene) is(version string) {
	s.t.Helper()
	if got := s.sh(one, "docker version -f '{{.Server.Version}}'"); !strings.HasPrefix(got, version) {
		s.t.Fatalf("docker of %s is %s, want %s", one, got, version)
	}
}

// administrator is a client of the lab's vCenter as its administrator has one.
func (s *scene) administrator() *vim25.Client {
	s.t.Helper()
	u, err := soap.ParseURL(s.URL())
	s.must(err)
	transport := soap.NewClient(u, false)
	s.must(transport.SetRootCAs(s.CAFile()))
	c, err := vim25.NewClient(s.ctx, transport)
	s.must(err)
	s.must(session.NewManager(c).Login(s.ctx, url.UserPassword(s.Admin().User, s.Admin().Password)))
	return c
}
