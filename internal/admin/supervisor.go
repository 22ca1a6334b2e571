package admin

import (
	"net/url"
	"time"

	"github.com/mooring-sh/mooring"
)

// SupervisorSocket is where the supervisor listens for administrators.
const SupervisorSocket = "/run/mooring/supervisor.sock"

// SupervisorSocketEnv names the environment variable with which the command is told of another socket of the supervisor.
const SupervisorSocketEnv = "MOORING_SUPERVISOR_SOCKET"

// The paths that the supervisor serves. One recovery is at [RecoveryPath].
const (
	StackPath      = "/v1/stack"      // GET: Stack
	HealPath       = "/v1/stack/heal" // POST Heal: Stack, as it is before anything was done
	RecoveriesPath = "/v1/recoveries" // GET: Recoveries
	// FlushPath, POST: Flushed. Whoever has put a blob back into the registry's storage has its cache flushed.
	FlushPath = "/v1/images/flush"
)

// RecoveryPattern is [RecoveryPath] as net/http's ServeMux spells it. GET: Recovery.
const RecoveryPattern = "GET " + RecoveriesPath + "/{id}"

// LastRecovery stands for the ID of the recovery that began last.
const LastRecovery = "last"

// RecoveryPath returns the path of one recovery.
func RecoveryPath(id string) string { return RecoveriesPath + "/" + url.PathEscape(id) }

// Stack answers [StackPath]: how the stack is doing now.
type Stack struct {
	Version    string      `json:"version"` // of the supervisor
	Configured bool        `json:"configured"`
	Recovery   string      `json:"recovery"` // the ID of the last one
	Phase      string      `json:"phase"`    // fencing, attaching, starting, verifying, settled, failed
	Since      time.Time   `json:"since,omitzero"`
	Waits      []string    `json:"waits"`    // what the phase waits for
	Services   []Service   `json:"services"` // in the order of their start
	Doors      Doors       `json:"doors"`
	Images     *Images     `json:"images,omitempty"` // nil: the stack has no registry
	Conditions []Condition `json:"conditions"`
	Looked     time.Time   `json:"looked,omitzero"` // when what is told here was seen
}

// Heal asks that everything be tried again that was given up.
type Heal struct {
	Stopped bool `json:"stopped"` // and that what a person stopped be started
}

// Flushed answers [FlushPath].
type Flushed struct {
	Service   string `json:"service"`   // whose cache; empty: there is none that has to be
	Restarted bool   `json:"restarted"` // for that: it has no command to flush it
}

// Service is one service of the stack.
type Service struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // Docker's word for its container, or missing
	Ready   bool      `json:"ready"`
	ReadyAt time.Time `json:"ready_at,omitzero"` // first in the recovery
	Stopped bool      `json:"stopped"`           // by a person
	Tries   int       `json:"tries"`             // to start it, since it was last well for long
	GaveUp  bool      `json:"gave_up"`           // nothing is tried any more
	Blocked bool      `json:"blocked"`           // its disks or directories, or those of a service that it depends on, are not in order
	Why     string    `json:"why,omitempty"`     // why it is not ready
	Error   string    `json:"error,omitempty"`   // of the last try
}

// Doors is what the stack's published port answers.
type Doors struct {
	Asked time.Time `json:"asked,omitzero"` // zero: never
	Right bool      `json:"right"`
	Text  string    `json:"text"`
}

// Recoveries answers [RecoveriesPath], the newest first.
type Recoveries struct {
	Recoveries []Recovery `json:"recoveries"`
}

// Recovery is the report on how a stack came back.
type Recovery struct {
	ID      string         `json:"id"` // when it began, in UTC: a name that sorts by time
	Boot    mooring.BootID `json:"boot"`
	Origin  string         `json:"origin"` // failover, reboot, first, unclear
	Phase   string         `json:"phase"`  // settled or failed, or where it is
	Damaged bool           `json:"damaged"`
	Died    time.Time      `json:"died,omitzero"`   // when the machine was last seen to run before
	Booted  time.Time      `json:"booted,omitzero"` // when its kernel started
	Began   time.Time      `json:"began"`
	Ended   time.Time      `json:"ended,omitzero"` // zero: not yet

	Timeline   []Passage          `json:"timeline"`
	Volumes    []RecoveryVolume   `json:"volumes"`
	Services   []Service          `json:"services"`
	Doors      Doors              `json:"doors"`
	Images     *Images            `json:"images,omitempty"` // nil: the stack has no registry
	Evidence   []mooring.Sighting `json:"evidence"`
	Conditions []Condition        `json:"conditions"` // when it ended
	Notes      []string           `json:"notes"`
}

// Passage is the time that a recovery spent in a phase.
type Passage struct {
	Phase  string    `json:"phase"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Missed []string  `json:"missed"` // what was still waited for when the phase's limit had passed
}

// RecoveryVolume is how a recovery found a volume that the stack needs.
type RecoveryVolume struct {
	Name  mooring.Name `json:"name"`
	State string       `json:"state"` // mounted, present, absent, fetching, fenced, taken, damaged
	Text  string       `json:"text,omitempty"`
}
