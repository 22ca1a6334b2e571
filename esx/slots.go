package esx

import (
	"cmp"
	"slices"
)

const (
	// maxControllers is how many SCSI controllers a virtual machine may have.
	maxControllers = 4
	// maxUnit is the last unit that every PVSCSI controller has; newer virtual hardware has up to 64, older refuses them.
	maxUnit = 15
	// ownUnit is the controller's own.
	ownUnit = 7
	// unitsPerController is how many disks fit on one controller.
	unitsPerController = maxUnit
)

// controller is a PVSCSI controller with the units that are taken, which may lie beyond those that we use.
type controller struct {
	key  int32
	bus  int32
	used []int32
}

// slot is a place for a disk.
type slot struct {
	controller int32
	unit       int32
}

// allocate returns up to n free places, each on the controller that then has the fewest disks, so that they spread over the queues of all
// controllers. It returns fewer if there are no more, and changes nothing. govmomi's own allocator panics on units from 30 on.
func allocate(controllers []controller, n int) []slot {
	work := make([]controller, len(controllers))
	for i, c := range controllers {
		work[i] = controller{c.key, c.bus, slices.Clone(c.used)}
	}
	slots := make([]slot, 0, n)
	for len(slots) < n {
		slices.SortStableFunc(work, func(a, b controller) int {
			return cmp.Or(cmp.Compare(len(a.used), len(b.used)), cmp.Compare(a.bus, b.bus))
		})
		i := slices.IndexFunc(work, func(c controller) bool { _, ok := c.free(); return ok })
		if i < 0 {
			break
		}
		unit, _ := work[i].free()
		work[i].used = append(work[i].used, unit)
		slots = append(slots, slot{work[i].key, unit})
	}
	return slots
}

// free returns the lowest unit that is not taken.
func (c controller) free() (int32, bool) {
	for unit := range int32(maxUnit + 1) {
		if unit != ownUnit && !slices.Contains(c.used, unit) {
			return unit, true
		}
	}
	return 0, false
}

// newControllers returns controllers for the buses that have none, with negative keys as devices that are to be made have. taken are the buses of
// all SCSI controllers, of whichever kind.
func newControllers(taken []int32) []controller {
	var list []controller
	for bus := range int32(maxControllers) {
		if !slices.Contains(taken, bus) {
			list = append(list, controller{key: -1 - bus, bus: bus})
		}
	}
	return list
}
