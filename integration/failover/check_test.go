//go:build machines

package failover_test

import (
	"encoding/json"
	"fmt"
	"maps"
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
	// Mountpoint is what the containers have.
	Mountpoint string `json:"mountpoint"`
	Holders    []struct {
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

// answer is what dockerd, or the supervisor, says to one request.
type answer struct {
	status string
	body   []byte
}

// answers reads what the writer's verb api prints.
func answers(text string) (out []answer) {
	for line := range strings.Lines(text) {
		status, body, _ := strings.Cut(strings.TrimSpace(line), " ")
		out = append(out, answer{status, []byte(body)})
	}
	return out
}

// ask sends requests to the machine's dockerd, each a method and a path.
func (s *scene) ask(vm string, requests ...string) []answer {
	s.t.Helper()
	if len(requests) == 0 {
		return nil
	}
	text := s.sh(vm, writerBinary+" api '"+strings.Join(requests, "' '")+"'")
	out := answers(text)
	if len(out) != len(requests)/2 {
		s.t.Fatalf("%s: %d answers to %d requests:\n%s", vm, len(out), len(requests)/2, text)
	}
	return out
}

// containers asks dockerd of the machine for the case's containers and volumes, and tries to remove those that are used.
func (s *scene) containers(vm string, o *failover.Observation) {
	s.t.Helper()
	var requests []string
	var read []func(answer)
	for _, v := range s.volumes {
		if v.machine != vm || v.gone {
			continue
		}
		seen := failover.Volume{Name: v.name, Machine: vm, Want: v.labels, Used: v.box != "" && !v.down}
		at := len(o.Volumes)
		o.Volumes = append(o.Volumes, seen)
		requests = append(requests, "GET", "/volumes/"+v.name)
		read = append(read, func(a answer) {
			var body struct{ Labels map[string]string }
			_ = json.Unmarshal(a.body, &body) // no labels are a finding
			o.Volumes[at].Labels = body.Labels
		})
		if seen.Used {
			requests = append(requests, "DELETE", "/volumes/"+v.name)
			read = append(read, func(a answer) { o.Volumes[at].Removal = a.status + " " + string(a.body) })
		}
		if v.box == "" {
			continue
		}
		c := len(o.Starts)
		o.Starts = append(o.Starts, failover.Container{Name: v.box, Machine: vm, WantRunning: !v.down, WantPolicy: v.policy})
		requests = append(requests, "GET", "/containers/"+v.box+"/json")
		read = append(read, func(a answer) {
			var body struct {
				State      struct{ Running bool }
				HostConfig struct{ RestartPolicy struct{ Name string } }
			}
			_ = json.Unmarshal(a.body, &body) // no container is a finding
			o.Starts[c].Running, o.Starts[c].Policy = body.State.Running, body.HostConfig.RestartPolicy.Name
		})
	}
	for i, a := range s.ask(vm, requests...) {
		read[i](a)
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

// streams lets the writers stand still and reads what their volumes hold. What was heard is taken before: all of it must be there.
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
	var pause, mounts, inside, here []string
	for _, v := range s.volumes {
		if v.machine != vm || s.silent(v.name) {
			continue
		}
		out = append(out, failover.Stream{Name: v.name, Heard: heard[v.name], Gone: v.gone})
		switch {
		case v.gone:
		case v.box != "" && !v.down:
			pause = append(pause, "POST", "/containers/"+v.box+"/pause")
			here = append(here, s.view(vm, v).Mountpoint)
		default:
			mounts = append(mounts, "-v "+v.name+":/"+v.name)
			inside = append(inside, "/"+v.name)
		}
	}
	s.ask(vm, pause...)
	found := map[string]failover.Contents{}
	dump := func(script string) {
		part, err := failover.ParseDump(s.sh(vm, script))
		if err != nil {
			s.t.Fatalf("%s: %v", vm, err)
		}
		maps.Copy(found, part)
	}
	if len(here) > 0 {
		dump(writerBinary + " dump " + strings.Join(here, " "))
	}
	if len(inside) > 0 {
		dump("docker run --rm --network none " + strings.Join(mounts, " ") + " " + writerImage + " dump " + strings.Join(inside, " "))
	}
	for i := range out {
		for dir, c := range found {
			if dir == "/"+out[i].Name || strings.Contains(dir, "/"+out[i].Name+"/") || strings.HasSuffix(dir, "/"+out[i].Name) {
				out[i].Found = c
			}
		}
	}
	return out
}

// silent says whether nobody was to write to the volume.
func (s *scene) silent(name string) bool {
	i := slices.IndexFunc(s.volumes, func(v *vol) bool { return v.name == name })
	return s.volumes[i].box == "" && len(s.witness.Heard(name).Acks) == 0
}

// bare removes every container of the machine.
func (s *scene) bare(vm string) {
	s.t.Helper()
	var list []struct{ ID string }
	if a := s.ask(vm, "GET", "/containers/json?all=1")[0]; json.Unmarshal(a.body, &list) != nil {
		s.t.Fatalf("%s: list of containers: %s", vm, a.body)
	}
	var requests []string
	for _, c := range list {
		requests = append(requests, "DELETE", "/containers/"+c.ID+"?force=1")
	}
	s.ask(vm, requests...)
}

// clear removes what the case made, and sees to it that all disks have left.
func (s *scene) clear() {
	s.t.Helper()
	if s.stack != nil {
		return // it stays up, with its volumes
	}
	for _, vm := range s.Names() {
		if s.on(vm) {
			s.bare(vm)
		}
	}
	s.await(soon, "no disk is attached that nobody holds", func() bool {
		return !slices.ContainsFunc(s.Names(), func(vm string) bool { return len(s.attached(vm)) > 0 })
	})
	for _, v := range s.volumes {
		if !v.gone {
			if a := s.ask(v.machine, "DELETE", "/volumes/"+v.name)[0]; a.status != "204" {
				s.t.Errorf("remove %s on %s: %s %s", v.name, v.machine, a.status, a.body)
			}
		}
		for _, vm := range s.Names() {
			if vm != v.machine && s.on(vm) { // its dockerd may know the name, too
				s.ask(vm, "DELETE", "/volumes/"+v.name)
			}
		}
	}
}
