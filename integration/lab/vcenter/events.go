package vcenter

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// IDs of events that have no type of their own, in the spelling of vCenter, which is not of one mind about the case of "HA".
const (
	eventHostFailed   = "com.vmware.vc.HA.DasHostFailedEvent"
	eventHostIsolated = "com.vmware.vc.HA.DasHostIsolatedEvent"
	eventHostState    = "com.vmware.vc.HA.HostStateChangedEvent"
	eventRestarted    = "com.vmware.vc.ha.VmRestartedByHAEvent"
	eventReverted     = "com.vmware.vc.vm.VmStateRevertedToSnapshot"
)

// Event is something that vCenter wrote into its log.
type Event struct {
	Key  int32     `json:"key"`
	Time time.Time `json:"time"`
	Type string    `json:"type"` // of an EventEx its ID
	VM   string    `json:"vm,omitempty"`
	Host string    `json:"host,omitempty"`
	User string    `json:"user,omitempty"`
	Text string    `json:"text,omitempty"`
}

// journal keeps the events that vcsim forgets: it has the last thousand.
type journal struct {
	mu     sync.Mutex
	events []Event
	unread int // posted since the last look
}

const pageOfEvents = 1000

// Events returns what vCenter wrote into its log since it was started, in order.
func (v *VCenter) Events() []Event {
	v.journal.mu.Lock()
	defer v.journal.mu.Unlock()
	v.readEvents()
	return slices.Clone(v.journal.events)
}

// readEvents copies the events that are new. The caller holds journal.mu.
func (v *VCenter) readEvents() {
	v.journal.unread = 0
	ctx, m := v.context(""), v.reg.EventManager()
	var page []types.BaseEvent
	v.reg.WithLock(ctx, m, func() {
		body, ok := m.QueryEvents(ctx, &types.QueryEvents{This: m.Self, Filter: types.EventFilterSpec{MaxCount: pageOfEvents}}).(*methods.QueryEventsBody)
		if ok && body.Res != nil {
			page = body.Res.Returnval
		}
	})
	last := int32(0)
	if n := len(v.journal.events); n > 0 {
		last = v.journal.events[n-1].Key
	}
	for _, e := range slices.Backward(page) { // newest first
		if e.GetEvent().Key > last {
			v.journal.events = append(v.journal.events, describeEvent(e))
		}
	}
}

func describeEvent(e types.BaseEvent) Event {
	base := e.GetEvent()
	out := Event{
		Key: base.Key, Time: base.CreatedTime, User: base.UserName, Text: base.FullFormattedMessage,
		Type: reflect.TypeOf(e).Elem().Name(),
	}
	if x, ok := e.(*types.EventEx); ok {
		out.Type = x.EventTypeId
	}
	if base.Vm != nil {
		out.VM = base.Vm.Name
	}
	if base.Host != nil {
		out.Host = base.Host.Name
	}
	return out
}

// event posts the event as vCenter would.
func (v *VCenter) event(ctx *simulator.Context, e types.BaseEvent) {
	if x, ok := e.(*types.EventEx); ok && !v.postable(x) {
		x.ObjectType, x.ObjectId, x.ObjectName = v.dc.Type, v.dc.Value, Datacenter // what it is about is gone
	}
	m := v.reg.EventManager()
	v.reg.WithLock(ctx, m, func() { m.PostEvent(ctx, &types.PostEvent{This: m.Self, EventToPost: e}) })
	v.journal.mu.Lock()
	defer v.journal.mu.Unlock()
	if v.journal.unread++; v.journal.unread >= pageOfEvents/2 {
		v.readEvents()
	}
}

// postable says whether the event names an object that is there. vcsim's alarms look it up while they hold the lock of all events, and the
// simulator hangs for ever if it is not.
func (v *VCenter) postable(e *types.EventEx) bool {
	_, ok := v.reg.Get(types.ManagedObjectReference{Type: e.ObjectType, Value: e.ObjectId}).(mo.Entity)
	return ok
}

// where returns what all events say of where they happened.
func (v *VCenter) where() types.Event {
	return types.Event{
		Datacenter:      &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: Datacenter}, Datacenter: v.dc},
		ComputeResource: &types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: Cluster}, ComputeResource: v.cluster.ref},
	}
}

// vmEvent returns what events about the machine have in common.
func (v *VCenter) vmEvent(m machine) types.VmEvent {
	e := types.VmEvent{Event: v.where()}
	e.Vm = &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: m.name}, Vm: m.ref}
	if h, ok := v.reg.Get(m.host).(*simulator.HostSystem); ok {
		e.Host = &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: h.Name}, Host: m.host}
	}
	if ds := v.datastore(datastoreOf(m.config.folder)); ds != nil {
		e.Ds = &types.DatastoreEventArgument{EntityEventArgument: types.EntityEventArgument{Name: ds.Name}, Datastore: ds.Self}
	}
	return e
}

// vmEventf is vmEvent with a text, for types of which vcsim has none.
func (v *VCenter) vmEventf(m machine, format string, args ...any) types.VmEvent {
	e := v.vmEvent(m)
	e.FullFormattedMessage = fmt.Sprintf(format, args...)
	return e
}

