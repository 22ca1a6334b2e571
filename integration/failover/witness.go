package failover

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ack is a record that a writer said is on the disk.
type Ack struct {
	Seq  uint64
	Sum  uint32
	Life string
	At   time.Time // when the line came
}

// Up is a start of a writer.
type Up struct {
	At     time.Time     // when the line came
	Uptime time.Duration // of the guest's kernel at that moment, by its own clock
}

// Heard is what one writer has said.
type Heard struct {
	Acks []Ack
	Ups  []Up     // the writer's starts
	Bad  []string // why it refused to write
}

// Last returns the last acknowledged number; 0: none.
func (h Heard) Last() uint64 {
	var last uint64
	for _, a := range h.Acks {
		last = max(last, a.Seq)
	}
	return last
}

// Witness listens to the writers of all machines. Its methods may be called from any goroutine.
type Witness struct {
	mu      sync.Mutex
	heard   map[string]Heard // by stream
	strange []string
	changed chan struct{} // closed and replaced at every line
}

// NewWitness returns one that has heard nothing.
func NewWitness() *Witness {
	return &Witness{heard: map[string]Heard{}, changed: make(chan struct{})}
}

// Note takes a line of a writer: "ack SEQ SUM LIFE", "up UPTIME", or "bad WHY".
func (w *Witness) Note(stream, text string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.heard[stream]
	switch verb, rest, _ := strings.Cut(text, " "); verb {
	case "ack":
		a, err := parseAck(rest)
		if err != nil {
			w.strange = append(w.strange, stream+": "+text+": "+err.Error())
			break
		}
		a.At = at
		h.Acks = append(h.Acks, a)
	case "up":
		uptime, err := time.ParseDuration(rest)
		if err != nil {
			w.strange = append(w.strange, stream+": "+text+": "+err.Error())
			break
		}
		h.Ups = append(h.Ups, Up{At: at, Uptime: uptime})
	case "bad":
		h.Bad = append(h.Bad, rest)
	default:
		w.strange = append(w.strange, stream+": "+text)
	}
	w.heard[stream] = h
	close(w.changed)
	w.changed = make(chan struct{})
}

func parseAck(text string) (Ack, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return Ack{}, fmt.Errorf("%d fields instead of 3", len(fields))
	}
	seq, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return Ack{}, err
	}
	sum, err := strconv.ParseUint(fields[1], 16, 32)
	return Ack{Seq: seq, Sum: uint32(sum), Life: fields[2]}, err
}

// Heard returns what the writer of that stream has said so far.
func (w *Witness) Heard(stream string) Heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard[stream]
}

// Strange returns the lines that no writer sends.
func (w *Witness) Strange() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.strange
}

// Forget drops what was heard from the streams, or from all if none is named: a case begins with nothing.
func (w *Witness) Forget(streams ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(streams) == 0 {
		clear(w.heard)
		w.strange = nil
	}
	for _, s := range streams {
		delete(w.heard, s)
	}
}

// Await waits until ok holds for what the writer of that stream has said.
func (w *Witness) Await(ctx context.Context, stream string, ok func(Heard) bool) error {
	for {
		w.mu.Lock()
		h, changed := w.heard[stream], w.changed
		w.mu.Unlock()
		if ok(h) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, whose last acknowledged record is %d, after %d starts: %w", stream, h.Last(), len(h.Ups), ctx.Err())
		}
	}
}

// Streams returns the names of all that was heard from.
func (w *Witness) Streams() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for s := range maps.Keys(w.heard) {
		names = append(names, s)
	}
	return names
}
