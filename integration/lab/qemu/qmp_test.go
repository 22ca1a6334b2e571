package qemu_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
)

// fakeQEMU answers like QEMU's monitor: it greets, tells an event before each answer, answers the second of two commands first, and never answers "silence".
func fakeQEMU(conn net.Conn) {
	say := func(format string, a ...any) { _, _ = fmt.Fprintf(conn, format+"\r\n", a...) }
	say(`{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}`)
	lines := bufio.NewScanner(conn)
	held := ""
	for lines.Scan() {
		var c struct {
			Execute string `json:"execute"`
			ID      int    `json:"id"`
		}
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			return
		}
		say(`{"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 1, "microseconds": 2}}`)
		switch c.Execute {
		case "first":
			held = fmt.Sprintf(`{"return": {}, "id": %d}`, c.ID)
		case "second":
			say(`{"error": {"class": "GenericError", "desc": "no second"}, "id": %d}`, c.ID)
			say("%s", held)
		case "silence":
		case "die":
			_ = conn.Close()
			return
		default:
			say(`{"return": {}, "id": %d}`, c.ID)
		}
	}
}

func TestMonitorMatchesAnswersToCommands(t *testing.T) {
	theirs, ours := net.Pipe()
	go fakeQEMU(theirs)
	events := make(chan string, 100)
	m := qemu.NewMonitor(ours, func(name string) { events <- name })
	defer func() { _ = ours.Close() }()
	if err := m.Do(t.Context(), "qmp_capabilities"); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- m.Do(t.Context(), "first") }()
	for range 2 { // the second is sent after the first
		<-events
	}
	if err := m.Do(t.Context(), "second"); err == nil || err.Error() != "second: QEMU: no second" {
		t.Errorf("refused: got %v, want QEMU's words", err)
	}
	if err := <-first; err != nil {
		t.Errorf("the first command: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Do(ctx, "silence"); !errors.Is(err, mooring.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: got %v, want ErrUnavailable and the deadline", err)
	}
	for range 2 {
		if err := m.Do(t.Context(), "die"); !errors.Is(err, mooring.ErrUnavailable) {
			t.Errorf("QEMU has died: got %v, want ErrUnavailable", err)
		}
	}
}

// Frames reach the machine that they are for, those to unknown addresses all others, and none the machine that they are from.
func TestNetworkDeliversFrames(t *testing.T) {
	var n qemu.Network
	var ends [3]io.ReadWriteCloser
	for i := range ends {
		end, err := n.Connect()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = end
	}
	send := func(from int, dst, src byte, text string) {
		frame := append(append([]byte{0, 0, 0, byte(14 + len(text))}, 0, 0, 0, 0, 0, dst, 0, 0, 0, 0, 0, src, 8, 0), text...)
		if _, err := ends[from].Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	got := func(at int) string {
		var head [18]byte
		if _, err := io.ReadFull(ends[at], head[:]); err != nil {
			return err.Error()
		}
		text := make([]byte, head[3]-14)
		if _, err := io.ReadFull(ends[at], text); err != nil {
			return err.Error()
		}
		return string(text)
	}
	send(0, 255, 10, "who has?") // 0 is known as 10 from now on
	for _, at := range []int{1, 2} {
		if text := got(at); text != "who has?" {
			t.Errorf("machine %d got %q", at, text)
		}
	}
	send(1, 10, 11, "I have")
	send(2, 10, 12, "so do I")
	if a, b := got(0), got(0); !strings.Contains(a+b, "I have") || !strings.Contains(a+b, "so do I") {
		t.Errorf("machine 0 got %q and %q", a, b)
	}
	send(0, 11, 10, "to one")
	send(0, 255, 10, "to all")
	if a, b := got(1), got(2); a != "to one" || b != "to all" {
		t.Errorf("machines 1 and 2 got %q and %q, want what is for one, and only what is for all", a, b)
	}
	for _, end := range ends {
		if err := end.Close(); err != nil {
			t.Error(err)
		}
	}
	n.Wait()
}
