package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	evidenceLimit = 30 * time.Minute // after which nobody looks for evidence any more
	evidencePause = 15 * time.Second
	evidenceSkew  = 5 * time.Minute // between vCenter's clock and ours
	evidenceBack  = time.Hour       // before the boot, where nobody knows when the machine died
)

// limitOf returns how long an action may take; 0: until it is let go. The start of a container waits for its volumes, for which dockerd gives up after two minutes.
func limitOf(v Verb) time.Duration {
	switch v {
	case Start, Restart:
		return 3 * time.Minute
	case Notify:
		return time.Minute
	case Ask, Reload, Flush:
		return 30 * time.Second
	case Verify, Keep, Rehash:
		return 0
	default:
		return time.Second
	}
}

// begin carries out an action in the background. What came of it is heard by the loop.
func (s *Supervisor) begin(ctx context.Context, a Action, r Recovery) {
	if a.Verb == LetGo {
		for _, cancel := range s.cancels {
			cancel()
		}
		return
	}
	s.underway = append(s.underway, a)
	acting, cancel := s.within(ctx, a.Verb)
	s.work.Go(func() {
		defer cancel()
		e := end{outcome: Outcome{Action: a, Began: time.Now()}}
		var err error
		e.answer, err = s.do(acting, a, r)
		e.outcome.At = time.Now()
		if e.answer.At.IsZero() {
			e.answer.At = e.outcome.At
		}
		if err != nil {
			e.outcome.Err = err.Error()
		}
		s.logAction(r, e.outcome, err)
		s.ended <- e
	})
}

// within returns the context of an action. What has no limit can be let go.
func (s *Supervisor) within(ctx context.Context, v Verb) (context.Context, context.CancelFunc) {
	if limit := limitOf(v); limit > 0 {
		return context.WithTimeout(ctx, limit)
	}
	ctx, cancel := context.WithCancel(ctx)
	s.cancels[v] = cancel
	return ctx, cancel
}

func (s *Supervisor) do(ctx context.Context, a Action, r Recovery) (Answer, error) {
	switch a.Verb {
	case Start:
		return Answer{}, s.Stack.Start(ctx, a.Service)
	case Restart:
		return Answer{}, s.Stack.Restart(ctx, a.Service)
	case Reload:
		return Answer{}, s.Stack.Reload(ctx, a.Service)
	case Flush:
		return Answer{}, s.Stack.Flush(ctx, a.Service)
	case Ask:
		return s.Stack.Ask(ctx), nil
	case Notify:
		if s.Notifier == nil {
			return Answer{}, nil
		}
		rep := ReportOf(r, s.found())
		shorten(rep.Images)
		return Answer{}, s.Notifier.Notify(ctx, rep)
	case Verify:
		return Answer{}, s.Images.Verify(ctx, r.Images.Storage)
	case Keep:
		return Answer{}, s.Images.Keep(ctx, r.Images.Storage)
	case Rehash:
		return Answer{}, s.Images.Rehash(ctx, r.Images.Storage)
	default:
		return Answer{}, fmt.Errorf("unknown action %s: %w", a.Verb, mooring.ErrInvalid)
	}
}

// logAction writes a line for each action but the questions, of which there are many.
func (s *Supervisor) logAction(r Recovery, o Outcome, err error) {
	log := s.Log.With("recovery", r.ID, "phase", r.Phase, "op", o.Verb, "took", o.At.Sub(o.Began))
	if o.Service != "" {
		log = log.With("service", o.Service)
	}
	switch {
	case o.Verb == Ask, o.Verb == Notify && s.Notifier == nil:
	case err != nil:
		log.Warn("act", "err", err)
	default:
		log.Info("act")
	}
}

// seekEvidence asks the witness, again and again in the background, what was seen of a restart that was not in order. Nothing waits for it.
func (s *Supervisor) seekEvidence(ctx context.Context, r Recovery) {
	alarming := r.Origin == Failover || r.Origin == Unclear
	if s.Witness == nil || !alarming || len(r.Evidence) > 0 || s.seeking == r.ID || time.Since(r.Began) > evidenceLimit {
		return
	}
	s.seeking = r.ID
	since := r.Booted.Add(-evidenceBack)
	if !r.Died.IsZero() {
		since = r.Died.Add(-evidenceSkew)
	}
	s.work.Go(func() {
		pause := time.NewTicker(evidencePause)
		defer pause.Stop()
		for time.Since(r.Began) <= evidenceLimit {
			list, err := s.Witness.Restarts(ctx, since)
			if len(list) > 0 {
				s.ended <- end{evidence: list}
				return
			}
			if err != nil {
				s.Log.Debug("ask for evidence", "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
		}
	})
}
