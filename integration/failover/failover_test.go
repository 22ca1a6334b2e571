//go:build machines

package failover_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

// scenario is one case of the suite.
type scenario struct {
	name string
	what string // that is shown
	ci   bool   // one of those that continuous integration runs
	kind kind   // empty: [trixie]

	setup  func(s *scene)
	fault  func(s *scene)
	expect func(s *scene)
}

// scenarios returns the whole table with those random schedules, in the order in which it is run: those that spend a machine come last.
func scenarios(random []scenario) []scenario {
	var all []scenario
	for _, part := range [][]scenario{
		hostCases(), machineCases(), takeoverCases(), pluginCases(), packageCases(), diskCases(), ancestorCases(), swarmCases(), random, lastCases(), olderCases(), stackCases(),
	} {
		all = append(all, part...)
	}
	return all
}

const (
	randomInCI   = 2
	randomInFull = 20
)

// selected returns the cases that the environment asks for: FULL=1 all, CASES=REGEXP those, else the eight of CI.
func selected() ([]scenario, error) {
	pattern, full := os.Getenv("CASES"), os.Getenv("FULL") != ""
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("CASES: %w", err)
	}
	random, err := randomScenarios(pattern != "" || full)
	if err != nil {
		return nil, err
	}
	var out []scenario
	for _, c := range scenarios(random) {
		if pattern == "" && (full || c.ci) || pattern != "" && re.MatchString(c.name) {
			out = append(out, c)
		}
	}
	return out, nil
}

// randomScenarios are the schedules: with SEED=N that one alone; in CI always the same two, so that a change is judged by what its predecessor was
// judged by; else fresh ones, whose seeds are their names.
func randomScenarios(fresh bool) ([]scenario, error) {
	var out []scenario
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SEED: %w", err)
		}
		return append(out, randomScenario(seed)), nil
	}
	first, n := uint64(1), randomInCI
	if fresh {
		first, n = uint64(time.Now().Unix())%1_000_000*100, randomInFull
	}
	for i := range n {
		out = append(out, randomScenario(first+uint64(i)))
	}
	return out, nil
}

// TestFailover runs the cases one after the other on one fleet, which is made anew when a case has spent or spoiled it.
func TestFailover(t *testing.T) {
	cases, err := selected()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatalf("no case matches %q", os.Getenv("CASES"))
	}
	dir, err := artefactDir()
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{artefacts: dir}
	defer h.close(t)
	for i, c := range cases {
		begun := time.Now()
		say("%d/%d %s: %s", i+1, len(cases), c.name, c.what)
		ok := t.Run(c.name, func(t *testing.T) { h.run(&recorder{TB: t, name: c.name, findings: &h.findings}, c) })
		verdict := "ok"
		if !ok {
			verdict = "FAILED"
		}
		took := time.Since(begun).Round(time.Second)
		say("%d/%d %s: %s in %s", i+1, len(cases), c.name, verdict, took)
		h.results = append(h.results, fmt.Sprintf("| %s | %s | %s | %s |", c.name, c.what, verdict, took))
	}
}

// recorder keeps what a case finds wrong: of a run somewhere else, the last lines may be all that anybody sees. Like the T behind it, it may be told by several at once.
type recorder struct {
	testing.TB
	name     string
	mu       sync.Mutex
	findings *[]string
}

func (r *recorder) note(finding string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.findings = append(*r.findings, fmt.Sprintf("%s, at %s: %.1000s", r.name, time.Now().Format("15:04:05"), finding))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Helper()
	r.note(fmt.Sprintf(format, args...))
	r.TB.Errorf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Helper()
	r.note(fmt.Sprintf(format, args...))
	r.TB.Fatalf(format, args...)
}

func (r *recorder) Error(args ...any) {
	r.Helper()
	r.note(fmt.Sprint(args...))
	r.TB.Error(args...)
}

func (r *recorder) Fatal(args ...any) {
	r.Helper()
	r.note(fmt.Sprint(args...))
	r.TB.Fatal(args...)
}

