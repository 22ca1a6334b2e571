package esx_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// What vCenter saw of a failover is told in its order: the host that failed, and where HA started the machine again. What was before, what happened to other
// machines, and what is no restart is left out.
func TestRestarts(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	host, ok := v.model.Map().Get(*v.vm.Runtime.Host).(*simulator.HostSystem)
	if !ok {
		t.Fatal("the machine is on no host")
	}
	machine := types.VmEvent{Event: types.Event{
		Vm:   &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: v.vm.Name}, Vm: v.vm.Self},
		Host: &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.Name}, Host: host.Self},
	}}
	another := v.other()
	other := types.VmEvent{Event: types.Event{Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: another.Name}, Vm: another.Self}}}
	failed := types.Event{Host: machine.Host, FullFormattedMessage: "vSphere HA detected a host failure"}
	since := time.Now()
	for _, e := range []types.BaseEvent{
		&types.EventEx{Event: failed, EventTypeId: "com.vmware.vc.HA.DasHostFailedEvent", ObjectType: host.Self.Type, ObjectId: host.Self.Value},
		&types.VmRenamedEvent{VmEvent: machine},
		&types.VmPoweredOnEvent{VmEvent: other},
		&types.EventEx{Event: machine.Event, EventTypeId: "com.vmware.vc.ha.VmRestartedByHAEvent", ObjectType: v.vm.Self.Type, ObjectId: v.vm.Self.Value},
		&types.VmPoweredOnEvent{VmEvent: machine},
	} {
		ctx, m := v.model.Service.Context, v.model.Map().EventManager()
		v.model.Map().WithLock(ctx, m, func() { m.PostEvent(ctx, &types.PostEvent{EventToPost: e}) })
	}
	list, err := h.Restarts(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list {
		got = append(got, s.Type+" "+s.Host)
	}
	want := []string{
		"com.vmware.vc.HA.DasHostFailedEvent " + host.Name, "com.vmware.vc.ha.VmRestartedByHAEvent " + host.Name, "VmPoweredOnEvent " + host.Name,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if list, err = h.Restarts(t.Context(), time.Now().Add(time.Hour)); err != nil || len(list) != 0 {
		t.Errorf("of the future: got %v, %v", list, err)
	}
}
