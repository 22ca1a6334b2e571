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

// machine returns the one that has them.
func (s start) machine() string {
	if s == local {
		return one
	}
	return two
}

// times are what one start took, since the machine was powered on.
type times struct {
	plugin, containers time.Duration
	calls              int
}

// crew is how many containers start, each with a volume of its own; rounds is how often each side does.
const (
	crew   = 9
	rounds = 3
)

// TestMeasureStart measures what Mooring costs at a start after a host's death: the time from power-on until the plugin is ready and until nine
// containers run again, against the same containers with local volumes on a machine of the same image without Mooring. The machines start in turns, each while the
// other is off: two starts that follow each other are compared, for this machine may be half as fast an hour later. With ANCESTOR=1 the second also starts once as the
// ancestor's plugin was started.
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
	s := &scene{fleet: h.ready(ctx, t, wide), t: t, ctx: ctx, prefix: "measure", boots: map[string]string{}}
	s.spread()
	for _, st := range []start{local, vmdk} {
		s.crew(st)
		s.override(st.machine(), true) // power-on is when we say so, and not a detection later
	}
	s.cut(one)
	s.cut(two)
	got := map[start][]times{}
	for range rounds {
		for _, st := range []start{local, vmdk, unheard} {
			took := s.measure(st)
			say("%s: plugin ready after %.1f s, all containers after %.1f s, calls to vCenter %d", st, took.plugin.Seconds(), took.containers.Seconds(), took.calls)
			got[st] = append(got[st], took)
		}
	}
	if os.Getenv("ANCESTOR") != "" {
		say("%s", s.ancestor(two))
	}
	report := report(got)
	name := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(name, []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
	say("%s:\n%s", name, report)
	if ratio := medianRatio(got[vmdk], got[local]); ratio > 1.1 {
		t.Errorf("containers on vmdk volumes start in %.2f of the time of local ones, want at most 1.1", ratio)
	}
}

// mooringUnits are the packages' units: masked, they leave a machine without Mooring.
const mooringUnits = "mooring-supervisor.service mooring-plugin.socket mooring-plugin.service"

// crew makes the containers of one side on its machine, with Mooring or without. The plugin's configuration is the package's, without what the suite changes in it.
func (s *scene) crew(st start) {
	s.t.Helper()
	kind, vm := st.kind(), st.machine()
	if st == local {
		s.sh(vm, "systemctl stop "+mooringUnits+"; systemctl mask "+mooringUnits+" 2>&1; systemctl restart docker")
		s.dockerUp(vm)
	} else {
		s.sh(vm, "sed -i '/^\\(linger\\|boot_linger\\|refresh\\|log_level\\): /d' /etc/mooring/mooring.yaml; systemctl restart mooring-plugin")
	}
	var script strings.Builder
	for i := range crew {
		if kind == "vmdk" {
			fmt.Fprintf(&script, "docker volume create --driver=vmdk -o size=512mb -o fstype=%s vmdk-%d\n", []string{"ext4", "xfs"}[i%2], i)
		}
		fmt.Fprintf(&script, "docker run -d --restart always --network none --name %[1]s-%[2]d -v %[1]s-%[2]d:/data -v /run/mooring-lab:/run/mooring-lab %[3]s hold %[1]s %[2]d\n",
			kind, i, writerImage)
	}
	s.sh(vm, "set -e\n"+script.String())
}

// cut takes the machine's memory, as its host's death does, and leaves it off.
func (s *scene) cut(vm string) {
	s.t.Helper()
	s.pause(10 * time.Second) // what dockerd has still to write down
	s.sh(vm, "sync")
	s.boots[vm] = s.VM(vm).Boot()
	host := s.hostOf(vm)
	s.must(s.KillHost(host))
	s.must(s.StartHost(host))
	s.await(soon, vm+" is off", func() bool { return !s.on(vm) })
}

// measure times the start of the machine that has those containers, and cuts its power again.
func (s *scene) measure(st start) times {
	s.t.Helper()
	kind, vm := st.kind(), st.machine()
	if st == unheard {
		s.Hang()
	}
	s.witness.Forget()
	before := s.asked()
	began := time.Now()
	s.must(s.PowerOn(vm))
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
	s.rebooted(vm)
	if kind == "vmdk" {
		// The kernel's clock begins when it does; the machine was powered on a moment before that, as the containers' lines show on both sides.
		took.plugin = s.monotonic(vm, "systemctl show -P ActiveEnterTimestampMonotonic mooring-plugin")
	}
	if st == unheard {
		s.must(s.StopServing())
		s.must(s.StartServing())
	}
	s.cut(vm)
	return took
}

func (s *scene) monotonic(vm, script string) time.Duration {
	s.t.Helper()
	var micro int64
	if _, err := fmt.Sscan(s.sh(vm, script), &micro); err != nil {
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

// medianRatio returns the median of what each start took, divided by what the other side's start of the same round took.
func medianRatio(these, those []times) float64 {
	var all []float64
	for i := range these {
		all = append(all, these[i].containers.Seconds()/those[i].containers.Seconds())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// report is the table for docs/performance.md.
func report(got map[start][]times) string {
	var b strings.Builder
	fmt.Fprint(&b, "| start | plugin ready (kernel's clock) | all nine run: median (each) | ratio, median of the rounds' | calls to vCenter until then |\n|---|---|---|---|---|\n")
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
		fmt.Fprintf(&b, "| %s | %s | %.1f s (%s) | %.2f | %d |\n", st, plugin, m.containers.Seconds(), strings.Join(each, ", "), medianRatio(got[st], got[local]), m.calls)
	}
	return b.String()
}

// ancestor starts the machine once as the ancestor's plugin was started: after dockerd, and with no socket that anybody holds for it.
func (s *scene) ancestor(vm string) string {
	s.t.Helper()
	s.must(s.PowerOn(vm))
	s.rebooted(vm)
	s.sh(vm, `cat >/etc/systemd/system/mooring-late.service <<'END'
[Unit]
After=docker.service
[Service]
ExecStart=/bin/sh -c 'systemctl start mooring-plugin.socket mooring-plugin.service'
[Install]
WantedBy=multi-user.target
END
systemctl disable mooring-plugin.socket mooring-plugin.service 2>&1; systemctl enable mooring-late.service 2>&1; sync`)
	s.cut(vm)
	began := time.Now()
	s.must(s.PowerOn(vm))
	ctx, cancel := context.WithTimeout(s.ctx, 15*time.Minute)
	defer cancel()
	if _, err := s.VM(vm).AwaitBoot(ctx, s.boots[vm]); err != nil {
		s.t.Fatal(err)
	}
	agent := time.Since(began)
	s.await(15*time.Minute, "docker answers", func() bool {
		_, err := s.try(vm, "docker version >/dev/null 2>&1")
		return err == nil
	})
	docker := time.Since(began)
	s.pause(time.Minute) // for whatever may yet start by itself
	running := s.sh(vm, "docker ps -q --filter name=vmdk- | wc -l")
	kept := s.sh(vm, "docker volume ls -q --filter driver=vmdk | wc -l")
	return fmt.Sprintf("The ancestor's way: the agent of the guest answered after %.1f s, Docker's API after %.1f s; a minute later %s of %d containers ran, and dockerd listed %s of the volumes.",
		agent.Seconds(), docker.Seconds(), running, crew, kept)
}
