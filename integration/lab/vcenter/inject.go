package vcenter

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// injector holds the delays and faults that somebody asked for, by method name as in the API.
type injector struct {
	mu     sync.Mutex
	delays map[string]time.Duration
	faults map[string]*planned
}

type planned struct {
	kind  reflect.Type
	left  int // negative: for ever
	after int // calls that still pass
}

// Delay makes every later call of the method (such as "ReconfigVM_Task", or "PUT" and "GET" of datastore files) take
// d longer: tasks run longer, other calls answer later. Zero ends it.
func (v *VCenter) Delay(method string, d time.Duration) {
	v.faults.mu.Lock()
	defer v.faults.mu.Unlock()
	if v.faults.delays == nil {
		v.faults.delays = map[string]time.Duration{}
	}
	if d <= 0 {
		delete(v.faults.delays, method)
		return
	}
	v.faults.delays[method] = d
}

// Fail makes the next calls of the method fail with the fault of that name (such as "FileLocked"): times of them, or all
// if times is negative, after skip that pass. Tasks fail as tasks, other calls with a SOAP fault, PUT and GET with HTTP status 500.
func (v *VCenter) Fail(method, fault string, times, skip int) error {
	kind, ok := types.TypeFunc()(fault)
	if !ok {
		return fmt.Errorf("fault %q: no such type in the vSphere API", fault)
	}
	if _, ok := reflect.TypeAssert[types.BaseMethodFault](reflect.New(kind)); !ok {
		return fmt.Errorf("fault %q: is a type of the vSphere API, but no fault", fault)
	}
	v.faults.mu.Lock()
	defer v.faults.mu.Unlock()
	if v.faults.faults == nil {
		v.faults.faults = map[string]*planned{}
	}
	v.faults.faults[method] = &planned{kind: kind, left: times, after: skip}
	return nil
}

// Clear ends all delays and faults.
func (v *VCenter) Clear() {
	v.faults.mu.Lock()
	defer v.faults.mu.Unlock()
	clear(v.faults.delays)
	clear(v.faults.faults)
}

// Delays returns the delays in force, by method.
func (v *VCenter) Delays() map[string]time.Duration {
	v.faults.mu.Lock()
	defer v.faults.mu.Unlock()
	return maps.Clone(v.faults.delays)
}

// next returns the fault that this call of the method is to have, or nil.
func (i *injector) next(method string) types.BaseMethodFault {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.faults[method]
	switch {
	case p == nil || p.left == 0:
		return nil
	case p.after > 0:
		p.after--
		return nil
	case p.left > 0:
		p.left--
	}
	fault, _ := reflect.TypeAssert[types.BaseMethodFault](reflect.New(p.kind))
	return withMessage(fault, "lab.injected", "%s was asked for by the lab", p.kind.Name())
}

// delay waits as long as the method is to take, or until the vCenter ends.
func (i *injector) delay(ctx *simulator.Context, method string) {
	i.mu.Lock()
	d := i.delays[method]
	i.mu.Unlock()
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isTask says whether the method answers with a task.
func isTask(method string) bool { return strings.HasSuffix(method, "_Task") }
