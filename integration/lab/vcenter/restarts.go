package vcenter

import (
	"time"
)

// Restart is what HA did about a machine that died with its host, or by itself.
type Restart struct {
	VM        string    `json:"vm"`
	Cause     string    `json:"cause"` // host failed, host isolated, machine crashed
	From      string    `json:"from"`  // host
	To        string    `json:"to,omitempty"`
	Lost      time.Time `json:"lost"`      // when it died, or nobody reached it any more
	Detected  Span      `json:"detected"`  // when HA took notice, since it was lost
	PoweredOn Span      `json:"poweredOn"` // zero: not yet
	Attempts  []Attempt `json:"attempts"`
	Outcome   string    `json:"outcome,omitempty"` // empty: HA is at it
}

// Attempt is one attempt to power a machine on.
type Attempt struct {
	At    Span   `json:"at"`
	Host  string `json:"host"`
	Error string `json:"error,omitempty"`
}

// Span is a time since the loss, as it passed here, and as it would have in a cluster whose times are not scaled: only HA's waiting is, what
// machines take to start is the same.
type Span struct {
	Real     time.Duration `json:"real"`
	Unscaled time.Duration `json:"unscaled"`
}

// span returns the time from the loss of the machine to now. The caller holds c.mu.
func (c *cluster) span(r *restart, now time.Time) Span {
	took := now.Sub(r.report.Lost)
	return Span{Real: took, Unscaled: took - c.scaled(r.waited) + r.waited}
}

// Restarts returns all that HA has restarted, or tries to, in the order of their loss.
func (v *VCenter) Restarts() []Restart {
	v.cluster.mu.Lock()
	defer v.cluster.mu.Unlock()
	out := make([]Restart, len(v.cluster.restarts))
	for i, r := range v.cluster.restarts {
		out[i] = r.report
		out[i].Attempts = append([]Attempt(nil), r.report.Attempts...)
	}
	return out
}
