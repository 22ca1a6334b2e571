package guest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/mooring-sh/mooring"
)

// Decide returns what decide says: the step, and for a refusal why and the cure. Mark is "", "found" or "absent".
func Decide(f mooring.Format, formatted bool, chosen mooring.FSUUID, c Content, mark string) (did, text string) {
	v := decide(situation{
		format: f, formatted: formatted, chosen: chosen, content: c,
		mark: map[string]lookup{"": notLooked, "found": markFound, "absent": markAbsent}[mark],
	})
	return [...]string{refuse: "refuse", look: "look", format: "mkfs", open: "open"}[v.step], strings.TrimSpace(v.why + "; " + v.cure)
}

// Interpret reads what blkid answered.
func Interpret(out string, code int) (Content, error) {
	return interpret(result{name: "blkid", out: out, code: code})
}

// HandOut says what Docker gets of a filesystem on /m.
func HandOut(marked, data, made bool) (Opened, error) {
	return handOut("/m", inside{marked: marked, data: data}, made)
}

// MkfsCommand returns the command line that makes the volume's filesystem.
func MkfsCommand(vol mooring.Volume, dev string) (string, error) {
	c, err := mkfsCommand(vol, dev)
	return fmt.Sprint(append([]string{c.name}, c.args...)), err
}

// ReadProgress returns the percentages that what e2fsck writes amounts to.
func ReadProgress(r io.Reader) (percents []int) {
	readProgress(r, func(p int) { percents = append(percents, p) })
	return percents
}

// Run runs a program and returns what it said.
func (g *Guest) Run(ctx context.Context, name string, args ...string) (string, error) {
	r, err := g.run(ctx, command{name: name, args: args})
	return r.out, err
}
