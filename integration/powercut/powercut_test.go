package powercut_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/powercut"
)

// setting returns a number from the environment, where `make power-cuts` puts it.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// filesystems returns those that FS names, "ext4 nodelalloc;xfs", or the two that Mooring makes.
func filesystems() []powercut.Filesystem {
	var all []powercut.Filesystem
	for one := range strings.SplitSeq(cmp.Or(os.Getenv("FS"), "ext4;xfs"), ";") {
		kind, options, _ := strings.Cut(one, " ")
		all = append(all, powercut.Filesystem{Type: kind, Options: options})
	}
	return all
}

func newShelf(t *testing.T) *powercut.Shelf {
	t.Helper()
	needRoot(t)
	shelf, err := powercut.NewShelf(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shelf.Close(); err != nil {
			t.Error(err)
		}
	})
	return shelf
}

func plan(t *testing.T, fs powercut.Filesystem) powercut.Plan {
	t.Helper()
	return powercut.Plan{
		Filesystem: fs, Cuts: setting(t, "CUTS", 10), PerRound: 25, Pushers: 8, Seed: uint64(setting(t, "SEED", 1)), Guard: guards(t), //nolint:gosec // a seed
		Tell: t.Logf,
	}
}

// G27: This is what people entrust to the volume. A cut cannot be repeated, for its moment cannot: the seed repeats what was pushed.
func TestNoAcknowledgedPushIsLost(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs.String(), func(t *testing.T) {
			tally, err := newShelf(t).Run(t.Context(), plan(t, fs))
			t.Log(show(tally))
			if err != nil {
				t.Fatal(err)
			}
			if tally.Lost > 0 {
				t.Errorf("%d of %d cuts lost something that had been acknowledged: %v; want none", tally.Lost, tally.Cuts, tally.After)
			}
			if tally.Missed > 0 {
				t.Errorf("in %d of %d cuts something was lost and Mooring found nothing; want none", tally.Missed, tally.Cuts)
			}
			if tally.Judged < tally.Cuts {
				t.Errorf("only %d pushes were acknowledged before %d cuts: nothing was tried", tally.Judged, tally.Cuts)
			}
		})
	}
}

// A pusher that counts a push as acknowledged when it begins makes the mistake that a registry without fsync would make: the experiment must see it.
func TestExperimentFindsWhatWasCountedTooEarly(t *testing.T) {
	p := plan(t, powercut.Filesystem{Type: "ext4"})
	p.Cuts, p.Eager, p.Guard, p.Tell = 5, true, nil, nil
	tally, err := newShelf(t).Run(t.Context(), p)
	t.Log(show(tally))
	if err != nil {
		t.Fatal(err)
	}
	if tally.Damaged == 0 || tally.Lost != tally.Damaged {
		t.Errorf("%d of %d cuts with losses, and %d without a repair; want some, and as many", tally.Damaged, tally.Cuts, tally.Lost)
	}
}

// What a filesystem's options cost a pusher. The filesystems take turns, so that whatever else the machine does meanwhile strikes all of them.
func TestPushThroughput(t *testing.T) {
	turns, pushes := setting(t, "TURNS", 1), setting(t, "PUSHES", 16)
	shelf := newShelf(t)
	took := map[string][]time.Duration{}
	for turn := range turns {
		for _, fs := range filesystems() {
			p := plan(t, fs)
			p.Seed += uint64(turn) //nolint:gosec // a count
			one, err := shelf.Throughput(t.Context(), p, pushes)
			if err != nil {
				t.Fatal(err)
			}
			took[fs.String()] = append(took[fs.String()], one)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(took)) {
		var sum time.Duration
		for _, one := range took[name] {
			sum += one
		}
		t.Logf("%s: %.1f pushes/s (%d in each of %v)", name, float64(turns*pushes)/sum.Seconds(), pushes, took[name])
	}
}

// show returns the tally as lines.
func show(t powercut.Tally) string {
	text := fmt.Sprintf("%d cuts of %d pushes in %.0f s (%.1f/s); on average %d pushes were acknowledged before a cut\nbefore the repair: %d cuts with losses %v\nafter it: %d cuts with losses %v, %d links made anew, %d blobs moved aside, %d pushes made again; Mooring found nothing in %d cuts that lost something, and something in %d that lost nothing",
		t.Cuts, t.Pushes, t.Pushing.Seconds(), float64(t.Pushes)/t.Pushing.Seconds(), t.Judged/max(t.Cuts, 1), t.Damaged, t.Before, t.Lost, t.After, t.Repaired, t.Aside, t.Again, t.Missed, t.Alarms)
	return text
}
