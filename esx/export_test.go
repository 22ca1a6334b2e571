package esx

import (
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// What the tests, which live outside the package, see of its inside.

// SetKeepAlive makes the keep-alive run every d; to be called before the first use.
func (s *Session) SetKeepAlive(d time.Duration) { s.keepAliveEvery = d }

// SetRefusalRest makes a refused account rest for d.
func (s *Session) SetRefusalRest(d time.Duration) { s.refusalRest = d }

// SetLinger makes Attach wait up to limit for a disk that another running machine has, and ask every poll.
func (h *Host) SetLinger(limit, poll time.Duration) { h.lingerLimit, h.lingerPoll = limit, poll }

// SetIntent makes Create wait up to limit for another host's unfinished create.
func (h *Host) SetIntent(limit, poll time.Duration) { h.intentLimit, h.intentPoll = limit, poll }

// SetCollect makes a batch wait d for company.
func (h *Host) SetCollect(d time.Duration) { h.collect = d }

// Explain is explain.
var Explain = explain

// ErrSidecar is errSidecar.
var ErrSidecar = errSidecar

// Encode is encodeSidecar, Decode is decodeSidecar.
var (
	Encode = encodeSidecar
	Decode = decodeSidecar
)

// UUIDForms is uuidForms.
var UUIDForms = uuidForms

// SameFile is sameFile.
var SameFile = sameFile

// NewFSUUID is newFSUUID.
var NewFSUUID = newFSUUID

// Differences is differences.
var Differences = differences

// ClassOf returns the name of err's class.
func ClassOf(err error) string {
	return [...]string{
		unforeseen: "unforeseen", busy: "busy", conflict: "conflict", session: "session", refused: "refused", unreachable: "unreachable",
		unknown: "unknown", ask: "ask", storage: "storage", done: "done", permanent: "permanent",
	}[classOf(err)]
}

// Controller and Slot are controller and slot.
type (
	Controller struct {
		Key, Bus int32
		Used     []int32
	}
	Slot struct{ Controller, Unit int32 }
)

// Allocate is allocate.
func Allocate(controllers []Controller, n int) []Slot {
	list := make([]controller, len(controllers))
	for i, c := range controllers {
		list[i] = controller{c.Key, c.Bus, c.Used}
	}
	var slots []Slot
	for _, s := range allocate(list, n) {
		slots = append(slots, Slot{s.controller, s.unit})
	}
	return slots
}

// Plan returns the spec that adds and removes volumes on a machine with those devices, and the errors of those that cannot be added.
func Plan(version string, devices []types.BaseVirtualDevice, add, remove []mooring.Volume) (types.VirtualMachineConfigSpec, []error) {
	var changes []*change
	for _, vol := range remove {
		changes = append(changes, &change{vol: vol, remove: true, done: make(chan struct{})})
	}
	for _, vol := range add {
		changes = append(changes, &change{vol: vol, profile: vol.Profile != "", done: make(chan struct{})})
	}
	spec, _ := plan(parseHardware(version, devices), changes)
	var errs []error
	for _, c := range changes {
		if c.settled() && c.err != nil {
			errs = append(errs, c.err)
		}
	}
	return spec, errs
}

// StillWrites is stillWrites.
func StillWrites(name string, connection types.VirtualMachineConnectionState, power types.VirtualMachinePowerState,
	host types.HostSystemConnectionState, vol mooring.Volume,
) error {
	return stillWrites(machine{name: name, connection: connection, power: power}, host, vol)
}

// HAOf is haOf.
var HAOf = haOf
