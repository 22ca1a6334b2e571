// Package notify tells people how a recovery ended: by a webhook, by a command, by mail through the machine's own mail transfer agent.
//
// It promises that each attempt has an end, that whoever was told is not told the same again because somebody else could not be, and that no error shows a secret: a
// webhook is named by its host, a command by its program, and what a header's secret file holds is in no text. TLS is always verified.
//
// When somebody is to be told is not decided here, and neither is when it is tried again: that is the supervisor's. Nothing is kept over a restart.
package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

// Message is what is told. Webhooks and commands get it as JSON, mails have the subject and the text.
type Message struct {
	Machine string         `json:"machine"`
	Subject string         `json:"subject"` // all of it in a line
	Text    string         `json:"text"`    // the subject and the report as a page; the key that chat services show
	Report  admin.Recovery `json:"report"`
}

// Target is somebody who is told.
type Target interface {
	// Send tells the message, within the target's own limit. The error does not name the target.
	Send(ctx context.Context, m Message) error
	// Name says who it is, without secrets.
	Name() string
	// Check says what is wrong with the target's settings, all at once; the error wraps mooring.ErrInvalid.
	Check() error
}

// Everybody tells all targets at the same time. It is the supervisor's notifier.
type Everybody struct {
	Machine string // its name, for the subject
	Targets []Target

	mu   sync.Mutex
	told map[int]string // by the target's place: the subject that it was told last, while another could not be told
}

// Notify tells those targets that were not told the same in a call before, which failed for the sake of others. The error names each that could not be told.
func (e *Everybody) Notify(ctx context.Context, rep admin.Recovery) error {
	m := Message{Machine: e.Machine, Subject: Subject(e.Machine, rep, time.Now()), Report: rep}
	m.Text = m.Subject + "\n\n" + supervisor.Page(rep)
	e.mu.Lock()
	before := maps.Clone(e.told)
	e.mu.Unlock()
	errs := make([]error, len(e.Targets))
	var all sync.WaitGroup
	for i, t := range e.Targets {
		if before[i] == m.Subject {
			continue
		}
		all.Go(func() {
			if err := t.Send(ctx, m); err != nil {
				errs[i] = fmt.Errorf("tell %s: %w", t.Name(), err)
			}
		})
	}
	all.Wait()
	err := errors.Join(errs...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = nil
	if err == nil {
		return nil
	}
	e.told = make(map[int]string)
	for i := range e.Targets {
		if errs[i] == nil {
			e.told[i] = m.Subject
		}
	}
	return err
}
