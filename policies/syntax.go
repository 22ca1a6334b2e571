package policies

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mooring-sh/mooring"
)

// SyntaxError is a policy that cannot be read or that vSAN would refuse, with the place. It wraps [mooring.ErrInvalid].
type SyntaxError struct {
	Text    string // the whole policy as it was written
	Offset  int    // the byte in Text at which the problem lies; len(Text) when something is missing at the end
	Problem string // what is wrong and what is allowed, on one line
}

// Error returns one line: "policy, column 3: problem", with the line too where the text has several.
func (e *SyntaxError) Error() string {
	line, column := e.Position()
	if strings.Contains(e.Text, "\n") {
		return fmt.Sprintf("policy, line %d, column %d: %s", line, column, e.Problem)
	}
	return fmt.Sprintf("policy, column %d: %s", column, e.Problem)
}

// Unwrap returns [mooring.ErrInvalid].
func (e *SyntaxError) Unwrap() error { return mooring.ErrInvalid }

// Position returns the line and the column, in characters, both counted from one.
func (e *SyntaxError) Position() (line, column int) {
	before := e.Text[:e.Offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

// Caret returns two lines: the line of the text that holds the problem, and a caret under the place.
func (e *SyntaxError) Caret() string {
	before, after := e.Text[:e.Offset], e.Text[e.Offset:]
	before = before[strings.LastIndexByte(before, '\n')+1:]
	after, _, _ = strings.Cut(after, "\n")
	// Tabs stay tabs: the caret then stands under its character however wide the terminal makes them.
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before)
	return before + strings.TrimSuffix(after, "\r") + "\n" + indent + "^"
}
