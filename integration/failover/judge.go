package failover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring/integration/failover/record"
)

// Judge returns what is not as Mooring promises; nothing: all is well. Each finding is a sentence that names the thing.
func Judge(o Observation) []string {
	var out []string
	for _, s := range o.Streams {
		out = append(out, judgeStream(s)...)
	}
	out = append(out, judgeDisks(o.Machines)...)
	for _, v := range o.Volumes {
		out = append(out, judgeVolume(v)...)
	}
	for _, c := range o.Starts {
		out = append(out, judgeContainer(c)...)
	}
	for _, j := range o.Journals {
		out = append(out, judgeJournal(j)...)
	}
	return out
}

// judgeStream holds what was promised against what is there.
func judgeStream(s Stream) []string {
	if s.Gone {
		return nil
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, s.Name+": "+fmt.Sprintf(format, args...)) }
	if len(s.Heard.Acks) == 0 {
		add("not one record was acknowledged: the case has shown nothing")
	}
	if !s.Found.Whole {
		add("the volume was not read to its end")
	}
	for _, b := range s.Heard.Bad {
		add("the writer refused to go on: %s", b)
	}
	for _, b := range s.Found.Bad {
		add("the log is damaged at record %s", b)
	}
	have := make(map[uint64]Ack, len(s.Found.Log))
	for _, e := range s.Found.Log {
		have[e.Seq] = e
	}
	for _, a := range s.Heard.Acks {
		switch e, ok := have[a.Seq]; {
		case !ok:
			add("record %d was acknowledged at %s and is lost; the log ends with %d", a.Seq, a.At.Format("15:04:05.000"), s.Found.Last)
		case e.Sum != a.Sum:
			add("record %d was acknowledged with the checksum %08x by %s, and there is one with %08x by %s", a.Seq, a.Sum, a.Life, e.Sum, e.Life)
		}
	}
	for slot, seq := range slots(s.Heard.Acks) {
		if got := s.Found.Blocks[slot].Seq; got < seq {
			add("block %d was acknowledged to hold record %d, and holds %d", slot, seq, got)
		}
	}
	if want := lastMarked(s.Heard.Acks); s.Found.Mark.Seq < want {
		add("the mark was acknowledged at record %d, and says %d", want, s.Found.Mark.Seq)
	}
	return append(few(out), judgeLives(s)...)
}

func lastMarked(acks []Ack) uint64 {
	var last uint64
	for _, a := range acks {
		if record.Marked(a.Seq) {
			last = max(last, a.Seq)
		}
	}
	return last
}

// judgeLives finds two writers at once: the records of one life of the writer follow each other.
func judgeLives(s Stream) []string {
	ended := map[string]bool{}
	life := ""
	for _, e := range s.Found.Log {
		if e.Life == life {
			continue
		}
		if ended[e.Life] {
			return []string{fmt.Sprintf("%s: record %d was written by %s, which another writer had followed: there were two", s.Name, e.Seq, e.Life)}
		}
		ended[life] = true
		life = e.Life
	}
	return nil
}

// few keeps the first findings of many of one kind.
func few(findings []string) []string {
	const most = 8
	if len(findings) <= most {
		return findings
	}
	return append(findings[:most:most], fmt.Sprintf("and %d more of the same volume", len(findings)-most))
}

// judgeDisks holds the hardware lists against each other, and each against its plugin.
func judgeDisks(machines []Machine) []string {
	var out []string
	owner := map[string]string{}
	for _, m := range machines {
		for _, d := range m.Disks {
			if other, ok := owner[d]; ok {
				out = append(out, fmt.Sprintf("the disk of %s is in the hardware of %s and of %s", d, other, m.Name))
			}
			owner[d] = m.Name
		}
		if m.On {
			out = append(out, judgeHolders(m)...)
		}
		for _, line := range m.Kernel {
			out = append(out, fmt.Sprintf("the kernel of %s lost a disk: %s", m.Name, line))
		}
	}
	return out
}

func judgeHolders(m Machine) []string {
	var out []string
	for _, d := range without(m.Disks, m.Held) {
		out = append(out, fmt.Sprintf("the disk of %s is attached to %s, where nobody holds it", d, m.Name))
	}
	for _, h := range without(m.Held, m.Disks) {
		out = append(out, fmt.Sprintf("%s is held on %s, which does not have its disk", h, m.Name))
	}
	for _, a := range without(m.Attached, m.Disks) {
		out = append(out, fmt.Sprintf("the plugin of %s says that %s is attached; the hardware list does not have it", m.Name, a))
	}
	return out
}

// without returns those of names that are not among the others.
func without(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(others, n) })
}

func judgeVolume(v Volume) []string {
	var out []string
	for key, want := range v.Want {
		if got := v.Labels[key]; got != want {
			out = append(out, fmt.Sprintf("%s: dockerd of %s has the label %s=%q, want %q", v.Name, v.Machine, key, got, want))
		}
	}
	if v.Used && !strings.Contains(v.Removal, "in use") {
		out = append(out, fmt.Sprintf("%s: a running container uses it, and dockerd of %s answers to its removal: %s", v.Name, v.Machine, v.Removal))
	}
	return out
}

func judgeContainer(c Container) []string {
	var out []string
	if c.Running != c.WantRunning {
		out = append(out, fmt.Sprintf("container %s on %s: running %t, want %t", c.Name, c.Machine, c.Running, c.WantRunning))
	}
	if c.Policy != c.WantPolicy {
		out = append(out, fmt.Sprintf("container %s on %s: restart policy %q, want %q", c.Name, c.Machine, c.Policy, c.WantPolicy))
	}
	return out
}

// judgeJournal wants each expected thing in one line, and no line twice.
func judgeJournal(j Journal) []string {
	var out []string
	for _, want := range j.Once {
		if n := count(j.Lines, want); n != 1 {
			out = append(out, fmt.Sprintf("the plugin's journal on %s has %d lines with %q, want 1", j.Machine, n, want))
		}
	}
	for _, not := range j.Never {
		if n := count(j.Lines, not); n != 0 {
			out = append(out, fmt.Sprintf("the plugin's journal on %s has %d lines with %q, want none", j.Machine, n, not))
		}
	}
	seen := map[string]bool{}
	for _, line := range j.Lines {
		if seen[line] && strings.Contains(line, "level=INFO") { // a warning stands again while its cause does
			out = append(out, fmt.Sprintf("the plugin's journal on %s has a line twice: %s", j.Machine, line))
		}
		seen[line] = true
	}
	return few(out)
}

// count returns how many lines have all of the parts.
func count(lines, parts []string) int {
	n := 0
	for _, line := range lines {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}
