package plugin_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// G5: at a power-off dockerd has stopped before the plugin. What it did not let go, because it was killed or restores containers live, goes all the same,
// in the same batch; what a process really has open stays, is named, and holds the power-off up for no more than 30 seconds.
func TestG5DrainWithoutADockerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		for _, name := range []mooring.Name{"v1", "v2", "open"} {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r.unmount(t, "v1")
		r.world.set(func() {
			r.world.dead = []ledger.Instance{dockerd(1)}
			r.world.disks["open"].open = true // a container that lives on
		})
		stop()
		begun := time.Now()
		err := r.Drain(t.Context())
		if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "open: open") || took > 30*time.Second {
			t.Errorf("got %v after %s, want the volume named", err, took)
		}
		if n := r.world.count("detach"); n != 1 || r.world.disk("v1").attached || r.world.disk("v2").attached || !r.world.disk("open").attached {
			t.Errorf("drained in %d tasks: %+v", n, r.world.disks)
		}
	})
}

// G5: a process that is just being ended has a disk open for a moment; the drain waits for it.
func TestG5DrainWaitsForAnEndingProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.unmount(t, "db")
		r.world.set(func() { r.world.disks["db"].open = true })
		stop()
		time.AfterFunc(3*time.Second, func() { r.world.set(func() { r.world.disks["db"].open = false }) })
		if err := r.Drain(t.Context()); err != nil || r.world.disk("db").attached {
			t.Errorf("got %v, %+v, want it detached", err, r.world.disk("db"))
		}
	})
}
