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
	local   start = "local volumes, no Mooring, a machine without the disks"
	beside  start = "local volumes, no Mooring, the nine disks attached"
	vmdk    start = "vmdk volumes"
	unheard start = "vmdk volumes, vCenter takes connections and answers nothing"
	xfs     start = "vmdk volumes with XFS, whose module the kernel loads"
)

// starts returns what is measured in each round, in this order. All but the first are of one guest.
func starts() []start { return []start{local, beside, vmdk, unheard} }

// kind returns what the containers are called after.
func (s start) kind() string {
	if s == local || s == beside {
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

// times are what one start took by the guest's clock, which begins with its kernel.
type times struct {
	plugin, containers time.Duration
	calls              int
	processor          string // of whom, in seconds in the program and in the kernel, until a moment after the last container came
}

// crew is how many containers start, each with a volume of its own; rounds is how often each side does.
const (
	crew   = 9
	rounds = 3
)

// measuring returns the scene of a measurement, on machines that nothing else uses, and what ends it.
func measuring(t *testing.T, k kind, takes string) (s *scene, end func()) {
	t.Helper()
	if os.Getenv("MEASURE") == "" {
		t.Skip("MEASURE=1 measures: " + takes)
	}
	dir, err := artefactDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
	h := &harness{artefacts: dir}
	s = &scene{fleet: h.ready(ctx, t, k), t: t, ctx: ctx, prefix: "measure", boots: map[string]string{}}
	return s, func() {
		h.close(t)
		cancel()
	}
}

// publish keeps a measurement's tables, for docs/performance.md.
func (s *scene) publish(name, tables string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.WriteFile(path, []byte(tables), 0o644))
	say("%s:\n%s", path, tables)
}

// TestMeasureStart measures what Mooring costs at a start after a host's death: the time until the plugin is ready and until nine
// containers run again, against the same guest's time with local volumes and without Mooring, and against that of a machine of the same image that has no other disk than the one it starts from. The
// machines' clock counts instructions, so what else this computer does is not in it. Another two starts are of volumes with XFS. With ANCESTOR=1 the second machine also starts once as the
// ancestor's plugin was started.
func TestMeasureStart(t *testing.T) {
	s, end := measuring(t, steady, "half an hour")
	defer end()
	s.spread()
	for _, st := range []start{local, beside, vmdk} {
		s.crew(st)
	}
	s.turn(beside)
	for _, vm := range []string{one, two} {
		s.override(vm, true) // power-on is when we say so, and not a detection later
		s.cut(vm)
	}
	got := map[start][]times{}
	for range rounds {
		for i, st := range starts() {
			got[st] = append(got[st], s.measure(st, starts()[(i+1)%len(starts())]))
		}
	}
	tables := table(got, starts())
	for _, took := range slices.Concat(got[vmdk], got[unheard]) {
		if took.calls > 0 {
			t.Errorf("until all containers ran vCenter was called %d times, want that nothing waits for it", took.calls)
		}
	}
	ratio := medianRatio(got[vmdk], got[beside])
	s.replaceCrew()
	got = map[start][]times{beside: {s.measure(beside, xfs)}, xfs: {s.measure(xfs, beside)}}
	tables += table(got, []start{beside, xfs})
	if os.Getenv("ANCESTOR") != "" {
		say("%s", s.ancestor(two))
	}
	s.publish("performance.md", tables)
	if ratio > 1.1 {
		t.Errorf("containers on vmdk volumes start in %.2f of the same guest's time with local ones, want at most 1.1", ratio)
	}
}

// mooringUnits are the packages' units: masked, they leave a machine without Mooring.
const mooringUnits = "mooring-supervisor.service mooring-plugin.socket mooring-plugin.service"

// otherRoot has dockerd keep its containers elsewhere, so that one guest has two crews, of which one starts.
const otherRoot = `mkdir -p /etc/docker; echo '{"data-root": "/var/lib/docker-local"}' >/etc/docker/daemon.json; `

// crew makes the containers of one side on its machine, with Mooring or without. The plugin's configuration is the package's, without what the suite changes in it.
func (s *scene) crew(st start) {
	s.t.Helper()
	vm := st.machine()
	switch st {
	case local:
		s.sh(vm, "systemctl stop "+mooringUnits+"; systemctl mask "+mooringUnits+" 2>&1; systemctl restart docker")
		s.dockerUp(vm)
	case beside:
		s.sh(vm, "docker save -o /var/tmp/writer.tar "+writerImage+"; "+otherRoot+"systemctl restart docker")
		s.dockerUp(vm)
		s.sh(vm, "docker load -i /var/tmp/writer.tar; rm /var/tmp/writer.tar")
	case vmdk, unheard, xfs:
		s.sh(vm, "sed -i '/^\\(linger\\|boot_linger\\|refresh\\|log_level\\): /d' /etc/mooring/mooring.yaml; rm /etc/docker/daemon.json; systemctl restart docker mooring-plugin")
		s.dockerUp(vm)
	}
	s.contain(st)
}

// contain makes the containers, and what volumes they need.
func (s *scene) contain(st start) {
	s.t.Helper()
	kind, vm := st.kind(), st.machine()
	fstype := "ext4"
	if st == xfs {
		fstype = "xfs"
	}
	var script strings.Builder
	for i := range crew {
		if kind == "vmdk" {
			fmt.Fprintf(&script, "docker volume create --driver=vmdk -o size=512mb -o fstype=%s vmdk-%d\n", fstype, i)
		}
		fmt.Fprintf(&script, "docker run -d --restart always --network none --name %[1]s-%[2]d -v %[1]s-%[2]d:/data -v /run/mooring-lab:/run/mooring-lab %[3]s hold %[1]s %[2]d\n",
			kind, i, writerImage)
	}
	s.sh(vm, "set -e\n"+script.String())
}

// replaceCrew has the second machine's containers on volumes with XFS from now on, and leaves it off.
func (s *scene) replaceCrew() {
	s.t.Helper()
	s.must(s.PowerOn(two))
	s.rebooted(two)
	s.turn(vmdk)
	s.sh(two, "systemctl start mooring-plugin.socket mooring-plugin; systemctl restart docker")
	s.dockerUp(two)
	s.sh(two, "docker rm -f $(docker ps -aq --filter name=vmdk-); docker volume rm $(docker volume ls -q --filter driver=vmdk)")
	s.contain(xfs)
	s.turn(beside)
	s.cut(two)
}

// turn has the second machine start as it says, from its next start on. What runs goes on, and its disks stay.
func (s *scene) turn(next start) {
	s.t.Helper()
	if next == beside {
		s.sh(two, otherRoot+"systemctl mask "+mooringUnits+" 2>&1")
	} else {
		s.sh(two, "rm -f /etc/docker/daemon.json; systemctl unmask "+mooringUnits+" 2>&1")
	}
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

// measure times the start of the machine that has those containers, and cuts its power again. The next start is said, for the machine has to be made ready for it while it runs.
func (s *scene) measure(st, next start) times {
	s.t.Helper()
	kind, vm := st.kind(), st.machine()
	if st == unheard {
		s.Hang()
	}
	s.witness.Forget()
	before := s.asked()
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
		took.containers = max(took.containers, s.witness.Heard(stream).Ups[0].Uptime)
	}
	took.calls = s.asked() - before
	s.rebooted(vm)
	took.processor = s.sh(vm, `for u in init.scope systemd-udevd mooring-plugin mooring-supervisor containerd docker; do
		[ "$(systemctl show -P ActiveState $u)" != active ] || awk -v u=$u '/^(user|system)_usec/ {s = s sprintf(" %.2f", $2/1e6)} END {printf "%s%s; ", u, s}' "/sys/fs/cgroup$(systemctl show -P ControlGroup $u)/cpu.stat"
	done`)
	if kind == "vmdk" {
		took.plugin = s.monotonic(vm, "systemctl show -P ActiveEnterTimestampMonotonic mooring-plugin")
	}
	if st == unheard {
		s.must(s.StopServing())
		s.must(s.StartServing())
	}
	if vm == two {
		if next.machine() == one {
			next = beside // of the next round
		}
		s.turn(next)
	}
	s.cut(vm)
	say("%s: plugin ready after %.2f s, all containers after %.2f s, calls to vCenter %d; processor time %s", st, took.plugin.Seconds(), took.containers.Seconds(), took.calls, took.processor)
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

// table is for docs/performance.md. Ratios to a side that was not measured are left out.
func table(got map[start][]times, order []start) string {
	var b strings.Builder
	fmt.Fprint(&b, "| start | plugin ready | all nine run: median (each) | ratio to the same guest's local start, median of the rounds' | to that of a machine without the disks | calls to vCenter until then |\n|---|---|---|---|---|---|\n")
	for _, st := range order {
		m := median(got[st])
		var each []string
		for _, t := range got[st] {
			each = append(each, fmt.Sprintf("%.2f", t.containers.Seconds()))
		}
		plugin := "–"
		if m.plugin > 0 {
			plugin = fmt.Sprintf("%.2f s", m.plugin.Seconds())
		}
		other := "–"
		if len(got[local]) > 0 {
			other = fmt.Sprintf("%.2f", medianRatio(got[st], got[local]))
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f s (%s) | %.2f | %s | %d |\n", st, plugin, m.containers.Seconds(), strings.Join(each, ", "), medianRatio(got[st], got[beside]), other, m.calls)
	}
	return b.String()
}

// ancestor starts the machine once as the ancestor's plugin was started: after dockerd, and with no socket that anybody holds for it.
func (s *scene) ancestor(vm string) string {
	s.t.Helper()
	s.must(s.PowerOn(vm))
	s.rebooted(vm)
	s.turn(vmdk)
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
