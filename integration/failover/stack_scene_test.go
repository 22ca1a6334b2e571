//go:build machines

package failover_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
)

// pusher is a load of pushes that runs in the machine until it is ended, or its machine dies.
type pusher struct {
	end  context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	acked  int
	failed []string
}

// push lets pushers push to the stack, one image after another. What is acknowledged is on this side of the serial line when it is noted.
func (s *scene) push(flags ...string) *pusher {
	s.t.Helper()
	st := s.stack
	st.runs++
	ctx, cancel := context.WithCancel(s.ctx)
	p := &pusher{end: cancel, done: make(chan struct{})}
	args := append([]string{
		pusherBinary, "push", "--persistent", "--prefix", "library/" + s.prefix + "-", "--seed", strconv.Itoa(st.runs), "--images", "0", "--tags", "2",
		"--layer-size", "65536",
	}, flags...)
	out, outEnd := io.Pipe()
	errs, errsEnd := io.Pipe()
	var readers sync.WaitGroup
	readers.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.note(st, lines.Bytes())
		}
	})
	readers.Go(func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			p.mu.Lock()
			p.failed = append(p.failed, lines.Text())
			p.mu.Unlock()
		}
	})
	go func() {
		defer close(p.done)
		_, err := s.VM(st.vm).Exec(ctx, qemu.Command{Args: args, Stdout: outEnd, Stderr: errsEnd})
		_, _ = outEnd.Close(), errsEnd.Close()
		readers.Wait()
		say("  the pushers have ended: %v", err)
	}()
	s.t.Cleanup(func() { cancel(); <-p.done })
	s.pushers = append(s.pushers, p)
	return p
}

// note takes a record.
func (p *pusher) note(st *stack, line []byte) {
	records, err := push.ReadRecords(bytes.NewReader(append(bytes.Clone(line), '\n')))
	if err != nil || len(records) != 1 {
		p.mu.Lock()
		p.failed = append(p.failed, fmt.Sprintf("%q is no record: %v", line, err))
		p.mu.Unlock()
		return
	}
	st.mu.Lock()
	st.records = append(st.records, records[0])
	st.mu.Unlock()
	if records[0].State == push.Acknowledged {
		p.mu.Lock()
		p.acked++
		p.mu.Unlock()
	}
}

func (p *pusher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// pushes waits until the pusher has had so many more images acknowledged.
func (s *scene) pushes(p *pusher, n int) {
	s.t.Helper()
	have := p.count()
	s.await(5*time.Minute, fmt.Sprintf("%d more images are pushed", n), func() bool {
		select {
		case <-p.done:
			s.t.Fatalf("the pushers have ended; failed: %q", p.failed)
		default:
		}
		return p.count() >= have+n
	})
}

// pull pulls all that was ever acknowledged, in the machine, through the doors.
func (s *scene) pull() push.Verdict {
	s.t.Helper()
	st := s.stack
	var file bytes.Buffer
	st.mu.Lock()
	for _, r := range st.records {
		if err := push.WriteRecord(&file, r); err != nil {
			s.t.Fatal(err)
		}
	}
	st.mu.Unlock()
	const records = "/var/tmp/records"
	s.must(s.VM(st.vm).CopyIn(s.ctx, &file, records, 0o644))
	out := s.sh(st.vm, pusherBinary+" pull --patience 2m "+records+" || test $? = 3")
	var v push.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("pull: %v\n%s", err, out)
	}
	say("  %d images, %d tags, %d blobs and %d bytes are as they were acknowledged, %d are not", v.Images, v.Tags, v.Blobs, v.Bytes, len(v.Misses))
	return v
}

// settled waits until the supervisor of the machine has settled in the boot that runs now, or has failed.
func (s *scene) settled() stackView {
	s.t.Helper()
	boot := s.boots[s.stack.vm]
	return s.stackIs("the recovery of this boot has ended", func(v stackView) bool { return string(v.report.Boot) == boot && !v.report.Ended.IsZero() })
}

