package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/mooring-sh/mooring/supervisor/images"
)

// imagesProgress shows how far a verification is: on a terminal a bar in a line that is redrawn, elsewhere a line now and then.
type imagesProgress struct {
	out   io.Writer
	width int // of the terminal; 0: it is none
	began time.Time
	now   func() time.Time
	drawn time.Time
	what  string
}

// Between two drawings on a terminal, and between two lines elsewhere.
const (
	drawEvery = 100 * time.Millisecond
	lineEvery = 10 * time.Second
)

func newImagesProgress(out io.Writer) *imagesProgress {
	p := &imagesProgress{out: out, now: time.Now}
	p.began = p.now()
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = w
		}
	}
	return p
}

// show shows how far it is.
func (p *imagesProgress) show(now images.Progress) {
	every := drawEvery
	if p.width == 0 {
		every = lineEvery
	}
	t := p.now()
	if now.What == p.what && t.Sub(p.drawn) < every {
		return
	}
	begun := now.What != p.what
	p.what, p.drawn = now.What, t
	line := offset(t.Sub(p.began)) + "  " + progressText(now)
	if p.width == 0 {
		if begun && now.Done == 0 && now.AllBytes == 0 {
			line = offset(t.Sub(p.began)) + "  " + now.What
		}
		_, _ = fmt.Fprintf(p.out, "%s\n", line) // a closed terminal does not stop the work
		return
	}
	if now.AllBytes > 0 {
		full := int(int64(barWidth) * min(now.Bytes, now.AllBytes) / now.AllBytes)
		line = offset(t.Sub(p.began)) + " [" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] " + progressText(now)
	}
	if utf8.RuneCountInString(line) >= p.width {
		line = string([]rune(line)[:max(p.width-1, 0)])
	}
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
}

// progressText says how far it is, and how long still.
func progressText(p images.Progress) string {
	text := p.What
	switch {
	case p.AllBytes > 0:
		text += fmt.Sprintf(" %s of %s", bytesText(p.Bytes), bytesText(p.AllBytes))
		if p.Left > 0 {
			text += fmt.Sprintf(", %s to go", p.Left.Round(time.Second))
		}
	case p.All > 0:
		text += fmt.Sprintf(" %d of %d", p.Done, p.All)
	case p.Done > 0:
		text += fmt.Sprintf(" %d", p.Done)
	}
	if p.Wrong > 0 {
		text += fmt.Sprintf(", %d wrong so far", p.Wrong)
	}
	return text
}

// close leaves the terminal at the beginning of a line.
func (p *imagesProgress) close() {
	if p.width > 0 {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}
