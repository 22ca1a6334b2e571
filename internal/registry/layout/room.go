package layout

import (
	"runtime"
	"sync"
)

// room is what the calls that are under way have added to GOMAXPROCS.
var room struct { //nolint:gochecknoglobals // GOMAXPROCS is the process's, and so is the account of who raised it
	mu    sync.Mutex
	added int
}

// makeRoom lets n more goroutines run Go code at a time, until what it returns is called. A goroutine in a system call keeps its place until the runtime's monitor has noticed that the call takes
// long, and on a busy machine that takes longer than a disk needs for a read; an idle thread keeps it while nobody lets it run. With places of their own, workers that wait for a disk all wait at the same
// time, and idle ones keep nobody else in this process from running.
func makeRoom(n int) (undo func()) {
	addRoom(n)
	return func() { addRoom(-n) }
}

func addRoom(n int) {
	room.mu.Lock()
	defer room.mu.Unlock()
	room.added += n
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// cores is GOMAXPROCS without that: how many cores this process may use.
func cores() int {
	room.mu.Lock()
	defer room.mu.Unlock()
	return runtime.GOMAXPROCS(0) - room.added
}
