package record_test

import (
	"bytes"
	"testing"

	"github.com/mooring-sh/mooring/integration/failover/record"
)

const life = record.Life(0xabc)

// logOf returns a log of five records.
func logOf() []byte {
	var b []byte
	for seq := range 5 {
		r, _ := record.Encode(uint64(seq)+1, life)
		b = append(b, r...)
	}
	return b
}

func read(t *testing.T, b []byte) record.Log {
	t.Helper()
	log, err := record.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestWhatWasEncodedIsDecoded(t *testing.T) {
	b, want := record.Encode(7, life)
	if got, err := record.Decode(b); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, other := record.Encode(7, life+1); other.Sum == want.Sum {
		t.Error("two lives of a writer give one record the same checksum: a log that was begun anew would pass for the old one")
	}
	if got, want := life.String(), "0000000000000abc"; got != want {
		t.Errorf("life: got %s, want %s", got, want)
	}
}

// One changed bit, anywhere, is seen.
func TestEveryChangedByteIsSeen(t *testing.T) {
	good, _ := record.Encode(1, life)
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 1
		if e, err := record.Decode(b); err == nil {
			t.Fatalf("byte %d changed: got %+v, want an error", at, e)
		}
	}
}

func TestLogsAndWhatIsWrongWithThem(t *testing.T) {
	hole := logOf()
	clear(hole[2*record.Size : 3*record.Size])
	moved := logOf()
	copy(moved[1*record.Size:], moved[3*record.Size:4*record.Size])
	for _, c := range []struct {
		name string
		log  []byte
		last uint64
		bad  []uint64
		torn bool
	}{
		{name: "empty"},
		{name: "whole", log: logOf(), last: 5},
		{name: "the last record is cut", log: logOf()[:5*record.Size-1], last: 4, torn: true},
		{name: "zeros after the last record", log: append(logOf(), make([]byte, 2*record.Size)...), last: 5, torn: true},
		{name: "a hole", log: hole, last: 5, bad: []uint64{3}},
		{name: "a record at another's place", log: moved, last: 5, bad: []uint64{2}},
		{name: "cut at the front", log: logOf()[record.Size:], torn: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := read(t, c.log)
			if log.Last() != c.last || log.Torn != c.torn {
				t.Errorf("got last %d, torn %t; want %d, %t", log.Last(), log.Torn, c.last, c.torn)
			}
			if len(log.Bad) != len(c.bad) {
				t.Fatalf("bad: got %+v, want %v", log.Bad, c.bad)
			}
			for i, b := range log.Bad {
				if b.Seq != c.bad[i] {
					t.Errorf("bad: got %d, want %d", b.Seq, c.bad[i])
				}
			}
		})
	}
}

// Each slot is written, and each record has at most one.
func TestSlotsAreUsedInTurn(t *testing.T) {
	seen := map[int]int{}
	for seq := uint64(1); seq <= record.Stride*record.Slots*2; seq++ {
		if slot, ok := record.Slot(seq); ok {
			seen[slot]++
		}
		if record.Marked(seq) && seq%record.Stride != 0 {
			t.Errorf("record %d replaces the mark and no block", seq)
		}
	}
	for slot := range record.Slots {
		if seen[slot] != 2 {
			t.Errorf("slot %d is written %d times in two rounds, want twice", slot, seen[slot])
		}
	}
}
