//go:build machines

package failover_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

// start is one way of starting nine containers.
type start string

const (
	local   start = "local volumes, no Mooring"
	vmdk    start = "vmdk volumes"
	unheard start = "vmdk volumes, vCenter takes connections and answers nothing"
)

// kind returns what the containers are called after.
func (s start) kind() string {
	if s == local {
		return "local"
	}
	return "vmdk"
}

// times are what one start took, since the machine was powered on.
type times struct {
	plugin, containers time.Duration
	calls              int
}

// crew is how many containers start, each with a volume of its own.
const crew = 9

// TestMeasureStart measures what Mooring costs at a start after a host's death: the time from power-on until the plugin is ready and until nine
// containers run again, against the same containers with local volumes on the same machine without Mooring, before and after. With ANCESTOR=1 it also
// starts the machine once as the ancestor's plugin was started.
func TestMeasureStart(t *testing.T) {
	if os.Getenv("MEASURE") == "" {
		t.Skip("MEASURE=1 measures: half an hour")
	}
	dir, err := artefactDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	h := &harness{artefacts: dir}
	defer h.close(t)
	s := &scene{fleet: h.ready(ctx, t, trixie), t: t, ctx: ctx, prefix: "measure"}
	s.off(two) // it would take its part of the processors
	got := map[start][]times{}
	was := ""
	for _, st := range []start{local, local, vmdk, unheard, vmdk, unheard, vmdk, local, local} {
		if st.kind() != was {
			was = st.kind()
			s.crew(was)
		}
		took := s.measure(st)
		say("%s: plugin ready after %.1f s, all containers after %.1f s, calls to vCenter %d", st, took.plugin.Seconds(), took.containers.Seconds(), took.calls)
		got[st] = append(got[st], took)
		if len(got[vmdk]) == 3 && os.Getenv("ANCESTOR") != "" && st == vmdk {
			say("%s", s.ancestor())
		}
	}
	report := report(got)
	name := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(name, []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
	say("%s:\n%s", name, report)
	if ratio := median(got[vmdk]).containers.Seconds() / median(got[local]).containers.Seconds(); ratio > 1.1 {
		t.Errorf("containers on vmdk volumes start in %.2f of the time of local ones, want at most 1.1", ratio)
	}
}

// crew makes the containers of one kind, with the plugin there or not, and removes the others with their volumes: a dockerd that knows volumes of a
// driver which is not there waits for it.
func (s *scene) crew(kind string) {
	s.t.Helper()
	s.bare(one)
	s.sh(one, "docker volume ls -q | xargs -r docker volume rm >/dev/null")
	units := "mooring-plugin.socket mooring-plugin.service"
	if kind == "local" {
		s.sh(one, "systemctl stop "+units+"; systemctl mask "+units+" 2>&1; systemctl restart docker")
	} else {
		s.sh(one, "systemctl unmask "+units+" 2>&1; systemctl start "+units)
	}
	s.dockerUp(one)
	var script strings.Builder
	for i := range crew {
		if kind == "vmdk" {
			fmt.Fprintf(&script, "docker volume create --driver=vmdk -o size=512mb -o fstype=%s vmdk-%d\n", []string{"ext4", "xfs"}[i%2], i)
		}
		fmt.Fprintf(&script, "docker run -d --restart always --network none --name %[1]s-%[2]d -v %[1]s-%[2]d:/data -v /run/mooring-lab:/run/mooring-lab %[3]s hold %[1]s %[2]d\n",
			kind, i, writerImage)
	}
	s.sh(one, "set -e\n"+script.String())
}

// measure kills the host and times the start of the machine.
func (s *scene) measure(st start) times {
	s.t.Helper()
	s.pause(10 * time.Second) // what dockerd has still to write down
	s.boots = map[string]string{one: s.VM(one).Boot()}
	s.sh(one, "sync")
	if st == unheard {
		s.Hang()
	}
	kind := st.kind()
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
			s.t.Fatalf("%s: %v", st, err)
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
func report(got map[start][]times) string {
	var b strings.Builder
	base := median(got[local]).containers.Seconds()
	fmt.Fprint(&b, "| start | plugin ready (kernel's clock) | all nine run: median (each) | ratio | calls to vCenter until then |\n|---|---|---|---|---|\n")
	for _, st := range []start{local, vmdk, unheard} {
		m := median(got[st])
		var each []string
		for _, t := range got[st] {
			each = append(each, fmt.Sprintf("%.1f", t.containers.Seconds()))
		}
		plugin := "–"
		if m.plugin > 0 {
			plugin = fmt.Sprintf("%.1f s", m.plugin.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f s (%s) | %.2f | %d |\n", st, plugin, m.containers.Seconds(), strings.Join(each, ", "), m.containers.Seconds()/base, m.calls)
	}
	return b.String()
}

// ancestor starts the machine once as the ancestor's plugin was started: after dockerd, and with no socket that anybody holds for it.
func (s *scene) ancestor() string {
	s.t.Helper()
	s.sh(one, `cat >/etc/systemd/system/mooring-late.service <<'END'
[Unit]
After=docker.service
[Service]
ExecStart=/bin/sh -c 'systemctl start mooring-plugin.socket mooring-plugin.service'
[Install]
WantedBy=multi-user.target
END
systemctl disable mooring-plugin.socket mooring-plugin.service 2>&1; systemctl enable mooring-late.service 2>&1; sync`)
	s.boots = map[string]string{one: s.VM(one).Boot()}
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
	s.sh(one, "systemctl disable mooring-late.service 2>&1; systemctl enable mooring-plugin.socket mooring-plugin.service 2>&1; docker ps -aq | xargs docker start")
	s.override(one, false)
	return fmt.Sprintf("The ancestor's way: the agent of the guest answered after %.1f s, Docker's API after %.1f s; a minute later %s of %d containers ran, and dockerd listed %s of the volumes.",
		agent.Seconds(), docker.Seconds(), running, crew, kept)
}
