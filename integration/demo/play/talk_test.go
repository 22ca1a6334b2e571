package play_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// The table is what remains of a run: a step that failed or never ran must not look like one that was proved.
func TestTableTellsProvedFromFailedFromNotRun(t *testing.T) {
	got := play.Table([]play.Result{
		{Title: "a", Proof: "a is so", Took: 1500 * time.Millisecond},
		{Title: "b", Err: errors.New("b is not so"), Took: time.Second},
		{Title: "c", Skipped: true},
	})
	for _, want := range []string{"proved   a is so", "FAILED   b: b is not so", "not run  c", "1.5 s", "2.5 s"} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no %q:\n%s", want, got)
		}
	}
}

func TestWrapKeepsEveryWord(t *testing.T) {
	text := strings.Repeat("word and anextralongone ", 20)
	lines := play.Wrap(text, 17)
	if got := strings.Join(lines, " "); got != strings.TrimSpace(text) {
		t.Errorf("got %q, want %q", got, text)
	}
	for _, line := range lines {
		if len(line) > 17 {
			t.Errorf("line %q is longer than 17", line)
		}
	}
}

// A step that takes longer than usual must not promise more than is left, nor run over the bar's end.
func TestProgressStaysWithinTheBar(t *testing.T) {
	all := []play.Step{{Title: "one", About: 10 * time.Second}, {Title: "two", About: 30 * time.Second}}
	for _, c := range []struct {
		n      int
		inStep time.Duration
		want   string
	}{
		{1, 0, "░░░░░░░░░░░░░░░░░░░░░░░░ 1/2  one: 0s; about 40s to go"},
		{1, 5 * time.Second, "███░░░░░░░░░░░░░░░░░░░░░ 1/2  one: 5s; about 35s to go"},
		{1, time.Hour, "██████░░░░░░░░░░░░░░░░░░ 1/2  one: 3600s; about 30s to go"},
		{2, time.Hour, "████████████████████████ 2/2  two: 3600s; about 0s to go"},
	} {
		if got := play.Progress(all, c.n, c.inStep); got != c.want {
			t.Errorf("progress(%d, %s) = %q, want %q", c.n, c.inStep, got, c.want)
		}
	}
}

// A log file or a pipe gets lines and nothing that moves a cursor.
func TestPlainOutputHasNoControlCharacters(t *testing.T) {
	var out bytes.Buffer
	tk := play.New(&out)
	end := tk.Begin([]play.Step{{Title: "one"}}, 1)
	tk.Command([]string{"mooring", "policy", "create", "--content", `(("stripeWidth" i2))`})
	tk.Note("done")
	end()
	want := "\n1/1  one\n   $ mooring policy create --content '((\"stripeWidth\" i2))'\n     done\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// After a failure nothing more is tried, except what takes down what was made.
func TestAfterAFailureOnlyTheTakingDownRuns(t *testing.T) {
	var ran []string
	do := func(name string, err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) {
			ran = append(ran, name)
			return name, err
		}
	}
	rows := play.New(&bytes.Buffer{}).Play(t.Context(), []play.Step{
		{Title: "a", Do: do("a", nil)},
		{Title: "b", Do: do("b", os.ErrInvalid)},
		{Title: "c", Do: do("c", nil)},
		{Title: "down", Always: true, Do: do("down", nil)},
	})
	if got, want := strings.Join(ran, " "), "a b down"; got != want {
		t.Errorf("ran %q, want %q", got, want)
	}
	if rows[0].Err != nil || rows[1].Err == nil || !rows[2].Skipped || rows[3].Skipped {
		t.Errorf("rows %+v: want proved, failed, not run, proved", rows)
	}
}
