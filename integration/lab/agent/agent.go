// Package agent runs commands inside a machine of the lab, from outside: the guest's half is a small static program on a virtio-serial port
// ([Serve]), the host's half is a [Client] on the other end of that port.
//
// It promises that both halves find each other again after whatever happened to the other: a reset in the middle of a frame, an agent that was
// started anew, a frozen machine. What was running then ends with an error that wraps [mooring.ErrUnavailable]; nothing hangs but what its context
// lets hang. Output is neither lost nor kept in memory: each stream may be ahead of its reader by a quarter of a megabyte, and heartbeats overtake it.
//
// It never decides anything: what a machine's silence means is the caller's business.
package agent

import (
	"crypto/rand"
	"encoding/binary"
	"io"
)

const (
	// Port is the name of the virtio-serial port that the two halves share.
	Port = "org.mooring.agent"
	// LinesSocket is where processes of the guest write "STREAM text" lines that are to reach the outside. The directory can be bind-mounted into a container.
	LinesSocket = "/run/mooring-lab/lines.sock"
	// Program is the name that the agent's program is started by.
	Program = "mooring-agent"
)

// Command is what [Client.Run] runs in the guest.
type Command struct {
	Args []string
	Env  []string // KEY=value, added to the agent's own environment
	Dir  string   // empty: /
	// Stdin may be read from once more after the command has ended. nil: /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer // nil: discarded
}

// kind says what a frame is about.
type kind uint8

const (
	kindHello    kind = iota + 1 // guest: who answers here; repeated until welcomed
	kindWelcome                  // host: the session begins
	kindBeat                     // guest: once a second
	kindLine                     // guest: a line of [LinesSocket]
	kindStart                    // host: begin a job
	kindInput                    // host: bytes for the job's standard input
	kindInputEnd                 // host: no more of them
	kindKill                     // host: nobody waits for the job any more
	kindStdout                   // guest
	kindStderr                   // guest
	kindExit                     // guest: the job's last frame
	kindCredit                   // both: so many bytes were taken from the job's stream
)

// urgent frames overtake the bytes of streams. kindKill does not: it would overtake the start of what it is to end.
func (k kind) urgent() bool {
	switch k {
	case kindHello, kindWelcome, kindBeat, kindCredit:
		return true
	default:
		return false
	}
}

const (
	// chunk is the most that one frame carries: about what a virtio-serial port takes at once.
	chunk = 32 << 10
	// ahead is how many bytes of one stream may be under way.
	ahead = 8 * chunk
	// linesJob is the stream number of the forwarded lines. Jobs count from 1.
	linesJob = 0
)

// hello is the payload of kindHello.
type hello struct {
	Boot   string `json:"boot"`   // /proc/sys/kernel/random/boot_id
	Kernel string `json:"kernel"` // its release
	PID    int    `json:"pid"`
}

// start is the payload of kindStart.
type start struct {
	Op    string   `json:"op"` // exec, put or get
	Args  []string `json:"args,omitempty"`
	Env   []string `json:"env,omitempty"`
	Dir   string   `json:"dir,omitempty"`
	Input bool     `json:"input,omitempty"` // standard input follows
	Path  string   `json:"path,omitempty"`  // put and get
	Mode  uint32   `json:"mode,omitempty"`  // put: permission bits
}

// The operations of start.
const (
	opExec = "exec"
	opPut  = "put"
	opGet  = "get"
)

// exit is the payload of kindExit.
type exit struct {
	Code int    `json:"code"`
	Err  string `json:"err,omitempty"` // the job could not be done at all
}

// newSession returns a number that no earlier session of the port had.
func newSession() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:]) | 1
}

func creditPayload(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) } //nolint:gosec // at most the window

func creditOf(payload []byte) int {
	if len(payload) != 4 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(payload))
}
