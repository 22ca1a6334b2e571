package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/failover/record"
)

// kept returns a stream of n records, all acknowledged and all there.
func kept(n uint64) failover.Stream {
	s := failover.Stream{Name: "db", Found: failover.Contents{Blocks: map[int]failover.Ack{}, Whole: true, Last: n}}
	for seq := uint64(1); seq <= n; seq++ {
		a := failover.Ack{Seq: seq, Sum: uint32(seq * 7), Life: "a"}
		s.Heard.Acks = append(s.Heard.Acks, a)
		s.Found.Log = append(s.Found.Log, a)
		if slot, ok := record.Slot(seq); ok {
			s.Found.Blocks[slot] = a
		}
		if record.Marked(seq) {
			s.Found.Mark = a
		}
	}
	return s
}

// well is an observation in which all is as it should be.
func well() failover.Observation {
	return failover.Observation{
		Streams: []failover.Stream{kept(100)},
		Machines: []failover.Machine{
			{Name: "docker1", On: true, Disks: []string{"db"}, Held: []string{"db"}, Attached: []string{"db"}},
			{Name: "docker2"},
		},
		Volumes: []failover.Volume{{
			Name: "db", Machine: "docker1", Want: map[string]string{"keep": "me"}, Labels: map[string]string{"keep": "me"},
			Used: true, Removal: "Error response from daemon: remove db: volume is in use - [1234]",
		}},
		Starts: []failover.Container{{Name: "w", Machine: "docker1", Running: true, WantRunning: true, Policy: "always", WantPolicy: "always"}},
		Journals: []failover.Journal{{
			Machine: "docker1", Lines: []string{"level=INFO msg=reconcile volume=db op=restore", "level=INFO msg=request op=mount volume=db took=1ms"},
			Once: [][]string{{"op=restore", "volume=db"}}, Never: [][]string{{"mkfs"}},
		}},
	}
}

// A check that finds nothing must be one that would have found it.
func TestJudgeFindsEachBreach(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(o *failover.Observation)
		want  string
	}{
		{"an acknowledged record is lost", func(o *failover.Observation) {
			o.Streams[0].Found.Log = o.Streams[0].Found.Log[:99]
		}, "record 100 was acknowledged"},
		{"one in the middle is lost", func(o *failover.Observation) {
			log := o.Streams[0].Found.Log
			o.Streams[0].Found.Log = append(log[:49:49], log[50:]...)
		}, "record 50 was acknowledged"},
		{"a record is another's", func(o *failover.Observation) { o.Streams[0].Found.Log[3].Sum = 1 }, "record 4 was acknowledged with the checksum 0000001c"},
		{"the volume is empty", func(o *failover.Observation) { o.Streams[0].Found = failover.Contents{Whole: true} }, "is lost"},
		{"nothing was acknowledged", func(o *failover.Observation) { o.Streams[0].Heard.Acks = nil }, "not one record"},
		{"nobody looked", func(o *failover.Observation) { o.Streams[0].Found.Whole = false }, "not read to its end"},
		{"a rewritten block is old", func(o *failover.Observation) { o.Streams[0].Found.Blocks[12] = failover.Ack{Seq: 8} }, "block 12 was acknowledged to hold record 96, and holds 8"},
		{"a rewritten block is gone", func(o *failover.Observation) { delete(o.Streams[0].Found.Blocks, 12) }, "and holds 0"},
		{"the mark is old", func(o *failover.Observation) { o.Streams[0].Found.Mark.Seq = 40 }, "the mark was acknowledged at record 80, and says 40"},
		{"the log is damaged", func(o *failover.Observation) { o.Streams[0].Found.Bad = []string{"7 no record begins here"} }, "damaged at record 7"},
		{"the writer refused", func(o *failover.Observation) { o.Streams[0].Heard.Bad = []string{"input/output error"} }, "refused to go on"},
		{"two writers at once", func(o *failover.Observation) {
			log := o.Streams[0].Found.Log
			for i, life := range map[int]string{97: "b", 98: "a", 99: "b"} {
				log[i].Life = life
			}
		}, "there were two"},
		{"a disk on two machines", func(o *failover.Observation) { o.Machines[1].Disks = []string{"db"} }, "of docker1 and of docker2"},
		{"a disk that nobody holds", func(o *failover.Observation) { o.Machines[0].Held = []string{} }, "where nobody holds it"},
		{"a holder without a disk", func(o *failover.Observation) { o.Machines[0].Disks = nil }, "which does not have its disk"},
		{"the plugin believes in a disk", func(o *failover.Observation) { o.Machines[0].Attached = []string{"db", "log"} }, "says that log is attached"},
		{"the kernel lost a disk", func(o *failover.Observation) { o.Machines[0].Kernel = []string{"I/O error, dev sdb"} }, "I/O error, dev sdb"},
		{"a label is gone", func(o *failover.Observation) { o.Volumes[0].Labels = nil }, `label keep="", want "me"`},
		{"a used volume was removed", func(o *failover.Observation) { o.Volumes[0].Removal = "removed" }, "answers to its removal: removed"},
		{"a container is down", func(o *failover.Observation) { o.Starts[0].Running = false }, "running false, want true"},
		{"a policy changed", func(o *failover.Observation) { o.Starts[0].Policy = "no" }, `restart policy "no", want "always"`},
		{"something was not logged", func(o *failover.Observation) { o.Journals[0].Lines = o.Journals[0].Lines[1:] }, "has 0 lines"},
		{"something was logged twice", func(o *failover.Observation) {
			j := &o.Journals[0]
			j.Lines = append(j.Lines, j.Lines[1])
		}, "has a line twice"},
		{"something happened twice", func(o *failover.Observation) {
			j := &o.Journals[0]
			j.Lines = append(j.Lines, j.Lines[0]+" again")
		}, "has 2 lines"},
		{"something happened that must not", func(o *failover.Observation) {
			j := &o.Journals[0]
			j.Lines = append(j.Lines, "level=DEBUG msg=command name=mkfs.ext4")
		}, "want none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := well()
			if got := failover.Judge(o); len(got) != 0 {
				t.Fatalf("before: %q", got)
			}
			c.spoil(&o)
			got := failover.Judge(o)
			if !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got %q, want one with %q", got, c.want)
			}
		})
	}
}

