package esx_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/esx"
)

// machines draws controllers as machines have them: up to four, with units that are taken, among them such as only newer hardware has.
func machines(t *rapid.T) []esx.Controller {
	var list []esx.Controller
	for bus := range rapid.Int32Range(0, 4).Draw(t, "controllers") {
		used := rapid.SliceOfNDistinct(rapid.Int32Range(0, 63), 0, 20, rapid.ID[int32]).Draw(t, "used")
		list = append(list, esx.Controller{Key: 1000 + bus, Bus: bus, Used: slices.DeleteFunc(used, func(u int32) bool { return u == 7 })})
	}
	return list
}

// vSphere refuses a taken unit, the controller's own and one beyond the last; govmomi's allocator panics where units from 30 on are in use.
func TestAllocatedSlotsAreFreeDistinctAndNeverTheControllersOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		controllers := machines(t)
		n := rapid.IntRange(0, 70).Draw(t, "n")
		free := 0
		for _, c := range controllers {
			for unit := range int32(16) {
				if unit != 7 && !slices.Contains(c.Used, unit) {
					free++
				}
			}
		}
		slots := esx.Allocate(controllers, n)
		if want := min(n, free); len(slots) != want {
			t.Fatalf("got %d slots, want %d", len(slots), want)
		}
		seen := map[esx.Slot]bool{}
		for _, s := range slots {
			i := slices.IndexFunc(controllers, func(c esx.Controller) bool { return c.Key == s.Controller })
			switch {
			case i < 0:
				t.Fatalf("slot %+v is on no controller", s)
			case s.Unit == 7 || s.Unit < 0 || s.Unit > 15:
				t.Fatalf("slot %+v is none that every controller has", s)
			case slices.Contains(controllers[i].Used, s.Unit), seen[s]:
				t.Fatalf("slot %+v is taken", s)
			}
			seen[s] = true
		}
	})
}

// Each controller has a queue of its own; disks that share one wait for each other.
func TestDisksSpreadOverAllControllers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		controllers := []esx.Controller{{Key: 1000}, {Key: 1001, Bus: 1}, {Key: 1002, Bus: 2}, {Key: 1003, Bus: 3}}
		count := map[int32]int{1000: 0, 1001: 0, 1002: 0, 1003: 0}
		for _, s := range esx.Allocate(controllers, rapid.IntRange(0, 60).Draw(t, "n")) {
			count[s.Controller]++
		}
		low, high := 60, 0
		for _, n := range count {
			low, high = min(low, n), max(high, n)
		}
		if high-low > 1 {
			t.Fatalf("got %v, want no controller with two more than another", count)
		}
	})
}

func TestAllocateLeavesTheCallersListAlone(t *testing.T) {
	controllers := []esx.Controller{{Key: 1001, Bus: 1, Used: []int32{3}}, {Key: 1000, Used: []int32{0}}}
	esx.Allocate(controllers, 5)
	if controllers[0].Key != 1001 || len(controllers[0].Used) != 1 || len(controllers[1].Used) != 1 {
		t.Errorf("got %+v", controllers)
	}
}
