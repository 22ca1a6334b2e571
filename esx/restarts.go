package esx

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// What vCenter calls the ends and beginnings of a machine, and the failures of hosts as HA sees them. Those with a dot have no type of their own; vCenter is not
// of one mind about the case of "HA".
func restartEvents() (ofMachine, ofHosts []string) {
	ofMachine = []string{
		"com.vmware.vc.ha.VmRestartedByHAEvent", "com.vmware.vc.HA.VmRestartedByHAEvent", "VmFailoverFailed",
		"VmPoweredOnEvent", "VmPoweredOffEvent", "VmResettingEvent", "VmGuestRebootEvent", "VmGuestShutdownEvent",
	}
	ofHosts = []string{"com.vmware.vc.HA.DasHostFailedEvent", "com.vmware.vc.ha.DasHostFailedEvent", "com.vmware.vc.HA.DasHostIsolatedEvent"}
	return ofMachine, ofHosts
}

const maxEvents = 100 // of each query

// Restarts returns what vCenter wrote since then about ends and beginnings of our virtual machine, and about failures of hosts of its cluster, the oldest first. Where
// the account does not see the cluster, nothing is said of hosts.
func (h *Host) Restarts(ctx context.Context, since time.Time) ([]mooring.Sighting, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	machine, hosts := restartEvents()
	list, err := h.events(ctx, p, p.vm.Self, types.EventFilterSpecRecursionOptionSelf, since, machine)
	if err != nil {
		return nil, fmt.Errorf("read the events of %s: %w", p.vm.Name, err)
	}
	var vm mo.VirtualMachine
	if _, err := h.lenient(ctx, p.client, p.vm.Self, []string{"runtime.host", "resourcePool"}, &vm); err != nil {
		return nil, err
	}
	if cluster := h.computeOf(ctx, p, vm); cluster != nil {
		more, err := h.events(ctx, p, *cluster, types.EventFilterSpecRecursionOptionAll, since, hosts)
		if err != nil {
			h.log.Debug("read the events of hosts", "err", err)
		}
		list = append(list, more...)
	}
	slices.SortStableFunc(list, func(a, b mooring.Sighting) int { return a.At.Compare(b.At) })
	return list, nil
}

// events reads the events of the kinds that are about the object.
func (h *Host) events(
	ctx context.Context, p *place, about types.ManagedObjectReference, how types.EventFilterSpecRecursionOption, since time.Time, kinds []string,
) ([]mooring.Sighting, error) {
	filter := types.EventFilterSpec{
		Entity: &types.EventFilterSpecByEntity{Entity: about, Recursion: how}, Time: &types.EventFilterSpecByTime{BeginTime: &since},
		EventTypeId: kinds, MaxCount: maxEvents,
	}
	var found []types.BaseEvent
	err := read(ctx, func() (err error) {
		found, err = event.NewManager(p.client).QueryEvents(ctx, filter)
		return err
	})
	list := make([]mooring.Sighting, 0, len(found))
	for _, e := range found {
		list = append(list, sighting(e))
	}
	return list, err
}

func sighting(e types.BaseEvent) mooring.Sighting {
	base := e.GetEvent()
	s := mooring.Sighting{At: base.CreatedTime, Type: reflect.TypeOf(e).Elem().Name(), Text: base.FullFormattedMessage}
	if x, ok := e.(*types.EventEx); ok {
		s.Type = x.EventTypeId
	}
	if base.Host != nil {
		s.Host = base.Host.Name
	}
	return s
}