// hostEventf returns what events about the host have in common, with a text.
func (v *VCenter) hostEventf(h *host, format string, args ...any) types.HostEvent {
	e := types.HostEvent{Event: v.where()}
	arg := h.argument()
	e.Host = &arg
	e.FullFormattedMessage = fmt.Sprintf(format, args...)
	return e
}

func (h *host) argument() types.HostEventArgument {
	return types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: h.name}, Host: h.ref}
}

// extended returns an event that has an ID in place of a type.
func extended(id, severity string, about types.ManagedObjectReference, name string, e types.Event) *types.EventEx {
	return &types.EventEx{
		Event: e, EventTypeId: id, Severity: severity, Message: e.FullFormattedMessage,
		ObjectType: about.Type, ObjectId: about.Value, ObjectName: name,
	}
}

// announce posts that HA has seen the host fail, and publishes how HA sees each host. The caller holds cluster.mu.
func (v *VCenter) announce(h *host, cause string) {
	ctx := v.context("")
	id, text := eventHostFailed, "vSphere HA detected a host failure: %s in cluster %s"
	if cause == causeLost {
		id, text = eventHostIsolated, "vSphere HA detected that host %s is isolated from cluster %s"
	}
	v.event(ctx, extended(id, string(types.EventEventSeverityError), h.ref, h.name, v.hostEventf(h, text, h.name, Cluster).Event))
	v.showRoles(ctx)
	state := v.cluster.role(h)
	e := extended(eventHostState, string(types.EventEventSeverityInfo), h.ref, h.name,
		v.hostEventf(h, "The vSphere HA availability state of host %s in cluster %s has changed to %s", h.name, Cluster, state).Event)
	e.Arguments = []types.KeyAnyValue{{Key: "newState", Value: state}}
	v.event(ctx, e)
}

// role returns how HA sees the host. The caller holds c.mu.
func (c *cluster) role(h *host) string {
	state := types.ClusterDasFdmAvailabilityStateConnectedToMaster
	switch {
	case h.condition == disconnected:
		state = types.ClusterDasFdmAvailabilityStateUninitialized
	case h.condition != up && !h.due.IsZero():
		state = types.ClusterDasFdmAvailabilityStateFdmUnreachable
	case h.condition == dead:
		state = types.ClusterDasFdmAvailabilityStateHostDown
	case h.condition == isolated:
		state = types.ClusterDasFdmAvailabilityStateNetworkIsolated
	case c.master() == h:
		state = types.ClusterDasFdmAvailabilityStateMaster
	}
	return string(state)
}

func (c *cluster) master() *host {
	for _, h := range c.hosts {
		if h.condition == up && !h.maintenance {
			return h
		}
	}
	return nil
}

// showRoles publishes how HA sees the hosts. The caller holds cluster.mu.
func (v *VCenter) showRoles(ctx *simulator.Context) {
	for _, h := range v.cluster.hosts {
		v.update(ctx, h.ref, types.PropertyChange{
			Name: "runtime.dasHostState", Val: &types.ClusterDasFdmHostState{State: v.cluster.role(h)},
		})
	}
}

// tellRestart posts how an attempt to restart the machine ended.
func (v *VCenter) tellRestart(m machine, h *host, fault types.BaseMethodFault, gaveUp bool) {
	if m.ref.Value == "" {
		return
	}
	ctx := v.context("")
	if fault == nil {
		e := v.vmEventf(m, "vSphere HA restarted virtual machine %s on host %s in cluster %s", m.name, h.name, Cluster)
		v.event(ctx, extended(eventRestarted, string(types.EventEventSeverityWarning), m.ref, m.name, e.Event))
		return
	}
	v.event(ctx, &types.VmFailoverFailed{
		VmEvent: v.vmEventf(m, "vSphere HA unsuccessfully failed over %s to %s in cluster %s: %s", m.name, h.name, Cluster, describe(fault)),
		Reason:  localized(fault),
	})
	if gaveUp {
		v.event(ctx, &types.VmMaxRestartCountReached{
			VmEvent: v.vmEventf(m, "vSphere HA reached the maximum VM restart count for %s: it is not restarted", m.name),
		})
	}
}

// noRoom posts that no host has room for the machine.
func (v *VCenter) noRoom(m machine) {
	const reason = "no connected host has room for it"
	v.event(v.context(""), &types.NotEnoughResourcesToStartVmEvent{
		VmEvent: v.vmEventf(m, "Insufficient resources to fail over %s in %s that resides in %s: %s", m.name, Cluster, Datacenter, reason),
		Reason:  reason,
	})
}

func localized(fault types.BaseMethodFault) *types.LocalizedMethodFault {
	return &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: describe(fault)}
}

// asError returns the fault as an error that still is one for those who ask.
func asError(fault types.BaseMethodFault) error {
	if fault == nil {
		return nil
	}
	return &faultError{fault: fault}
}

// faultError is a fault of the API as an error. [fault.As] and [fault.Is] of govmomi find the fault in it.
type faultError struct{ fault types.BaseMethodFault }

// Error returns the type of the fault and its message.
func (e *faultError) Error() string {
	kind, text := reflect.TypeOf(e.fault).Elem().Name(), describe(e.fault)
	if text == kind {
		return kind
	}
	return kind + ": " + text
}

// Fault returns the fault.
func (e *faultError) Fault() types.BaseMethodFault { return e.fault }
