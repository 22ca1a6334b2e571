package vcenter

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// queues lets the operations on one managed object wait for each other.
type queues struct {
	mu sync.Mutex
	of map[types.ManagedObjectReference]*queue
}

type queue struct {
	sync.Mutex
	running atomic.Pointer[types.ManagedObjectReference]
}

func (q *queues) get(ref types.ManagedObjectReference) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = map[types.ManagedObjectReference]*queue{}
	}
	if q.of[ref] == nil {
		q.of[ref] = new(queue)
	}
	return q.of[ref]
}

// job is the work of a task. ctx ends with the vCenter, and with the life of the virtual machine that it is about.
type job func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault)

// taskSerial numbers tasks; vCenter's are task-N, the simulator's own tasks of the same registry count for themselves.
type operation struct {
	method string // as in the API: "ReconfigVM_Task"
	entity types.ManagedObjectReference
	queue  bool // waits for other queued operations on the entity
	run    job
}

// start begins a task as vCenter does: the call returns at once, delays and faults happen inside the task. Unlike the
// simulator's tasks it holds no lock on its entity while it works, so that properties can be read meanwhile.
func (v *VCenter) start(caller *simulator.Context, op operation) (types.ManagedObjectReference, types.BaseMethodFault) {
	user := ""
	if caller.Session != nil {
		user = caller.Session.UserName
	}
	ctx := v.context(user)
	t := v.newTask(ctx, op)
	var q *queue
	if op.queue {
		q = v.queues.get(op.entity)
		if v.opts.Busy {
			if !q.TryLock() {
				return types.ManagedObjectReference{}, &types.TaskInProgress{Task: deref(q.running.Load())}
			}
			q.running.Store(&t.Self)
		}
	}
	v.publish(ctx, t)
	v.wg.Go(func() {
		if q != nil {
			if !v.opts.Busy {
				q.Lock()
			}
			defer q.Unlock()
		}
		v.work(ctx, t, op)
	})
	return t.Self, nil
}

func deref(ref *types.ManagedObjectReference) types.ManagedObjectReference {
	if ref == nil {
		return types.ManagedObjectReference{}
	}
	return *ref
}

func (v *VCenter) newTask(ctx *simulator.Context, op operation) *simulator.Task {
	name := strings.TrimSuffix(op.method, "_Task")
	t := &simulator.Task{}
	t.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-lab-%d", v.counts.serial.Add(1))}
	t.Info = types.TaskInfo{
		Key: t.Self.Value, Task: t.Self, Name: op.method,
		DescriptionId: op.entity.Type + "." + strings.ToLower(name[:1]) + strings.Replace(name[1:], "VM", "Vm", 1),
		Entity:        &op.entity, EntityName: op.entity.Value,
		State: types.TaskInfoStateQueued, QueueTime: time.Now(),
		Reason: &types.TaskReasonUser{UserName: ctx.Session.UserName},
	}
	if e, ok := v.reg.Get(op.entity).(mo.Entity); ok {
		t.Info.EntityName = e.Entity().Name
	}
	return t
}

// publish makes the task known. vcsim's TaskManager writes the entity's recentTask then, which is why the entity is locked.
func (v *VCenter) publish(ctx *simulator.Context, t *simulator.Task) {
	if obj, ok := v.reg.Get(*t.Info.Entity).(mo.Entity); ok {
		v.reg.WithLock(ctx, obj, func() { v.reg.Put(t) })
		return
	}
	v.reg.Put(t)
}

// work runs the job and reports how it ended.
func (v *VCenter) work(ctx *simulator.Context, t *simulator.Task, op operation) {
	v.reg.WithLock(ctx, t, func() {
		// As a whole: for somebody who waits for "info", vcsim answers a change of "info.state" by reading the task again without its
		// lock, while we may be writing how it ended.
		info, now := t.Info, time.Now()
		info.StartTime, info.State = &now, types.TaskInfoStateRunning
		ctx.Update(t, []types.PropertyChange{{Name: "info", Val: info}})
	})
	if op.entity.Type == "VirtualMachine" {
		ctx.Context = v.process(op.entity).calls()
	}
	v.faults.delay(ctx, op.method)
	result, fault := types.AnyType(nil), v.faults.next(op.method)
	if fault == nil {
		result, fault = op.run(ctx)
	}
	if fault != nil && ctx.Err() != nil && v.ctx.Err() == nil {
		fault = withMessage(new(types.HostCommunication), "lab.died", "the virtual machine was killed while %s worked on it", op.method)
	}
	v.counts.finished(op.method, fault)
	state, failure := types.TaskInfoStateSuccess, any(nil)
	if fault != nil {
		result, state = nil, types.TaskInfoStateError
		failure = types.LocalizedMethodFault{Fault: fault, LocalizedMessage: describe(fault)}
		v.log.Debug("task failed", "op", op.method, "err", describe(fault))
	}
	v.reg.AtomicUpdate(ctx, t, []types.PropertyChange{
		{Name: "info.completeTime", Val: time.Now()},
		{Name: "info.state", Val: state},
		{Name: "info.result", Val: result},
		{Name: "info.error", Val: failure},
	})
}

// describe returns the text that vCenter would give with the fault: its messages, or its type.
func describe(fault types.BaseMethodFault) string {
	if m := fault.GetMethodFault(); m != nil && len(m.FaultMessage) > 0 {
		return m.FaultMessage[0].Message
	}
	if e, ok := fault.(*types.SystemError); ok {
		return e.Reason
	}
	return reflect.TypeOf(fault).Elem().Name()
}

// withMessage adds to the fault the message in which hosts give the real reason.
func withMessage[F types.BaseMethodFault](fault F, key, format string, args ...any) F {
	m := fault.GetMethodFault()
	m.FaultMessage = append(m.FaultMessage, types.LocalizableMessage{Key: key, Message: fmt.Sprintf(format, args...)})
	return fault
}

// inner waits for a task of the simulator's and returns its fault.
func (v *VCenter) inner(body soap.HasFault, ref types.ManagedObjectReference) types.BaseMethodFault {
	_, fault := v.innerResult(body, ref)
	return fault
}

// innerResult waits for a task of the simulator's and returns what came of it.
func (v *VCenter) innerResult(body soap.HasFault, ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	if f := body.Fault(); f != nil {
		fault, _ := f.VimFault().(types.BaseMethodFault)
		if fault == nil {
			fault = &types.SystemError{Reason: f.String}
		}
		return nil, fault
	}
	t, ok := v.reg.Get(ref).(*simulator.Task)
	if !ok {
		return nil, &types.SystemError{Reason: "no task " + ref.Value}
	}
	t.Wait()
	var result types.AnyType
	var fault types.BaseMethodFault
	v.reg.WithLock(v.context(""), t, func() {
		result = t.Info.Result
		if t.Info.Error != nil {
			fault = t.Info.Error.Fault
		}
	})
	return result, fault
}
