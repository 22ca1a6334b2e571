package play

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Talk tells a person what happens. On a terminal the last line says how far the demo is and about how long it still
// takes; elsewhere every line stays.
type Talk struct {
	out      io.Writer
	terminal bool

	mu   sync.Mutex
	step int // the one that runs, from 1
	all  []Step
	from time.Time // when that step began
}

// begin announces step n and keeps the last line of a terminal alive until the function that it returns is called.
func (t *Talk) begin(n int) (end func()) {
	t.mu.Lock()
	t.step, t.from = n, time.Now()
	t.mu.Unlock()
	t.Line(fmt.Sprintf("\n%d/%d  %s", n, len(t.all), t.all[n-1].Title))
	if !t.terminal {
		return func() {}
	}
	done := make(chan struct{})
	var painter sync.WaitGroup
	painter.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			t.Line("")
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		painter.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.step = 0
		_, _ = io.WriteString(t.out, clearLine)
	}
}

// clearLine brings a terminal's cursor to the left and empties the line.
const clearLine = "\r\x1b[K"

// Line prints text on a line of its own, above the terminal's last line. An empty text only repaints that.
func (t *Talk) Line(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text != "" {
		text += "\n"
	}
	if t.terminal {
		text = clearLine + text
		if t.step > 0 {
			text += progress(t.all, t.step, time.Since(t.from))
		}
	}
	_, _ = io.WriteString(t.out, text) // nobody to tell when the terminal is gone
}

// Note prints what was found out within a step.
func (t *Talk) Note(format string, args ...any) { t.Line("     " + fmt.Sprintf(format, args...)) }

// Command prints a command as a person would type it.
func (t *Talk) Command(argv []string) {
	words := make([]string, len(argv))
	for i, word := range argv {
		if strings.ContainsAny(word, " ()\"$*;") {
			word = "'" + word + "'"
		}
		words[i] = word
	}
	t.Line("   $ " + strings.Join(words, " "))
}

// progress returns the line that says how far the demo is: a bar by the time that the steps usually take, and an estimate.
func progress(all []Step, n int, inStep time.Duration) string {
	const width = 24
	var total, past time.Duration
	for i, s := range all {
		total += s.About
		if i < n-1 {
			past += s.About
		}
	}
	past += min(inStep, all[n-1].About)
	full := int(width * past / max(total, 1))
	bar := strings.Repeat("█", full) + strings.Repeat("░", width-full)
	return fmt.Sprintf("%s %d/%d  %s: %ds; about %ds to go", bar, n, len(all), all[n-1].Title, int(inStep.Seconds()),
		int((total - past).Seconds()))
}

// table returns what was proved and how long it took, a row for each step, and the sum.
func table(rows []Result) string {
	var b strings.Builder
	var total time.Duration
	rule := strings.Repeat("─", 110) + "\n"
	b.WriteString("\n" + rule)
	for _, r := range rows {
		mark, text := "proved", r.Proof
		switch {
		case r.Skipped:
			mark, text = "not run", r.Title
		case r.Err != nil:
			mark, text = "FAILED", head(r.Title+": "+r.Err.Error(), 260) // all of it was said when it failed
		}
		total += r.Took
		for i, line := range wrap(text, 90) {
			if i == 0 {
				fmt.Fprintf(&b, "%-8s %-92s %8s\n", mark, line, Seconds(r.Took))
			} else {
				fmt.Fprintf(&b, "%-8s %s\n", "", line)
			}
		}
	}
	fmt.Fprintf(&b, "%s%-8s %-92s %8s\n", rule, "", "all of it", Seconds(total))
	return b.String()
}

// head returns text without what follows its first n characters.
func head(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return text
}

// Seconds writes a duration as people read one.
func Seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// wrap breaks text at spaces into lines of at most width characters; a longer word has a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
