//go:build machines

package failover_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/failover"
)

// begin notes where each machine's logs end before the case.
func (s *scene) begin() {
	s.t.Helper()
	s.spread()
	s.witness.Forget()
	s.events = len(s.Events())
	s.marks = map[string]mark{}
	for _, vm := range s.Names() {
		fields := strings.Fields(s.sh(vm, "cat /proc/sys/kernel/random/boot_id; journalctl -b -o cat -u mooring-plugin | wc -l; dmesg | wc -l"))
		if len(fields) != 3 {
			s.t.Fatalf("%s: got %q, want a boot and two numbers", vm, fields)
		}
		journal, _ := strconv.Atoi(fields[1])
		kernel, _ := strconv.Atoi(fields[2])
		s.marks[vm] = mark{boot: fields[0], journal: journal, kernel: kernel}
	}
}

// spread sees to it that no two machines are on one host, which a case may kill.
func (s *scene) spread() {
	s.t.Helper()
	if len(s.Names()) < 2 || s.hostOf(one) != s.hostOf(two) {
		return
	}
	for _, h := range s.Hosts() {
		if len(h.VMs) == 0 && h.State == "connected" {
			host, err := find.NewFinder(s.administrator()).HostSystem(s.ctx, "/*/host/*/"+h.Name)
			s.must(err)
			task, err := s.virtual(two).Migrate(s.ctx, nil, host, types.VirtualMachineMovePriorityDefaultPriority, "")
			s.must(err)
			s.must(task.Wait(s.ctx))
			return
		}
	}
}

// check looks at everything, whatever the case was, and leaves the writers stopped.
func (s *scene) check() {
	s.t.Helper()
	var o failover.Observation
	for end := time.Now().Add(soon); ; s.pause(time.Second) { // what is on its way arrives
		o.Machines = nil
		for _, vm := range s.Names() {
			o.Machines = append(o.Machines, s.machine(vm))
		}
		if len(failover.Judge(o)) == 0 || time.Now().After(end) {
			break
		}
	}
	for i := range o.Machines {
		s.losses(&o.Machines[i])
	}
	for _, vm := range s.Names() {
		if s.on(vm) {
			s.containers(vm, &o)
			o.Journals = append(o.Journals, s.journal(vm))
		}
	}
	o.Streams = s.streams()
	for _, finding := range failover.Judge(o) {
		s.t.Error(finding)
	}
	for _, line := range s.witness.Strange() {
		s.t.Errorf("a line that no writer sends: %s", line)
	}
}

// lost is what a kernel says when a disk goes from under a filesystem.
const lost = `I/O error|Buffer I/O|EXT4-fs error|EXT4-fs.*aborted|Remounting filesystem read-only|XFS.*([Cc]orrupt|[Ss]hut)|rejecting I/O`

// machine asks vCenter and the machine itself.
func (s *scene) machine(vm string) failover.Machine {
	m := failover.Machine{Name: vm, On: s.on(vm), Disks: s.attached(vm)}
	if !m.On {
		return m
	}
	out, err := s.try(vm, "mooring volume ls -o json")
	if err != nil {
		m.Attached = []string{"what it could not say: " + err.Error()}
		return m
	}
	views, err := parseViews(out)
	if err != nil {
		s.t.Fatalf("%s: mooring volume ls: %v\n%s", vm, err, out)
	}
	for _, v := range views {
		if len(v.Holders) > 0 {
			m.Held = append(m.Held, v.Name)
		}
		if v.Attached {
			m.Attached = append(m.Attached, v.Name)
		}
	}
	return m
}

// losses asks the machine's kernel whether it has lost a disk since the case began, or in this boot.
func (s *scene) losses(m *failover.Machine) {
	if !m.On || s.kernel {
		return
	}
	from := s.marks[m.Name]
	if from.boot != s.VM(m.Name).Boot() {
		from.kernel = 0
	}
	out, _ := s.try(m.Name, fmt.Sprintf("dmesg | tail -n +%d | grep -E '%s'", from.kernel+1, lost)) // no line: grep fails
	m.Kernel = slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return l == "" })
}

