package supervisor

import (
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Recovery is what the supervisor knows of how its stack came back in this boot, and of how it has been doing since. It is what the journal holds;
// [Step] makes the next one of it.
type Recovery struct {
	ID     string         `json:"id"` // when it began, in UTC: a name that sorts by time
	Boot   mooring.BootID `json:"boot"`
	Origin Origin         `json:"origin"`
	Died   time.Time      `json:"died,omitzero"`   // when the boot before was last seen to run
	Booted time.Time      `json:"booted,omitzero"` // when the kernel started
	Began  time.Time      `json:"began"`

	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since"` // when the phase began
	Timeline []Passage `json:"timeline"`
	Waits    []string  `json:"waits,omitempty"` // what the phase waits for

	Services   []Track            `json:"services"` // by name
	Volumes    []Volume           `json:"volumes"`  // those that services need, as last seen
	Doors      Doors              `json:"doors"`
	Images     Proof              `json:"images,omitzero"`
	Conditions []admin.Condition  `json:"conditions"` // what is wrong now
	Evidence   []mooring.Sighting `json:"evidence,omitempty"`
	Notes      []string           `json:"notes,omitempty"` // what else belongs into the report
	Message    Message            `json:"message,omitzero"`
}

// Origin says what made the recovery necessary.
type Origin string

// The origins.
const (
	First    Origin = "first"    // there is no record of an earlier boot
	Reboot   Origin = "reboot"   // the boot before ended in order: no alarm
	Failover Origin = "failover" // the boot before did not end in order: its host died, or the machine was reset
	Unclear  Origin = "unclear"  // the record was damaged; taken as seriously as a failover
)

// Phase is how far a recovery has come. It names what the stack still has to wait for; services whose own needs are met do not wait for those of others.
type Phase string

// The phases, in their order. A recovery ends settled or failed; a failed one settles when the stack is well after all.
const (
	Fencing   Phase = "fencing"   // until no other machine may write to a disk that is needed
	Attaching Phase = "attaching" // until what is needed is attached and mounted
	Starting  Phase = "starting"  // until all services but the door are ready
	Verifying Phase = "verifying" // until the images are proved, the door is open and what it answers is right
	Settled   Phase = "settled"   // all that can be up is; conditions name what is not
	Failed    Phase = "failed"    // the stack does not answer as it should
)

// final says that nothing is waited for any more.
func (p Phase) final() bool { return p == Settled || p == Failed }

// Passage is the time that a recovery spent in a phase.
type Passage struct {
	Phase Phase     `json:"phase"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to,omitzero"`
	// Missed is what was still waited for when the phase's limit had passed, with what to do about it.
	Missed []string `json:"missed,omitempty"`
}

// Track is what is remembered of a service.
type Track struct {
	Name     ServiceName    `json:"name"`
	State    ContainerState `json:"state"`
	Ready    bool           `json:"ready"`
	ReadyAt  time.Time      `json:"ready_at,omitzero"`   // first in this recovery
	Run      time.Time      `json:"run,omitzero"`        // when the container was started that was last seen ready
	Up       time.Time      `json:"up,omitzero"`         // since when it has been ready
	Down     time.Time      `json:"down,omitzero"`       // since when it has not been, and nothing has stood in its way
	Stopped  bool           `json:"stopped,omitempty"`   // by a person
	Wanted   bool           `json:"wanted,omitempty"`    // by a person who thought better of it
	Blocked  bool           `json:"blocked,omitempty"`   // something stands in its way
	Forced   bool           `json:"forced,omitempty"`    // a person asked to try it although its volume was taken or damaged
	Flushed  time.Time      `json:"flushed,omitzero"`    // when the container was started whose cache was flushed
	FlushErr string         `json:"flush_err,omitempty"` // why it could not be
	Tries    int            `json:"tries,omitempty"`     // to start, restart or flush it, since it was last well for long
	Next     time.Time      `json:"next,omitzero"`       // not to be tried before
	GaveUp   bool           `json:"gave_up,omitempty"`
	Err      string         `json:"err,omitempty"` // of the last try
	Why      string         `json:"why,omitempty"` // why it is not ready, for a person
	Place    int            `json:"place"`         // in the order of the start
}

// Doors is what is remembered of the stack's doors.
type Doors struct {
	Answer  Answer    `json:"answer"`
	Wrong   time.Time `json:"wrong,omitzero"` // since when the answers have been wrong
	Reloads int       `json:"reloads,omitempty"`
	Tries   int       `json:"tries,omitempty"` // restarts of the entry service for the sake of a right answer
	Next    time.Time `json:"next,omitzero"`
	GaveUp  bool      `json:"gave_up,omitempty"`
}

// Message is what is to be told to whoever wants to know.
type Message struct {
	Due   bool      `json:"due,omitempty"`
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
	Err   string    `json:"err,omitempty"` // of the last try
}

// Limits say how long each phase may take, and how often a service is tried.
type Limits struct {
	Fencing, Attaching, Starting, Verifying time.Duration
	Images                                  time.Duration // for how long the door waits for nothing but the images, before Verifying counts
	Rehash                                  time.Duration // from one whole run of tier 3 to the next; zero: only after a failover
	Tries                                   int
}

// of returns the phase's limit; a final phase has none.
func (l Limits) of(p Phase) time.Duration {
	switch p {
	case Fencing:
		return l.Fencing
	case Attaching:
		return l.Attaching
	case Starting:
		return l.Starting
	case Verifying:
		return l.Verifying
	default:
		return 0
	}
}

// clone returns a copy that shares nothing with r which Step changes.
func (r Recovery) clone() Recovery {
	r.Timeline = slices.Clone(r.Timeline)
	r.Services = slices.Clone(r.Services)
	r.Evidence = slices.Clone(r.Evidence)
	r.Notes = slices.Clone(r.Notes)
	return r
}

// damaged says whether something is wrong that keeps a part of the stack down.
func (r Recovery) damaged() bool {
	return slices.ContainsFunc(r.Conditions, func(c admin.Condition) bool { return c.Severity == admin.Failing })
}
