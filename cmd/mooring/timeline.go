package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// drawing is a report being drawn. Everything depends on its fields alone.
type drawing struct {
	canvas

	rep       admin.Recovery
	zero, end time.Time // the ends of the time line
	label     int       // the width of the names
	b         strings.Builder
}

// drawRecovery draws the report: what is not back first, then what happened when.
func drawRecovery(w io.Writer, rep admin.Recovery, now time.Time, c canvas) error {
	d := &drawing{canvas: c, rep: rep, zero: zeroOf(rep)}
	d.end = cmp.Or(rep.Ended, now)
	for _, s := range rep.Services {
		if s.ReadyAt.After(d.end) { // of a recovery that settled with damage, and was healed
			d.end = s.ReadyAt
		}
	}
	for _, s := range rep.Services {
		d.label = max(d.label, utf8.RuneCountInString(s.Name))
	}
	d.label = min(max(d.label, len("not running")), 20)
	d.headline()
	d.losses()
	d.imageLosses()
	if err := printConditions(&wrapped{&d.b, c.width}, rep.Conditions); err != nil {
		return err
	}
	d.phases()
	d.services()
	d.volumes()
	d.images()
	d.doors()
	list(d, "WHAT VCENTER SAW", rep.Evidence, func(s mooring.Sighting) string { return clock(s.At) + "  " + s.Text })
	list(d, "NOTES", rep.Notes, func(n string) string { return n })
	_, err := io.WriteString(w, d.b.String())
	return err
}

// zeroOf is the moment from which time is counted.
func zeroOf(rep admin.Recovery) time.Time { return cmp.Or(rep.Died, rep.Began) }

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

// headline says how the recovery went, why it was necessary, and how long it took.
func (d *drawing) headline() {
	r := d.rep
	d.printf("Recovery %s: %s\n\n", cell(r.ID), cell(outcome(r)))
	why := map[string]string{
		"failover": "The machine ended without a shutdown", "reboot": "The machine was rebooted in order",
		"first": "The supervisor ran for the first time", "unclear": "There is no record of how the machine ended",
	}[r.Origin]
	when := "the recovery began at "
	if !r.Died.IsZero() {
		when = "last seen to run at "
	}
	text := fmt.Sprintf("%s; %s%s.", cmp.Or(why, cell(r.Origin)), when, d.zero.Local().Format("2006-01-02 15:04:05 MST"))
	if t := took(r); t != "" {
		text += fmt.Sprintf(" Settled after %s, at %s.", t, clock(r.Ended))
	}
	d.wrap("  ", text)
}

// losses names what is not back; if nothing is missing, it says that.
func (d *drawing) losses() {
	var lines []string
	for _, v := range d.rep.Volumes {
		if ill(v) {
			lines = append(lines, fmt.Sprintf("volume %s: %s", v.Name, strings.TrimSuffix(v.State+", "+v.Text, ", ")))
		}
	}
	for _, s := range d.rep.Services {
		if !s.Ready && !s.Stopped {
			lines = append(lines, fmt.Sprintf("service %s: %s", s.Name, cmp.Or(s.Why, s.State)))
		}
	}
	if !d.rep.Doors.Asked.IsZero() && !d.rep.Doors.Right {
		lines = append(lines, "the doors answer wrong: "+d.rep.Doors.Text)
	}
	switch {
	case len(lines) > 0:
		list(d, "NOT BACK"+map[bool]string{true: " YET"}[d.rep.Ended.IsZero()], lines, func(l string) string { return l })
	case d.rep.Ended.IsZero():
	case d.rep.Images == nil:
		d.printf("\n  Everything is back (services: %d, volumes: %d).\n", len(d.rep.Services), len(d.rep.Volumes))
	case d.rep.Images.State == admin.ImagesProved:
		d.printf("\n")
		d.wrap("  ", fmt.Sprintf("Everything is back (services: %d, volumes: %d), and %s.", len(d.rep.Services), len(d.rep.Volumes), d.rep.Images.Headline()))
	default:
		d.printf("\n")
		d.wrap("  ", fmt.Sprintf("All services are back (%d), and %s.", len(d.rep.Services), d.rep.Images.Headline()))
	}
}

// imageLosses names every image that is not as it was.
func (d *drawing) imageLosses() {
	if i := d.rep.Images; i != nil {
		list(d, "LOST OR DAMAGED", i.Findings, admin.Finding.Line)
		list(d, "GONE, DELETED OR LOST", i.Gone, admin.Change.Line)
	}
}

// images writes what was proved of the images, and what was pushed in the last moments.
func (d *drawing) images() {
	if i := d.rep.Images; i != nil {
		list(d, "IMAGES", i.Sentences(), func(s string) string { return s })
		list(d, "PUSHED SINCE THE MANIFEST WAS MADE", i.New, admin.Change.Line)
	}
}

// phases draws the machine's end, its boot and the phases, one below the other.
func (d *drawing) phases() {
	r := d.rep
	d.printf("\nTIMELINE\n")
	if !r.Died.IsZero() && r.Booted.After(r.Died) {
		d.bar("not running", r.Died, r.Booted, d.dead)
	}
	if !r.Booted.IsZero() && !r.Booted.Before(d.zero) && r.Began.After(r.Booted) {
		d.bar("booting", r.Booted, r.Began, d.boot)
	}
	for i, p := range r.Timeline {
		last := i == len(r.Timeline)-1
		switch {
		case last && p.Phase == "settled":
			d.row(p.From, p.Phase, strings.Repeat(" ", d.column(p.From))+d.ready, "")
		case last && p.Phase == "failed":
			d.row(p.From, p.Phase, strings.Repeat(" ", d.column(p.From))+d.never, "")
		default:
			d.bar(p.Phase, p.From, cmp.Or(p.To, d.end), d.work)
		}
		for _, m := range p.Missed {
			d.wrap("  "+strings.Repeat(" ", 21), "limit passed: "+cell(m))
		}
	}
}

