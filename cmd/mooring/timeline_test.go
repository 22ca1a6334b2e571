package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	command "github.com/mooring-sh/mooring/cmd/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

func draw(t *testing.T, rep admin.Recovery, now time.Time, width int) string {
	t.Helper()
	var b strings.Builder
	if err := command.DrawRecovery(&b, rep, now, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A recovery that is under way is drawn up to now.
func TestRecoveryUnderWay(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	began := time.Date(2030, 1, 2, 3, 2, 0, 0, time.Local)
	rep := admin.Recovery{
		ID: "x", Origin: "failover", Phase: "starting", Died: began.Add(-time.Minute), Booted: began.Add(-15 * time.Second), Began: began,
		Timeline: []admin.Passage{{Phase: "fencing", From: began, To: began}, {Phase: "starting", From: began}},
		Services: []admin.Service{{Name: "log", Ready: true, ReadyAt: began.Add(4 * time.Second)}, {Name: "core", State: "created", Why: "waits for log"}},
	}
	got := draw(t, rep, began.Add(30*time.Second), 80)
	for _, want := range []string{
		"Recovery x: under way: starting\n", "\nNOT BACK YET\n  service core: waits for log\n",
		"\n  03:01:00     +00:00  not running  ................                         45s\n",
		"\n  03:02:00     +01:00  starting                          ###########         30s\n",
		"\n  03:02:04     +01:04  log                               -*\n",
		"\n         -             core                              -----------x\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// Whatever is in a report, no line is wider than the terminal, in either alphabet, unless a word is.
func TestNoLineIsTooWide(t *testing.T) {
	began := time.Date(2030, 1, 2, 3, 2, 0, 0, time.Local)
	for _, locale := range []string{"C", "C.UTF-8"} {
		t.Setenv("LC_ALL", locale)
		for _, down := range []time.Duration{-time.Hour, 0, time.Millisecond, time.Second, 26 * time.Hour, 1000 * time.Hour} {
			for _, name := range []string{"a", "größe", strings.Repeat("n", 63)} {
				for _, width := range []int{60, 80, 120} {
					rep := admin.Recovery{
						Origin: "unclear", Phase: "failed", Died: began.Add(-down), Booted: began, Began: began, Ended: began.Add(down),
						Timeline: []admin.Passage{
							{Phase: "starting", From: began, To: began.Add(down), Missed: []string{strings.Repeat("word ", 40)}}, {Phase: "failed", From: began.Add(down)},
						},
						Services: []admin.Service{{Name: name, ReadyAt: began.Add(2 * down), Ready: true, Tries: 100}, {Name: name, Why: strings.Repeat("why ", 40)}, {Stopped: true}},
						Notes:    []string{strings.Repeat("note ", 40)},
					}
					for line := range strings.Lines(draw(t, rep, began, width)) {
						if n := utf8.RuneCountInString(line) - 1; n > width && !strings.Contains(line, strings.Repeat("n", 63)) {
							t.Errorf("%s, down for %s, width %d: %d characters in %q", locale, down, width, n, line)
						}
					}
				}
			}
		}
	}
}

// On a terminal one line is redrawn; elsewhere what changes is said once.
func TestProgress(t *testing.T) {
	first := admin.Stack{Phase: "starting", Waits: []string{"w"}, Services: []admin.Service{{Name: "core", Why: "waits for \x1b[2J"}, {Name: "log"}}}
	second := admin.Stack{Phase: "settled", Services: []admin.Service{{Name: "core", Ready: true}, {Name: "log", Ready: true}}}
	var plain, terminal strings.Builder
	p := command.NewProgress(&plain, 0)
	for _, st := range []admin.Stack{first, first, second, second} {
		p.Show(st)
	}
	if want := "+00:00  starting: waits: w\n+00:00  core is ready\n+00:00  log is ready\n+00:00  settled\n"; plain.String() != want {
		t.Errorf("got %q, want %q", plain.String(), want)
	}
	q := command.NewProgress(&terminal, 80)
	q.Show(first)
	q.Show(second)
	want := fmt.Sprintf("\r\x1b[K+00:00 [%s] 0/2 starting: core: waits for ?[2J", strings.Repeat(".", 20)) + fmt.Sprintf("\r\x1b[K+00:00 [%s] 2/2 settled", strings.Repeat("#", 20))
	if got := terminal.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
