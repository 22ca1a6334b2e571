package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// answerWithin is how long a QEMU that is well may take to answer a command: it answers at once, on a busy machine within a second or two.
const answerWithin = 15 * time.Second

// monitor talks to QEMU's machine protocol (QMP): commands with an ID, answers with the same, and events in between.
type monitor struct {
	conn    io.ReadWriteCloser
	onEvent func(event) // called by the reader: must not wait for an answer

	write sync.Mutex // one command at a time on the wire

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
	watches map[chan event]bool
	done    chan struct{} // closed when QEMU's end is
}

// event is something that QEMU tells by itself.
type event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// answer is what QEMU says to a command.
type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
}

// qmpError is a command that QEMU refused.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error returns QEMU's own words.
func (e *qmpError) Error() string { return "QEMU: " + e.Desc }

// args are the arguments of a command.
type args map[string]any

// newMonitor talks over conn, which it owns from now on. The first command must be qmp_capabilities.
func newMonitor(conn io.ReadWriteCloser, onEvent func(event)) *monitor {
	q := &monitor{conn: conn, onEvent: onEvent, waiting: map[int]chan answer{}, watches: map[chan event]bool{}, done: make(chan struct{})}
	go q.read() // until QEMU's end is closed, at the latest by its death; who needs that waits for q.done
	return q
}

// read hands out answers and events.
func (q *monitor) read() {
	defer close(q.done)
	lines := bufio.NewReader(q.conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var m struct {
			ID int `json:"id"`
			event
			answer
		}
		if json.Unmarshal(line, &m) != nil {
			continue // not of the protocol, and nobody waits for it
		}
		if m.Name != "" {
			q.tell(m.event)
			continue
		}
		q.mu.Lock()
		w := q.waiting[m.ID]
		delete(q.waiting, m.ID)
		q.mu.Unlock()
		if w != nil {
			w <- m.answer // has room
		}
	}
}

// tell hands out an event.
func (q *monitor) tell(e event) {
	q.onEvent(e)
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := range q.watches {
		select {
		case w <- e:
		default: // it has more than it will look at
		}
	}
}

// watch returns the events from now on, until unwatch is called.
func (q *monitor) watch() (events <-chan event, unwatch func()) {
	w := make(chan event, 256)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.watches[w] = true
	return w, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.watches, w)
	}
}

// do gives a command and waits for the answer. The error is a *qmpError when QEMU refused, and wraps [mooring.ErrUnavailable] when it does not answer: it is
// dead or frozen. A command without an answer may be carried out later.
func (q *monitor) do(ctx context.Context, command string, arguments args) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	w := make(chan answer, 1)
	q.mu.Lock()
	q.last++
	id := q.last
	q.waiting[id] = w
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
	}()
	if err := q.send(id, command, arguments); err != nil {
		return fmt.Errorf("%s: %w", command, errors.Join(err, mooring.ErrUnavailable))
	}
	select {
	case a := <-w:
		if a.Error != nil {
			return fmt.Errorf("%s: %w", command, a.Error)
		}
		return nil
	case <-q.done:
		return fmt.Errorf("%s: QEMU has ended: %w", command, mooring.ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("%s: QEMU does not answer: %w", command, errors.Join(context.Cause(ctx), mooring.ErrUnavailable))
	}
}

// send writes a command. It does not wait long: a socket that a frozen QEMU does not read has room for hundreds.
func (q *monitor) send(id int, command string, arguments args) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		ID        int    `json:"id"`
		Arguments args   `json:"arguments,omitempty"`
	}{command, id, arguments})
	if err != nil {
		return err
	}
	q.write.Lock()
	defer q.write.Unlock()
	_, err = q.conn.Write(append(line, '\n'))
	return err
}
