package stack_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// What Docker 20.10 and 26 were seen to do, with what decides. A service that is taken for stopped stays down after a failover; one that is
// not comes back against somebody's will.
func TestWhoEndedAContainer(t *testing.T) {
	daemon := time.Date(2026, 11, 22, 0, 9, 44, 0, time.UTC)
	before, during, after := daemon.Add(-time.Hour), daemon.Add(2*time.Second), daemon.Add(time.Hour)
	for _, c := range []struct {
		what string
		end  stack.Ending
		want mooring.Fact
	}{
		{"docker stop, seen", stack.Ending{Finished: after, Requested: mooring.Yes, Watched: true, Killed: true, Daemon: daemon}, mooring.Yes},
		{"docker stop, seen, no record to be had", stack.Ending{Finished: after, Watched: true, Killed: true, Alive: true}, mooring.Yes},
		{"the same, and dockerd no longer answers", stack.Ending{Finished: after, Watched: true, Killed: true}, mooring.Unknown},
		{"docker kill, long ago", stack.Ending{Exit: 137, Finished: before, Requested: mooring.Yes, Daemon: daemon}, mooring.Yes},
		{"docker stop while nobody looked", stack.Ending{Finished: after, Requested: mooring.Yes, Daemon: daemon}, mooring.Yes},
		{"a crash, seen", stack.Ending{Exit: 1, Finished: after, Requested: mooring.No, Watched: true, Daemon: daemon}, mooring.No},
		{"a crash after a log was rotated by a signal", stack.Ending{Exit: 1, Finished: after, Requested: mooring.Yes, Watched: true}, mooring.No},
		{"dockerd's shutdown, seen: it sends the same events", stack.Ending{Finished: after, Requested: mooring.No, Watched: true, Killed: true}, mooring.No},
		{"dockerd's shutdown, not seen", stack.Ending{Finished: before, Requested: mooring.No, Daemon: daemon}, mooring.No},
		{"the machine died", stack.Ending{Exit: 255, Finished: during, Requested: mooring.No, Daemon: daemon}, mooring.No},
		{"the machine died, with a signal before", stack.Ending{Exit: 255, Finished: during, Requested: mooring.Yes, Daemon: daemon}, mooring.No},
		{"dockerd was killed, and ended it when it was back", stack.Ending{Finished: during, Requested: mooring.Yes, Daemon: daemon}, mooring.No},
		{"the same, of a container that took a minute to end", stack.Ending{Finished: daemon.Add(time.Minute), Requested: mooring.Yes, Daemon: daemon, Served: daemon.Add(61 * time.Second)}, mooring.No},
		{"nothing is known", stack.Ending{Finished: after}, mooring.Unknown},
	} {
		if got := c.end.ByPerson(); got != string(c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

// The events of a stop come in another order from Docker 26 than from 20.10; a signal that ends nothing is no stop; a start forgets.
func TestWhatEventsTell(t *testing.T) {
	term, usr1 := docker.Event{Action: "kill", Signal: syscall.SIGTERM}, docker.Event{Action: "kill", Signal: syscall.SIGUSR1}
	die, stop, start := docker.Event{Action: "die"}, docker.Event{Action: "stop"}, docker.Event{Action: "start"}
	for _, c := range []struct {
		what          string
		events        []docker.Event
		ended, killed bool
	}{
		{"stop, 20.10", []docker.Event{term, die, stop}, true, true},
		{"stop, 26", []docker.Event{term, stop, die}, true, true},
		{"stop with a signal of its own", []docker.Event{{Action: "kill", Signal: syscall.SIGWINCH}, die, stop}, true, true},
		{"crash after a log was rotated", []docker.Event{usr1, die}, true, false},
		{"crash", []docker.Event{die}, true, false},
		{"restart", []docker.Event{term, die, stop, start}, false, false},
		{"health", []docker.Event{{Action: "health_status: healthy"}}, false, false},
	} {
		w := stack.Witnessed{}.Hear(c.events...)
		if w.Ended() != c.ended || w.Killed() != c.killed {
			t.Errorf("%s: got ended %t, killed %t, want %t, %t", c.what, w.Ended(), w.Killed(), c.ended, c.killed)
		}
	}
}
