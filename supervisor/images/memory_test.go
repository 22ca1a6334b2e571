package images_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watchMemory looks at the memory that is in use, again and again, until the test ends. What it returns is the most since the last call.
func watchMemory(t *testing.T) func() uint64 {
	t.Helper()
	runtime.GC()
	var most atomic.Uint64
	look := func() {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		most.Store(max(most.Load(), s.HeapInuse)) // off by a tick if two look at once
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
	return func() uint64 {
		look()
		got := most.Load()
		runtime.GC()
		most.Store(0)
		return got
	}
}
