package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows the steps of long work: on a terminal the step that is being done with how long it takes, in a line that is redrawn; elsewhere a
// line for each step, with how long the work has taken before. What is written to the progress itself is shown as it is, between the steps.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	stop     chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	step  string // being done; empty: none
	since time.Time
}

// stepLine is a step as it is shown where there is no terminal.
var stepLine = regexp.MustCompile(`^mooring-lab: \d+:\d\d (.*)$`)

// newProgress shows steps at out until it is closed.
func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	p := &progress{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), began: time.Now(), stop: make(chan struct{})} //nolint:gosec // a file descriptor fits
	if p.terminal {
		p.wg.Go(p.redraw)
	}
	return p
}

// redraw counts the seconds of the step.
func (p *progress) redraw() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

const clearLine = "\r\x1b[K"

// draw shows the step that is being done. The caller holds the lock.
func (p *progress) draw() {
	if p.step != "" {
		_, _ = fmt.Fprintf(p.out, "%smooring-lab: %s  %s", clearLine, p.step, clock(time.Since(p.since)))
	}
}

// finish leaves the step behind as a line. The caller holds the lock.
func (p *progress) finish() {
	if p.terminal && p.step != "" {
		p.draw()
		_, _ = fmt.Fprintln(p.out)
	}
	p.step = ""
}

// begin ends the step before and begins one.
func (p *progress) begin(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		_, _ = fmt.Fprintf(p.out, "mooring-lab: %s %s\n", clock(time.Since(p.began)), step)
		return
	}
	p.finish()
	p.step, p.since = step, time.Now()
	p.draw()
}

// Write shows what is no step.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.step != "" {
		_, _ = io.WriteString(p.out, clearLine)
	}
	n, err := p.out.Write(b)
	if p.terminal && bytes.HasSuffix(b, []byte("\n")) {
		p.draw()
	}
	return n, err
}

// relay shows a line of another's progress, whether it is a step or not.
func (p *progress) relay(line string) {
	if m := stepLine.FindStringSubmatch(line); m != nil {
		p.begin(m[1])
		return
	}
	_, _ = fmt.Fprintln(p, line)
}

// close ends the last step.
func (p *progress) close() {
	close(p.stop)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// lineWriter calls the function with every line that is written.
type lineWriter struct {
	line func(string)

	mu   sync.Mutex
	rest []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		w.line(string(line))
		w.rest = rest
	}
}

// stepsOf returns where each line that is written becomes a step of the progress; of anything else it becomes a line.
func stepsOf(w io.Writer) io.Writer {
	if p, ok := w.(*progress); ok {
		return &lineWriter{line: p.begin}
	}
	return w
}
