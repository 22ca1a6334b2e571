package layout_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// GOMAXPROCS is the whole process's: however many calls raise it at the same time, it is in the end what it was.
func TestGOMAXPROCSIsInTheEndWhatItWas(t *testing.T) {
	v := newVictim(t)
	s := open(t, v.Registry)
	all := blobs(scan(t, s))
	before := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := s.Scan(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := s.Rehash(t.Context(), all, layout.Pace{Direct: true}, func(layout.Hashed) {}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("got %d, want %d", after, before)
	}
}