// stackIs waits until ok holds for what the supervisor says, and returns that.
func (s *scene) stackIs(what string, ok func(stackView) bool) stackView {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, stackTime)
	defer cancel()
	var got stackView
	s.must(s.awaitStack(ctx, s.stack.vm, what, func(v stackView) bool { got = v; return ok(v) }))
	return got
}

// judgeStack looks at all of the stack.
func (s *scene) judgeStack(want failover.Wanted) {
	s.t.Helper()
	vm := s.stack.vm
	want.Policies = map[string]string{"registryctl": "unless-stopped", "jobservice": "no"} // as the override file has them
	o := failover.Stack{Boot: s.boots[vm], Containers: s.boxes(), Want: want}
	for _, p := range s.pushers {
		p.end()
		<-p.done
		o.Acked += p.count()
	}
	if !slices.Contains(want.Down, failover.Entry) {
		o.Pulled = s.pull()
	}
	for line := range strings.Lines(s.sh(vm, "cat "+toldFile+" 2>/dev/null || true")) {
		var message struct {
			Subject string `json:"subject"`
		}
		s.must(json.Unmarshal([]byte(line), &message))
		o.Told = append(o.Told, message.Subject)
	}
	v, err := s.askSupervisor(s.ctx, vm)
	s.must(err)
	o.Now, o.Report = v.stack, v.report
	for _, finding := range failover.JudgeStack(o) {
		s.t.Error(finding)
	}
	s.tell(o)
}

// tell says how long the recovery took.
func (s *scene) tell(o failover.Stack) {
	var b strings.Builder
	zero := o.Report.Died
	if zero.IsZero() {
		zero = o.Report.Began
	}
	for _, p := range o.Report.Timeline {
		fmt.Fprintf(&b, " %s +%.0fs", p.Phase, p.From.Sub(zero).Seconds())
	}
	for _, v := range o.Report.Services {
		if v.ReadyAt.IsZero() {
			fmt.Fprintf(&b, "; %s not", v.Name)
			continue
		}
		fmt.Fprintf(&b, "; %s +%.0fs (%d tries)", v.Name, v.ReadyAt.Sub(zero).Seconds(), v.Tries)
	}
	say("  %s:%s", o.Report.Origin, b.String())
}

// boxes asks Docker for the containers of the project.
func (s *scene) boxes() map[string]failover.Box {
	s.t.Helper()
	out := map[string]failover.Box{}
	var list []struct{ ID string }
	if a := s.ask(s.stack.vm, "GET", `/containers/json?all=1&filters={"label":["com.docker.compose.service"]}`)[0]; json.Unmarshal(a.body, &list) != nil {
		s.t.Fatalf("list of containers: %s %s", a.status, a.body)
	}
	var requests []string
	for _, c := range list {
		requests = append(requests, "GET", "/containers/"+c.ID+"/json")
	}
	for _, a := range s.ask(s.stack.vm, requests...) {
		var c struct {
			State struct {
				Status    string
				StartedAt time.Time
			}
			Config     struct{ Labels map[string]string }
			HostConfig struct{ RestartPolicy struct{ Name string } }
		}
		s.must(json.Unmarshal(a.body, &c))
		out[c.Config.Labels["com.docker.compose.service"]] = failover.Box{State: c.State.Status, Started: c.State.StartedAt, Policy: c.HostConfig.RestartPolicy.Name}
	}
	return out
}

// restoredStack expects the lines with which the plugin brings the stack's volumes back after a boot.
func (s *scene) restoredStack(except ...string) {
	for _, v := range []string{registryVolume, databaseVolume, jobLogsVolume} {
		if !slices.Contains(except, v) {
			s.once = append(s.once, expectation{s.stack.vm, []string{"msg=restored volume=" + v + " "}})
		}
	}
}