// services draws from the beginning of the recovery to when each service was ready, the first first.
func (d *drawing) services() {
	if len(d.rep.Services) == 0 {
		return
	}
	d.printf("\nSERVICES\n")
	list := slices.Clone(d.rep.Services)
	slices.SortStableFunc(list, func(a, b admin.Service) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.ReadyAt.Compare(b.ReadyAt))
	})
	from := d.column(d.rep.Began)
	for _, s := range list {
		note := ""
		if s.Tries > 1 {
			note = fmt.Sprintf("%d tries", min(s.Tries, 999))
		}
		switch {
		case s.Stopped:
			d.row(time.Time{}, s.Name, "", "stopped")
		case !s.Ready:
			d.row(time.Time{}, s.Name, strings.Repeat(" ", from)+strings.Repeat(d.wait, d.column(d.end)-from)+d.never, note)
		default:
			to := max(d.column(s.ReadyAt), from)
			d.row(s.ReadyAt, s.Name, strings.Repeat(" ", from)+strings.Repeat(d.wait, to-from)+d.ready, note)
		}
	}
}

// rank puts those that are ready before those that are not, and those that a person stopped last.
func rank(s admin.Service) int {
	switch {
	case s.Stopped:
		return 2
	case !s.Ready:
		return 1
	default:
		return 0
	}
}

func (d *drawing) volumes() {
	if len(d.rep.Volumes) == 0 {
		return
	}
	d.printf("\nVOLUMES\n")
	for _, v := range d.rep.Volumes {
		d.printf("  %-*s  %s\n", d.label, cell(string(v.Name)), cell(v.State))
	}
}

// doors writes what the stack's published port answered last.
func (d *drawing) doors() {
	if a := d.rep.Doors; !a.Asked.IsZero() {
		list(d, "DOORS", []admin.Doors{a}, func(a admin.Doors) string {
			return map[bool]string{true: "right: ", false: "wrong: "}[a.Right] + a.Text
		})
	}
}

// list writes a section of lines, if there are any.
func list[T any](d *drawing, title string, rows []T, line func(T) string) {
	if len(rows) == 0 {
		return
	}
	d.printf("\n%s\n", title)
	for _, r := range rows {
		d.b.WriteString(fill(cell(line(r)), "  ", "    ", d.width))
	}
}

// bar draws the time from one moment to another.
func (d *drawing) bar(name string, from, to time.Time, sign string) {
	a, b := d.column(from), d.column(to)
	what := strings.Repeat(sign, b-a)
	if a == b {
		what = d.moment
	}
	d.row(from, name, strings.Repeat(" ", a)+what, span(to.Sub(from)))
}

const besides = 2 + 8 + 2 + 9 + 2 + 2 + 2 + 9 // all of a row but the name and the bar

func (d *drawing) columns() int { return d.width - besides - d.label }

// column is where a moment lies among the columns of a bar.
func (d *drawing) column(t time.Time) int {
	all := d.end.Sub(d.zero)
	if all <= 0 || t.IsZero() {
		return 0
	}
	return min(max(int(float64(d.columns()-1)*float64(t.Sub(d.zero))/float64(all)), 0), d.columns()-1)
}

// row writes a line with when it was, twice, what, its bar, and how long or how often.
func (d *drawing) row(at time.Time, name, bar, note string) {
	since := ""
	if !at.IsZero() {
		since = offset(at.Sub(d.zero))
	}
	name = cell(name)
	if r := []rune(name); len(r) > d.label {
		name = string(r[:d.label-1]) + "~"
	}
	bar += strings.Repeat(" ", max(0, d.columns()-utf8.RuneCountInString(bar)))
	line := fmt.Sprintf("  %8s  %9s  %-*s  %s  %9s", clock(at), since, d.label, name, bar, note)
	d.printf("%s\n", strings.TrimRight(line, " "))
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("15:04:05")
}

// offset writes a duration as +mm:ss, +h:mm:ss, or in days: at most nine characters.
func offset(d time.Duration) string {
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	s := int(d.Round(time.Second).Seconds())
	switch {
	case s < 3600:
		return fmt.Sprintf("%s%02d:%02d", sign, s/60, s%60)
	case s < 100*3600:
		return fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
	default:
		return sign + days(d)
	}
}

// span writes how long something took, the shorter the more precisely: at most nine characters.
func span(d time.Duration) string {
	switch {
	case d > 0 && d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 100*time.Hour:
		return d.Round(time.Second).String()
	default:
		return days(d)
	}
}

func days(d time.Duration) string {
	h := int(d.Round(time.Hour).Hours())
	return fmt.Sprintf("%dd%dh", h/24, h%24)
}

// wrap writes text in lines that are not too long, each indented.
func (d *drawing) wrap(indent, text string) {
	d.b.WriteString(fill(text, indent, indent, d.width))
}

// wrapped breaks lines that are too long, keeping their indentation.
type wrapped struct {
	to    io.Writer
	width int
}

// Write wants whole lines.
func (w *wrapped) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		text := strings.TrimSuffix(line, "\n")
		indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
		if _, err := io.WriteString(w.to, fill(strings.TrimLeft(text, " "), indent, indent, w.width)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// fill returns text as lines of at most width characters, unless a word is longer, the first and the others indented.
func fill(text, first, others string, width int) string {
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line = others + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