// view is what the check needs of a volume's view.
type view struct {
	Name     string `json:"name"`
	Attached bool   `json:"attached"`
	Mounted  bool   `json:"mounted"`
	Holders  []struct {
		ID string `json:"id"`
	} `json:"holders"`
	Conditions []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"conditions"`
}

func parseViews(text string) ([]view, error) {
	var list []view
	if err := json.Unmarshal([]byte(text), &list); err == nil {
		return list, nil
	}
	var answer struct {
		Volumes []view `json:"volumes"`
	}
	err := json.Unmarshal([]byte(text), &answer)
	return answer.Volumes, err
}

// view asks the machine's plugin for one volume.
func (s *scene) view(vm string, v *vol) view {
	s.t.Helper()
	var out view
	text := s.sh(vm, "mooring volume inspect -o json "+v.name)
	if err := json.Unmarshal([]byte(text), &out); err != nil || out.Name != v.name {
		var list []view
		if json.Unmarshal([]byte(text), &list) == nil && len(list) == 1 {
			return list[0]
		}
		s.t.Fatalf("%s: mooring volume inspect %s: %v\n%s", vm, v.name, err, text)
	}
	return out
}

// containers asks dockerd of the machine for the case's containers and volumes.
func (s *scene) containers(vm string, o *failover.Observation) {
	s.t.Helper()
	for _, v := range s.volumes {
		if v.machine != vm || v.gone {
			continue
		}
		var labels map[string]string
		if text := s.sh(vm, "docker volume inspect -f '{{json .Labels}}' "+v.name); json.Unmarshal([]byte(text), &labels) != nil {
			s.t.Fatalf("%s: labels of %s: got %s", vm, v.name, text)
		}
		seen := failover.Volume{Name: v.name, Machine: vm, Want: v.labels, Labels: labels, Used: v.box != "" && !v.down}
		if seen.Used {
			seen.Removal, _ = s.try(vm, "docker volume rm "+v.name+" 2>&1 && echo removed") // what it says is judged
		}
		o.Volumes = append(o.Volumes, seen)
		if v.box == "" {
			continue
		}
		fields := strings.Fields(s.sh(vm, "docker inspect -f '{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}' "+v.box))
		if len(fields) != 2 {
			s.t.Fatalf("%s: inspect %s: got %q", vm, v.box, fields)
		}
		o.Starts = append(o.Starts, failover.Container{
			Name: v.box, Machine: vm, Running: fields[0] == "true", WantRunning: !v.down, Policy: fields[1], WantPolicy: v.policy,
		})
	}
}

// journal returns what the machine's plugin has written in this boot since the case began.
func (s *scene) journal(vm string) failover.Journal {
	s.t.Helper()
	from := s.marks[vm]
	if from.boot != s.VM(vm).Boot() {
		from.journal = 0
	}
	text := s.sh(vm, fmt.Sprintf("journalctl -b -o cat -u mooring-plugin | tail -n +%d", from.journal+1))
	j := failover.Journal{Machine: vm}
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(line, "time=") {
			line = rest // two lines that differ in their times alone are the same
		}
		j.Lines = append(j.Lines, strings.TrimSpace(line))
	}
	for _, e := range s.once {
		if e.machine == vm {
			j.Once = append(j.Once, e.parts)
		}
	}
	return j
}

// streams stops the writers and reads what their volumes hold. What was heard is taken before: all of it must be there.
func (s *scene) streams() []failover.Stream {
	s.t.Helper()
	heard := map[string]failover.Heard{}
	for _, v := range s.volumes {
		heard[v.name] = s.witness.Heard(v.name)
	}
	var out []failover.Stream
	for _, vm := range s.Names() {
		out = append(out, s.streamsOf(vm, heard)...)
	}
	return out
}

func (s *scene) streamsOf(vm string, heard map[string]failover.Heard) []failover.Stream {
	s.t.Helper()
	var out []failover.Stream
	var boxes, mounts, dirs []string
	for _, v := range s.volumes {
		if v.machine != vm {
			continue
		}
		st := failover.Stream{Name: v.name, Heard: heard[v.name], Gone: v.gone}
		if !v.gone && len(st.Heard.Acks) > 0 {
			mounts = append(mounts, "-v "+v.name+":/"+v.name)
			dirs = append(dirs, "/"+v.name)
		}
		if v.box != "" && !v.down {
			boxes = append(boxes, v.box)
		}
		out = append(out, st)
	}
	if len(boxes) > 0 {
		s.sh(vm, "docker stop "+strings.Join(boxes, " ")+" >/dev/null")
	}
	if len(dirs) == 0 {
		return slices.DeleteFunc(out, func(st failover.Stream) bool { return len(st.Heard.Acks) == 0 })
	}
	text := s.sh(vm, "docker run --rm --network none "+strings.Join(mounts, " ")+" "+writerImage+" dump "+strings.Join(dirs, " "))
	found, err := failover.ParseDump(text)
	if err != nil {
		s.t.Fatalf("%s: %v", vm, err)
	}
	for i := range out {
		out[i].Found = found["/"+out[i].Name]
	}
	return slices.DeleteFunc(out, func(st failover.Stream) bool { return s.silent(st.Name) })
}

// silent says whether nobody was to write to the volume.
func (s *scene) silent(name string) bool {
	i := slices.IndexFunc(s.volumes, func(v *vol) bool { return v.name == name })
	return s.volumes[i].box == "" && len(s.witness.Heard(name).Acks) == 0
}

// clear removes what the case made, and sees to it that all disks have left.
func (s *scene) clear() {
	s.t.Helper()
	for _, vm := range s.Names() {
		if s.on(vm) {
			s.sh(vm, "docker ps -aq | xargs -r docker rm -f >/dev/null")
		}
	}
	s.await(soon, "no disk is attached that nobody holds", func() bool {
		return !slices.ContainsFunc(s.Names(), func(vm string) bool { return len(s.attached(vm)) > 0 })
	})
	for _, v := range s.volumes {
		if !v.gone {
			s.sh(v.machine, "docker volume rm "+v.name+" >/dev/null")
		}
		for _, vm := range s.Names() {
			if vm != v.machine && s.on(vm) { // its dockerd may know the name, too
				_, _ = s.try(vm, "docker volume rm "+v.name+" >/dev/null 2>&1")
			}
		}
	}
}
