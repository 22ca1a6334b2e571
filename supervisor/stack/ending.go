package stack

import (
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
)

// restoring is how long after its start a dockerd may be busy with the containers that it found. One that was killed stops the
// containers that outlived it by the same calls that a person uses, before it serves its API.
const restoring = 30 * time.Second

// ending is what is known of the end of a container.
type ending struct {
	Exit     int
	Finished time.Time
	// Requested is Docker's own record of whether its API was asked to signal the container since it last started; dockerd's own shutdown is no
	// request. Unknown where the record cannot be read.
	Requested mooring.Fact
	// Watched: we listened to dockerd when it happened. Killed: it was told to end, and not by us. Alive: dockerd went on
	// serving its API afterwards.
	Watched, Killed, Alive bool
	// Daemon is when the dockerd that runs now was started, Served when it was seen to serve its API for the first time by somebody who waited for
	// that; zero if nobody knows.
	Daemon, Served time.Time
}

// byPerson says whether a person (or a program on a person's behalf, through Docker's API) ended the container.
//
// Docker's record alone does not tell: it is set, too, by a signal that only rotates a log, and by a dockerd that was killed and, when it is back, stops the
// containers that outlived it. Such containers with the policy unless-stopped are then left down by Docker for good.
func (e ending) byPerson() mooring.Fact {
	switch {
	case e.Requested == mooring.No:
		return mooring.No // it crashed, or dockerd was shut down
	case e.Watched && !e.Killed:
		return mooring.No // it ended by itself; the signal was an earlier one
	case e.Watched && e.Requested == mooring.Yes:
		return mooring.Yes
	case e.Watched && e.Alive:
		return mooring.Yes
	case e.Watched:
		return mooring.Unknown
	case e.Exit == lostExit:
		return mooring.No
	case e.restored():
		return mooring.No
	default:
		return e.Requested
	}
}

// restored reports whether the container ended before its dockerd served its API, so that nobody can have asked for it.
func (e ending) restored() bool {
	if e.Daemon.IsZero() || e.Finished.Before(e.Daemon) {
		return false
	}
	return e.Finished.Before(e.Daemon.Add(restoring)) || e.Finished.Before(e.Served)
}

// lostExit is the exit code that dockerd gives a container that was gone when it came back: the machine was killed.
const lostExit = 255

// ends reports whether the signal is one that is sent to end a container. One that has a stop signal of its own is told by the event stop.
func ends(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT:
		return true
	default:
		return false
	}
}

// witnessed is what dockerd's events told of one container in this connection.
type witnessed struct {
	ended  bool
	killed bool
	ours   bool      // we have asked for a restart
	at     time.Time // of the last event that counts
}

// hear takes an event into account. The order of die and stop differs between versions of Docker.
func (w witnessed) hear(e docker.Event) witnessed {
	switch e.Action {
	case "start":
		return witnessed{}
	case "kill":
		w.killed = w.killed || ends(e.Signal)
	case "stop":
		w.killed = true
	case "die":
		w.ended = true
	default:
		return w
	}
	w.at = e.At
	return w
}
