//go:build machines

package failover_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

const (
	// stackBoots is how often each side is started.
	stackBoots = 5
	// answeringLimit is how long after power-on a stack may answer that counts as come back by itself, and wholeLimit how much later its last container may run.
	answeringLimit = 15 * time.Minute
	wholeLimit     = 3 * time.Minute
	// undisturbed is how long nobody looks at the machine after its power-on, and lookEvery the time between two looks then: a stack that Docker has given up is not waited for.
	undisturbed = 2 * time.Minute
	lookEvery   = 30 * time.Second
	// plainDir is the project of the other side, and answering the stream on which the machine says that its stack answers.
	plainDir  = "/opt/plain"
	answering = "answering"
)

// ask is what a machine does from its boot on, whoever brings its stack up: it asks core through the proxy, then the registry through core, until both are right.
const askScript = `#!/bin/sh
get() { busybox wget -q -T 5 -O - http://127.0.0.1$1 2>/dev/null; }
until [ "$(get /api/v2.0/ping)" = Pong ] && get /v2/ >/dev/null; do sleep 0.5; done
exec ` + writerBinary + ` hold ` + answering + `
`

// stackStart is how one start of the machine went.
type stackStart struct {
	took time.Duration // from power-on to the right answer; 0: there was none
	why  string        // what did not come back; empty: all did
}

// TestMeasureStack measures the time from power-on after a host's death until a stack built like Harbor's answers, on Mooring's volumes and with its supervisor, against the same
// machine with the same stack on local volumes, with Docker's own restart policy and without Mooring; and how often either comes back by itself.
func TestMeasureStack(t *testing.T) {
	s, end := measuring(t, harbor, "an hour")
	defer end()
	s.must(s.VM(one).CopyIn(s.ctx, strings.NewReader(askScript), "/usr/local/sbin/answering", 0o755))
	s.sh(one, `cat >/etc/systemd/system/answering.service <<'END'
[Service]
ExecStart=/usr/local/sbin/answering
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload; systemctl enable answering.service 2>&1`)
	got := map[bool][]stackStart{}
	for _, part := range []struct {
		ours bool
		n    int
	}{{true, stackBoots - stackBoots/2}, {false, stackBoots}, {true, stackBoots / 2}} {
		s.side(part.ours)
		for range part.n {
			st := s.startStack(part.ours)
			say("  %s: answers after %.1f s; not back: %s", sideName(part.ours), st.took.Seconds(), st.why)
			got[part.ours] = append(got[part.ours], st)
		}
	}
	s.publish("performance-stack.md", stackReport(got))
	for _, st := range got[true] {
		if st.why != "" {
			t.Errorf("with Mooring the stack did not come back: %s", st.why)
		}
	}
	if ours, theirs := medianStart(got[true]), medianStart(got[false]); theirs > 0 && ours.Seconds()/theirs.Seconds() > 1.2 {
		t.Errorf("the stack answers after %.2f of the time of plain Docker, want at most 1.2", ours.Seconds()/theirs.Seconds())
	}
}

func sideName(ours bool) string {
	if ours {
		return "vmdk volumes, mooring-supervisor"
	}
	return "local volumes, restart: always, no Mooring"
}

// side brings the machine's stack up on Mooring's volumes, or on local ones with Mooring's units masked.
func (s *scene) side(ours bool) {
	s.t.Helper()
	if ours {
		if s.sh(one, "test ! -e "+plainDir+" || echo plain") == "" {
			return // as the fleet was made
		}
		s.sh(one, "cd "+plainDir+" && "+s.compose()+" down 2>&1; systemctl unmask "+mooringUnits+" 2>&1; systemctl start mooring-plugin.socket mooring-plugin.service; systemctl restart docker")
		s.dockerUp(one)
		s.sh(one, "cd "+stackDir+" && "+s.compose()+" up -d 2>&1; systemctl start mooring-supervisor")
		s.stackIs("the stack is well", stackView.well)
		return
	}
	s.sh(one, "cd "+stackDir+" && systemctl stop mooring-supervisor && "+s.compose()+" down 2>&1; systemctl stop "+mooringUnits+"; systemctl mask "+mooringUnits+" 2>&1; systemctl restart docker")
	s.dockerUp(one)
	s.sh(one, pusherBinary+" project --registry-volume plain1 --database-volume plain2 --job-logs-volume plain3 "+plainDir+`
for v in plain1 plain2 plain3; do docker volume create $v >/dev/null; done
cd `+plainDir+` && ./prepare && `+s.compose()+` up -d 2>&1`)
	s.plainAnswers()
}

