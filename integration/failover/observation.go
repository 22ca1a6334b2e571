package failover

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"

	"github.com/mooring-sh/mooring/integration/failover/record"
)

// Observation is everything that the check after a case looks at.
type Observation struct {
	Streams  []Stream
	Machines []Machine
	Volumes  []Volume
	Starts   []Container
	Journals []Journal
}

// Stream is a writer's promises, and what its volume holds.
type Stream struct {
	Name  string // of the writer
	Heard Heard
	Found Contents
	Gone  bool // the case deleted the disk, as vSphere does with a machine's: nothing is expected of it
}

// Machine is a virtual machine as vCenter and its own plugin have it.
type Machine struct {
	Name     string
	On       bool
	Disks    []string // names of volumes in its hardware list
	Held     []string // volumes that its plugin says are held; nil if the machine is off
	Kernel   []string // lines of its kernel that speak of lost disks
	Attached []string // volumes that its plugin says are attached
}

// Volume is a volume as one machine's dockerd has it.
type Volume struct {
	Name    string
	Machine string
	Want    map[string]string // the labels that it was created with
	Labels  map[string]string
	Used    bool // by a container that runs
	// Removal is what docker said to a removal of a used volume; "removed" would be very wrong.
	Removal string
}

// Container is one that was started by the case and should be as it was started.
type Container struct {
	Name, Machine        string
	Running, WantRunning bool
	Policy, WantPolicy   string // of restarts
}

// Journal is what one machine's plugin has written in one boot, with what the case expects to be there once.
type Journal struct {
	Machine string
	Lines   []string
	// Once are substrings, each list of which must be found together in exactly one line.
	Once [][]string
	// Never are substrings that no line may have together.
	Never [][]string
}

// Contents is what a dump of a writer's files says.
type Contents struct {
	Log    []Ack
	Blocks map[int]Ack
	Mark   Ack
	Bad    []string
	Last   uint64
	Torn   bool
	Whole  bool // the dump was read to its end
}

// ParseDump reads what the writer's dump prints: what each directory holds.
func ParseDump(text string) (map[string]Contents, error) {
	out := map[string]Contents{}
	dir := ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "dir "); ok {
			dir = name
			out[dir] = Contents{Blocks: map[int]Ack{}}
			continue
		}
		c, ok := out[dir]
		if !ok {
			return out, fmt.Errorf("dump: %q comes before any directory", line)
		}
		if err := c.take(line); err != nil {
			return out, fmt.Errorf("dump: %q: %w", line, err)
		}
		out[dir] = c
	}
	return out, nil
}

func (c *Contents) take(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	var err error
	switch verb {
	case "log":
		var a Ack
		a, err = parseAck(rest)
		c.Log = append(c.Log, a)
	case "block":
		slot, what, _ := strings.Cut(rest, " ")
		var n int
		if n, err = strconv.Atoi(slot); err == nil {
			c.Blocks[n], err = parseAck(what + " -")
		}
	case "mark":
		c.Mark, err = parseAck(rest + " -")
	case "bad":
		c.Bad = append(c.Bad, rest)
	case "end":
		last, state, _ := strings.Cut(rest, " ")
		c.Last, err = strconv.ParseUint(last, 10, 64)
		c.Torn, c.Whole = state == "torn", true
	default:
		err = fmt.Errorf("%q is no line of a dump", verb)
	}
	return err
}

// slots returns, by slot, the highest acknowledged record that was written there.
func slots(acks []Ack) map[int]uint64 {
	out := map[int]uint64{}
	for _, a := range acks {
		if slot, ok := record.Slot(a.Seq); ok {
			out[slot] = max(out[slot], a.Seq)
		}
	}
	return out
}