// say tells how far the suite is. It is not held back until a test has ended.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "failover: %s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// artefactDir is where failures leave what explains them. Each run has its own.
func artefactDir() (string, error) {
	dir := os.Getenv("ARTEFACTS")
	if dir == "" {
		dir = filepath.Join("..", "..", ".cache", "failover")
	}
	dir, err := filepath.Abs(filepath.Join(dir, strconv.Itoa(os.Getpid())))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// harness keeps the fleet between cases.
type harness struct {
	artefacts string
	fleets    int
	fleet     *fleet
	results   []string
	findings  []string // what cases have found wrong
}

func (h *harness) close(t *testing.T) {
	t.Helper()
	if h.fleet != nil {
		if err := h.fleet.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		h.fleet = nil
	}
	table := "| case | what it shows | result | took |\n|---|---|---|---|\n" + strings.Join(h.results, "\n") + "\n"
	name := filepath.Join(h.artefacts, "results.md")
	if err := os.WriteFile(name, []byte(table), 0o644); err != nil {
		t.Errorf("write the results: %v", err)
	}
	say("results: %s", name)
	for _, finding := range h.findings {
		say("wrong in %s", finding)
	}
	if !t.Failed() {
		labs, err := filepath.Glob(filepath.Join(h.artefacts, "fleet*", "lab"))
		if err != nil {
			t.Error(err)
		}
		for _, lab := range labs {
			_ = os.RemoveAll(lab) // disks that nobody will look at
		}
	}
}

// ready returns a fleet of that kind.
func (h *harness) ready(ctx context.Context, tb testing.TB, k kind) *fleet {
	tb.Helper()
	if h.fleet != nil && h.fleet.kind == k {
		return h.fleet
	}
	h.discard(tb)
	begun := time.Now()
	h.fleets++
	dir := filepath.Join(h.artefacts, fmt.Sprintf("fleet%d", h.fleets))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := newFleet(ctx, k, os.Stderr, dir)
	if err != nil {
		tb.Fatalf("make the lab: %v", err)
	}
	say("%s are ready after %s", k, time.Since(begun).Round(time.Second))
	h.fleet = f
	return f
}

func (h *harness) discard(tb testing.TB) {
	tb.Helper()
	if h.fleet == nil {
		return
	}
	if err := h.fleet.Close(); err != nil {
		tb.Errorf("close the lab: %v", err)
	}
	_ = os.RemoveAll(filepath.Join(h.fleet.dir, "lab")) // disks that nobody will look at
	h.fleet = nil
}

// caseLimit is how long any case may take, clean-up included, and stackLimit one with a stack, which takes several minutes to come up and to go down.
const (
	caseLimit  = 20 * time.Minute
	stackLimit = 60 * time.Minute
)

func (h *harness) run(tb testing.TB, c scenario) {
	tb.Helper()
	limit := caseLimit
	if c.kind.stacked() {
		limit = stackLimit
	}
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	if c.kind == "" {
		c.kind = trixie
	}
	s := &scene{fleet: h.ready(ctx, tb, c.kind), t: tb, ctx: ctx, prefix: c.name}
	defer func() {
		if tb.Failed() {
			dir := filepath.Join(h.artefacts, c.name)
			h.fleet.save(context.WithoutCancel(ctx), dir)
			tb.Logf("what helps to understand it is in %s", dir)
		}
		if tb.Failed() || s.spent {
			h.discard(tb)
		}
	}()
	s.begin()
	c.setup(s)
	s.brink()
	c.fault(s)
	c.expect(s)
	s.check()
	if !tb.Failed() && !s.spent {
		s.clear()
		for _, do := range s.after {
			do()
		}
	}
}

// randomScenario is the schedule of a seed as a case.
func randomScenario(seed uint64) scenario {
	plan := failover.Plan(seed, []string{one, two})
	r := &random{plan: plan}
	return scenario{
		name: fmt.Sprintf("random-%d", seed), what: "what comes, comes: SEED=" + strconv.FormatUint(seed, 10), ci: true,
		setup: r.setup, fault: r.fault, expect: r.expect,
	}
}
