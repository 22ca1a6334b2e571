package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/mooring-sh/mooring/internal/admin"
)

// progress shows how a stack comes up: on a terminal a bar in a line that is redrawn, elsewhere a line for each thing that changes.
type progress struct {
	out   io.Writer
	width int // of the terminal; 0: it is none
	began time.Time
	seen  map[string]bool // the services that were ready
	line  string
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, began: time.Now(), seen: make(map[string]bool)}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = w
		}
	}
	return p
}

// show shows how the stack is now.
func (p *progress) show(st admin.Stack) {
	if p.width > 0 {
		p.draw(st)
		return
	}
	for _, s := range st.Services {
		if s.Ready && !p.seen[s.Name] {
			p.say(s.Name + " is ready")
		}
		p.seen[s.Name] = s.Ready
	}
	line := cell(st.Phase)
	if len(st.Waits) > 0 {
		line += ": waits: " + cell(strings.Join(st.Waits, "; "))
	}
	if line != p.line {
		p.say(line)
	}
	p.line = line
}

func (p *progress) say(text string) {
	_, _ = fmt.Fprintf(p.out, "%s  %s\n", offset(time.Since(p.began)), cell(text)) // a closed terminal does not stop the work
}

const barWidth = 20

func (p *progress) draw(st admin.Stack) {
	all := max(wanted(st), 1)
	full := barWidth * ready(st) / all
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	line := fmt.Sprintf("%s [%s] %d/%d %s", offset(time.Since(p.began)), bar, ready(st), all, cell(st.Phase))
	i := slices.IndexFunc(st.Services, func(s admin.Service) bool { return !s.Ready && !s.Stopped })
	if i >= 0 {
		line += strings.TrimSuffix(": "+cell(st.Services[i].Name+": "+st.Services[i].Why), ": ")
	}
	if utf8.RuneCountInString(line) >= p.width {
		line = string([]rune(line)[:max(p.width-1, 0)])
	}
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
}

// close leaves the terminal at the beginning of a line.
func (p *progress) close() {
	if p.width > 0 {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}
