package layout

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onIdleThread runs work on a thread of SCHED_IDLE that nothing else ever runs on: it is locked, so the runtime starts no thread from it that would inherit the policy, and it is never unlocked, so it
// ends with the goroutine. A kernel that refuses the policy leaves the thread as it is.
func (r *rehash) onIdleThread(work func()) {
	runtime.LockOSThread()
	tid := unix.Gettid()
	if tid == unix.Getpid() { // the main thread never ends: it is kept from running work, which then runs elsewhere
		defer runtime.UnlockOSThread()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.onIdleThread(work)
		}()
		<-ended
		return
	}
	if setPolicy(tid, unix.SCHED_IDLE) == nil {
		r.enlist(tid)
		defer r.strike(tid) // its number may be another thread's soon
	}
	work()
}

func (r *rehash) enlist(tid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.threads[tid] = true
}

func (r *rehash) strike(tid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.threads, tid)
}

// hurry lets the idle workers run like any other thread: on a busy machine they would not come to see that they have to end.
func (r *rehash) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for tid := range r.threads {
		_ = setPolicy(tid, unix.SCHED_NORMAL) // refused: then the worker ends as soon as it gets a moment
	}
}

// setPolicy changes a thread's policy and leaves its nice value.
func setPolicy(tid int, policy uint32) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return err
	}
	attr.Policy = policy
	return unix.SchedSetAttr(tid, attr, 0)
}

// mincore is mincore(2): one byte for each page of a mapping, whose lowest bit says that it is in memory.
func mincore(mapping, resident []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapping[0])), uintptr(len(mapping)), uintptr(unsafe.Pointer(&resident[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