// What may be: a volume that the case let vSphere delete, records after the last one that was told, a writer that was started again.
func TestJudgeLetsBeWhatMayBe(t *testing.T) {
	o := well()
	s := &o.Streams[0]
	for i := 60; i < 100; i++ {
		s.Found.Log[i].Life = "b"
		s.Heard.Acks[i].Life = "b"
	}
	s.Heard.Acks = s.Heard.Acks[:90]
	s.Found.Torn = true
	gone := kept(10)
	gone.Gone, gone.Found = true, failover.Contents{}
	o.Streams = append(o.Streams, gone)
	if got := failover.Judge(o); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestDumpsAreRead(t *testing.T) {
	dump, err := failover.ParseDump("dir /a\ndir /b\nlog 1 0000000a aa\nlog 2 0000000b aa\nblock 3 8 0000000c\nmark 40 0000000d\nbad 7 no record begins here\nend 2 torn\n")
	if err != nil {
		t.Fatal(err)
	}
	got := dump["/b"]
	if len(dump) != 2 || len(got.Log) != 2 || got.Log[1].Sum != 0xb || got.Blocks[3].Seq != 8 || got.Mark.Seq != 40 || got.Last != 2 || !got.Torn || !got.Whole || len(got.Bad) != 1 {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"log 1", "dir /a\nlog 1", "dir /a\nlog x 1 aa", "dir /a\nblock x 1 1", "dir /a\ndocker: no such container", "dir /a\nend x whole"} {
		if _, err := failover.ParseDump(bad); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if cut, err := failover.ParseDump("dir /a\nlog 1 0000000a aa\n"); err != nil || cut["/a"].Whole {
		t.Errorf("a dump without its end: got %+v, %v", cut, err)
	}
}

func TestWitnessHearsWritersAndNothingElse(t *testing.T) {
	w := failover.NewWitness()
	now := time.Now()
	w.Note("db", "up 12.5s", now)
	w.Note("db", "ack 1 0000000a 00ab", now)
	w.Note("db", "ack 2 0000000b 00ab", now)
	w.Note("db", "bad disk full", now)
	w.Note("db", "ack one two three", now)
	w.Note("login", "hello", now)
	h := w.Heard("db")
	if h.Last() != 2 || len(h.Ups) != 1 || h.Ups[0].Uptime != 12500*time.Millisecond || len(h.Bad) != 1 || h.Acks[1].Sum != 0xb {
		t.Errorf("got %+v", h)
	}
	if got := w.Strange(); len(got) != 2 {
		t.Errorf("strange lines: got %q, want two", got)
	}
	if err := w.Await(t.Context(), "db", func(h failover.Heard) bool { return h.Last() == 2 }); err != nil {
		t.Error(err)
	}
	w.Forget("db")
	if h := w.Heard("db"); len(h.Acks) != 0 {
		t.Errorf("after it was forgotten: got %+v", h)
	}
}
