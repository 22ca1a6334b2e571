//go:build machines

package failover_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

// side is one way of starting the same nine containers.
type side struct {
	name    string
	prepare func(s *scene) // while the machine runs, before its host dies
	calls   bool           // count what vCenter is asked until all containers run
}

// times are what one start took, since the machine was powered on.
type times struct {
	plugin, containers time.Duration
	calls              int
}

// crew is how many containers start, each with a volume of its own.
const crew = 9

// TestMeasureStart measures what Mooring costs at a start after a host's death: the time from power-on until the plugin is ready and until nine
// containers run again, against the same containers with local volumes on the same machine, in turns. With ANCESTOR=1 it also starts the machine
// once as the ancestor's plugin was started.
func TestMeasureStart(t *testing.T) {
	rounds := 3
	if os.Getenv("MEASURE") == "" {
		t.Skip("MEASURE=1 measures: a quarter of an hour")
	}
	dir := artefactDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	h := &harness{artefacts: dir}
	defer h.close(t)
	f := h.ready(ctx, t, trixie)
	s := &scene{fleet: f, t: t, ctx: ctx, prefix: "measure"}
	s.off(two) // it would take its part of the processors
	s.crew()
	sides := []side{
		{name: "local volumes, no Mooring", prepare: func(s *scene) {
			s.only("local")
			s.sh(one, "systemctl mask mooring-plugin.service mooring-plugin.socket 2>&1")
		}},
		{name: "vmdk volumes", calls: true, prepare: func(s *scene) { s.only("vmdk") }},
		{name: "vmdk volumes, vCenter takes connections and answers nothing", prepare: func(s *scene) { s.only("vmdk"); s.Hang() }},
	}
	got := map[string][]times{}
	for round := range rounds {
		for _, side := range sides {
			took := s.measure(side)
			say("round %d, %s: plugin ready after %.1f s, all containers after %.1f s, calls to vCenter %d",
				round+1, side.name, took.plugin.Seconds(), took.containers.Seconds(), took.calls)
			got[side.name] = append(got[side.name], took)
		}
	}
	report := s.report(sides, got)
	if os.Getenv("ANCESTOR") != "" {
		report += s.ancestor()
	}
	name := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(name, []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
	say("%s:\n%s", name, report)
	local, vmdk := median(got[sides[0].name]), median(got[sides[1].name])
	if ratio := vmdk.containers.Seconds() / local.containers.Seconds(); ratio > 1.1 {
		t.Errorf("containers on vmdk volumes start in %.2f of the time of local ones, want at most 1.1", ratio)
	}
	h.fleet.witness.Forget()
}

// crew makes the containers of both kinds. Those that are not measured do not restart.
func (s *scene) crew() {
	s.t.Helper()
	var script strings.Builder
	for i := range crew {
		fmt.Fprintf(&script, "docker volume create --driver=vmdk -o size=512mb -o fstype=%s vmdk-%d\n", []string{"ext4", "xfs"}[i%2], i)
		for _, kind := range []string{"vmdk", "local"} {
			fmt.Fprintf(&script, "docker run -d --network none --name %[1]s-%[2]d -v %[1]s-%[2]d:/data -v /run/mooring-lab:/run/mooring-lab %[3]s hold %[1]s %[2]d\n", kind, i, writerImage)
		}
	}
	s.sh(one, "set -e\n"+script.String())
}

// only lets the containers of one kind restart, and stops the others.
func (s *scene) only(kind string) {
	s.t.Helper()
	other := map[string]string{"vmdk": "local", "local": "vmdk"}[kind]
	names := func(k string) string {
		var out []string
		for i := range crew {
			out = append(out, fmt.Sprintf("%s-%d", k, i))
		}
		return strings.Join(out, " ")
	}
	s.sh(one, "systemctl unmask mooring-plugin.service mooring-plugin.socket 2>&1; systemctl start mooring-plugin.socket mooring-plugin.service")
	s.sh(one, "docker update --restart=no "+names(other)+"; docker update --restart=always "+names(kind)+"; docker start "+names(kind)+"; docker stop -t 1 "+names(other))
	want := 0
	if kind == "vmdk" {
		want = crew
	}
	s.await(soon, fmt.Sprintf("%d disks are attached", want), func() bool { return len(s.attached(one)) == want })
	s.pause(5 * time.Second) // what dockerd has still to write down
	s.sh(one, "sync")
}

// measure kills the host and times the start of the machine.
func (s *scene) measure(side side) times {
	s.t.Helper()
	side.prepare(s)
	kind, _, _ := strings.Cut(side.name, " ")
	s.brink()
	s.override(one, true) // power-on is when we say so, and not a detection later
	host := s.hostOf(one)
	s.must(s.KillHost(host))
	s.must(s.StartHost(host))
	s.await(soon, "the machine is off", func() bool { return !s.on(one) })
	s.witness.Forget()
	before := s.asked()
	began := time.Now()
	s.must(s.PowerOn(one))
	var took times
	for i := range crew {
		stream := fmt.Sprintf("%s-%d", kind, i)
		ctx, cancel := context.WithTimeout(s.ctx, bootTime)
		err := s.witness.Await(ctx, stream, func(h failover.Heard) bool { return len(h.Ups) > 0 })
		cancel()
		if err != nil {
			s.t.Fatalf("%s: %v", side.name, err)
		}
		took.containers = max(took.containers, s.witness.Heard(stream).Ups[0].Sub(began))
	}
	took.calls = s.asked() - before
	s.rebooted(one)
	if kind == "vmdk" {
		// The kernel's clock begins when it does; the machine was powered on a moment before that, as the containers' lines show on both sides.
		took.plugin = s.monotonic("systemctl show -P ActiveEnterTimestampMonotonic mooring-plugin")
	}
	s.must(s.StopServing())
	s.must(s.StartServing())
	s.override(one, false)
	return took
}

func (s *scene) monotonic(script string) time.Duration {
	s.t.Helper()
	var micro int64
	if _, err := fmt.Sscan(s.sh(one, script), &micro); err != nil {
		s.t.Fatalf("%s: %v", script, err)
	}
	return time.Duration(micro) * time.Microsecond
}

// asked returns how many calls vCenter has got from anybody.
func (s *scene) asked() int {
	n := 0
	for _, calls := range s.Calls() {
		n += calls
	}
	return n
}

func median(all []times) times {
	var plugin, containers []time.Duration
	for _, t := range all {
		plugin, containers = append(plugin, t.plugin), append(containers, t.containers)
	}
	slices.Sort(plugin)
	slices.Sort(containers)
	return times{plugin: plugin[len(plugin)/2], containers: containers[len(containers)/2], calls: all[0].calls}
}

// report is the table for docs/performance.md.
func (s *scene) report(sides []side, got map[string][]times) string {
	var b strings.Builder
	base := median(got[sides[0].name]).containers.Seconds()
	fmt.Fprint(&b, "| start | plugin ready (kernel's clock) | all nine run, median (all) | ratio | calls to vCenter until then |\n|---|---|---|---|---|\n")
	for _, side := range sides {
		m := median(got[side.name])
		var each []string
		for _, t := range got[side.name] {
			each = append(each, fmt.Sprintf("%.1f", t.containers.Seconds()))
		}
		plugin, calls := "–", "–"
		if m.plugin > 0 {
			plugin = fmt.Sprintf("%.1f s", m.plugin.Seconds())
		}
		if side.calls {
			calls = strconv.Itoa(m.calls)
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f s (%s) | %.2f | %s |\n", side.name, plugin, m.containers.Seconds(), strings.Join(each, ", "), m.containers.Seconds()/base, calls)
	}
	return b.String()
}

// ancestor starts the machine once as the ancestor's plugin was started: after dockerd, and with no socket that anybody holds for it.
func (s *scene) ancestor() string {
	s.t.Helper()
	s.only("vmdk")
	s.sh(one, `mkdir -p /etc/systemd/system/mooring-plugin.service.d
cat >/etc/systemd/system/mooring-late.service <<'END'
[Unit]
After=docker.service
[Service]
ExecStart=/bin/sh -c 'systemctl unmask --runtime mooring-plugin.socket mooring-plugin.service; systemctl start mooring-plugin.socket mooring-plugin.service'
[Install]
WantedBy=multi-user.target
END
systemctl disable mooring-plugin.socket mooring-plugin.service 2>&1; systemctl enable mooring-late.service 2>&1; sync`)
	s.brink()
	s.override(one, true)
	host := s.hostOf(one)
	s.must(s.KillHost(host))
	s.must(s.StartHost(host))
	s.await(soon, "the machine is off", func() bool { return !s.on(one) })
	began := time.Now()
	s.must(s.PowerOn(one))
	ctx, cancel := context.WithTimeout(s.ctx, 15*time.Minute)
	defer cancel()
	if _, err := s.VM(one).AwaitBoot(ctx, s.boots[one]); err != nil {
		s.t.Fatal(err)
	}
	agent := time.Since(began)
	s.await(15*time.Minute, "docker answers", func() bool {
		_, err := s.try(one, "docker version >/dev/null 2>&1")
		return err == nil
	})
	docker := time.Since(began)
	s.pause(time.Minute) // for whatever may yet start by itself
	running := s.sh(one, "docker ps -q --filter name=vmdk- | wc -l")
	kept := s.sh(one, "docker volume ls -q --filter driver=vmdk | wc -l")
	return fmt.Sprintf("\nThe ancestor's way: the agent of the guest answered after %.1f s, Docker's API after %.1f s; a minute later %s of %d containers ran, and dockerd listed %s of the volumes.\n",
		agent.Seconds(), docker.Seconds(), running, crew, kept)
}
