package play

import "time"

// Table returns the table of what was proved.
func Table(rows []Result) string { return table(rows) }

// Wrap breaks text into lines.
func Wrap(text string, width int) []string { return wrap(text, width) }

// Progress returns the line that says how far the demo is.
func Progress(all []Step, n int, inStep time.Duration) string { return progress(all, n, inStep) }

// Begin announces step n.
func (t *Talk) Begin(all []Step, n int) (end func()) {
	t.all = all
	return t.begin(n)
}