// plainAnswers waits until the stack answers that nobody looks after, as it was brought up by hand.
func (s *scene) plainAnswers() {
	s.t.Helper()
	s.await(stackTime, "the stack on local volumes answers", s.answersRight)
	s.await(stackTime, "all of its containers run", func() bool { return s.notRunning() == "" })
}

// notRunning names the containers that do not run, each with what Docker says of it.
func (s *scene) notRunning() string {
	out, err := s.try(one, `for c in $(docker ps -aq); do docker inspect -f '{{.State.Status}} {{.Name}} {{.State.ExitCode}} {{.State.Error}}' $c; done | grep -v '^running' || true`)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(out, "\n", "; ")
}

// startStack kills the host and times the start of the machine. A stack that has not come back is brought up as people do, for the next start.
func (s *scene) startStack(ours bool) stackStart {
	s.t.Helper()
	s.override(one, true) // power-on is when we say so, and not a detection later
	s.cut(one)
	s.witness.Forget()
	began := time.Now()
	s.must(s.PowerOn(one))
	var st stackStart
	if s.answers(began) {
		st.took = s.witness.Heard(answering).Ups[0].At.Sub(began)
	}
	s.override(one, false)
	s.rebooted(one)
	st.why = s.missing(st)
	if st.why != "" {
		dir := plainDir
		if ours {
			dir = stackDir
		}
		s.sh(one, "cd "+dir+" && "+s.compose()+" up -d 2>&1; docker exec nginx nginx -s reload 2>&1 || true")
		s.plainAnswers()
	}
	return st
}

// answers waits until the stack answers right, or will not be whole any more: twice in a row the same containers do not run and are not being restarted. Docker starts those no more, whatever else it restarts
// for want of them.
func (s *scene) answers(began time.Time) bool {
	s.t.Helper()
	last := ""
	for wait := undisturbed; time.Since(began) < answeringLimit; wait = lookEvery {
		ctx, cancel := context.WithTimeout(s.ctx, wait)
		err := s.witness.Await(ctx, answering, func(h failover.Heard) bool { return len(h.Ups) > 0 })
		cancel()
		if err == nil {
			return true
		}
		now := givenUp(s.notRunning())
		if now == last && now != "" {
			return false
		}
		last = now
	}
	return false
}

// givenUp returns those of the containers that do not run which Docker does not restart.
func givenUp(containers string) string {
	all := strings.Split(containers, "; ")
	return strings.Join(slices.DeleteFunc(all, func(c string) bool { return strings.HasPrefix(c, "restarting") }), "; ")
}

// missing gives what is still coming its time, and says what has not come.
func (s *scene) missing(st stackStart) string {
	for end := time.Now().Add(wholeLimit); ; s.pause(2 * time.Second) {
		why := s.notRunning()
		if st.took == 0 {
			why = strings.TrimSuffix("no right answer; "+why, "; ")
		}
		if why == "" || st.took == 0 || time.Now().After(end) || s.ctx.Err() != nil {
			return why
		}
	}
}

// medianStart returns the median of the starts after which the whole stack was back; 0: there was none.
func medianStart(all []stackStart) time.Duration {
	var took []time.Duration
	for _, st := range all {
		if st.why == "" {
			took = append(took, st.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// stackReport is the table for docs/performance.md.
func stackReport(got map[bool][]stackStart) string {
	var b, why strings.Builder
	fmt.Fprint(&b, "| start | came back by itself | answers after: median (each; those in brackets were not whole) | ratio |\n|---|---|---|---|\n")
	base := medianStart(got[false]).Seconds()
	for _, ours := range []bool{false, true} {
		var each []string
		back := 0
		for _, st := range got[ours] {
			text := fmt.Sprintf("%.1f", st.took.Seconds())
			if st.took == 0 {
				text = "never"
			}
			if st.why == "" {
				back++
			} else {
				text = "[" + text + "]"
				fmt.Fprintf(&why, "\n* %s: %s", sideName(ours), st.why)
			}
			each = append(each, text)
		}
		ratio := "–"
		if median := medianStart(got[ours]).Seconds(); base > 0 && median > 0 {
			ratio = fmt.Sprintf("%.2f", median/base)
		}
		fmt.Fprintf(&b, "| %s | %d of %d | %.1f s (%s) | %s |\n", sideName(ours), back, len(got[ours]), medianStart(got[ours]).Seconds(), strings.Join(each, ", "), ratio)
	}
	return b.String() + why.String() + "\n"
}
