package powercut_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/mooring-sh/mooring/integration/powercut"
)

func choices(seed uint64, pusher, n int) []powercut.Choice {
	c := powercut.NewChooser(seed, pusher)
	var all []powercut.Choice
	for range n {
		all = append(all, c.Next())
	}
	return all
}

// A seed that has found something is only of use if it makes the same pushes again.
func TestSeedReplaysTheChoices(t *testing.T) {
	t.Parallel()
	if a, b := choices(7, 3, 200), choices(7, 3, 200); !reflect.DeepEqual(a, b) {
		t.Error("the same seed and pusher made other choices")
	}
	for name, other := range map[string][]powercut.Choice{"seed": choices(8, 3, 200), "pusher": choices(7, 4, 200)} {
		if reflect.DeepEqual(choices(7, 3, 200), other) {
			t.Errorf("another %s made the same choices", name)
		}
	}
}

// The window in which an acknowledged link is destroyed opens only when something is pushed again: so the load must do that, in every way in which people do.
func TestLoadPushesInEveryWay(t *testing.T) {
	t.Parallel()
	kinds, pushes, latest, largest := map[powercut.Kind]int{}, 0, 0, 0
	bases, owners := map[powercut.Layer]map[string]bool{}, map[string]map[int]bool{}
	for pusher := range 8 {
		for _, c := range choices(1, pusher, 500) {
			kinds[c.Kind]++
			pushes += len(c.Tags)
			if slices.Contains(c.Tags, "latest") {
				latest++
			}
			base := c.Image.Layers[0]
			if bases[base] == nil {
				bases[base] = map[string]bool{}
			}
			bases[base][c.Repository] = true
			if owners[c.Repository] == nil {
				owners[c.Repository] = map[int]bool{}
			}
			owners[c.Repository][pusher] = true
			for _, l := range c.Image.Layers {
				largest = max(largest, l.Size)
			}
		}
	}
	for kind, least := range map[powercut.Kind]int{powercut.Fresh: 2000, powercut.Retag: 400, powercut.Again: 300, powercut.AtOnce: 100} {
		if kinds[kind] < least {
			t.Errorf("%d of 4000 choices are %s; want %d at least", kinds[kind], kind, least)
		}
	}
	if share := 100 * latest / pushes; share < 40 || share > 60 {
		t.Errorf("%d %% of the pushes are of latest; want about half", share)
	}
	if largest < 1<<20 {
		t.Errorf("the largest layer has %d bytes; want some of 1 MiB", largest)
	}
	for base, repositories := range bases {
		if len(repositories) < 2 {
			t.Errorf("only %v has the base layer %v; want it shared", repositories, base)
		}
	}
	for repository, pushers := range owners {
		if len(pushers) != 2 {
			t.Errorf("%s has the pushers %v; want two, who move the same latest", repository, pushers)
		}
	}
}
