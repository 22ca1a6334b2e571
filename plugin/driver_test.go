package plugin_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/plugin"
)

// G1: Get answers from the ledger, whatever vCenter does; a name that nobody here was told of is looked up.
func TestG1GetAnswersWithoutVCenter(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	if _, err := r.world.Create(t.Context(), mooring.Spec{Name: "theirs"}, mooring.Given{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), "theirs"); err != nil {
		t.Errorf("get another host's volume: %v", err)
	}
	r.world.set(func() { r.world.down = true })
	before := r.world.count("find")
	for _, name := range []mooring.Name{"db", "theirs"} {
		if _, err := r.Get(t.Context(), name); err != nil {
			t.Errorf("get %s with vCenter down: %v", name, err)
		}
	}
	if n := r.world.count("find") - before; n != 0 {
		t.Errorf("get asked vCenter %d times, want 0", n)
	}
	if _, err := r.Get(t.Context(), "none"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("get of a name that never was: got %v, want ErrNotFound", err)
	}
}

func TestCreateIsIdempotentAndNamesDifferences(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.create(t, "db")
	if n := r.world.count("create"); n != 1 {
		t.Errorf("created %d times, want once", n)
	}
	spec, given, err := plugin.ParseOptions("db", map[string]string{"size": "20gb", "fstype": "ext4", "vsan-policy-name": "SW=2"})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Create(t.Context(), spec, given)
	if !errors.Is(err, mooring.ErrExists) || !strings.Contains(err.Error(), "size is 10gb, not 20gb, vsan-policy-name is not set, not SW=2") {
		t.Errorf("create with other options: got %v", err)
	}
}

// G3, G12: two containers that start at once on one new volume format it once, and both hold it.
func TestTwoMountsAtOnceFormatOnce(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	done := make(chan error)
	for _, id := range []mooring.MountID{"c1", "c2"} {
		go func() { _, err := r.Mount(t.Context(), "db", id, dockerd(1)); done <- err }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if d := r.world.disk("db"); d.formatted != 1 {
		t.Errorf("formatted %d times, want once", d.formatted)
	}
	if hs := r.holders(t, "db"); len(hs) != 2 {
		t.Errorf("holders: got %v, want two", hs)
	}
}

// G5: after the last holder the disk lingers, so that a restart costs no task, and then goes.
func TestG5DiskLingersThenGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.unmount(t, "db")
		pass(9 * time.Second)
		r.mount(t, "db", "c1", dockerd(1))
		if n := r.world.count("attach"); n != 1 {
			t.Errorf("a restart cost %d attaches, want 1 in all", n)
		}
		pass(time.Minute)
		if d := r.world.disk("db"); !d.attached || !d.mounted {
			t.Errorf("a held volume was let go: %+v", d)
		}
		r.unmount(t, "db")
		if d := r.world.disk("db"); d.mounted || !d.attached {
			t.Errorf("after the last holder: got %+v, want unmounted and attached", d)
		}
		pass(12 * time.Second)
		if d := r.world.disk("db"); d.attached {
			t.Error("the disk lingers for ever")
		}
		stop()
	})
}

// G5: disks that are due together are detached in one task.
func TestG5DetachesInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		for _, name := range []mooring.Name{"v1", "v2", "v3"} {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		for _, name := range []mooring.Name{"v1", "v2", "v3"} {
			r.unmount(t, name)
		}
		pass(15 * time.Second)
		if n := r.world.count("detach"); n != 1 {
			t.Errorf("detached in %d tasks, want 1", n)
		}
		stop()
	})
}

// G4: what another mount namespace has open is not detached; after five minutes that is reported, and it goes when it is free.
func TestG4BusyDiskStaysAndIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.disks["db"].open = true })
		r.unmount(t, "db")
		pass(4 * time.Minute)
		if got := r.conditions(t); len(got) != 0 {
			t.Errorf("reported after four minutes: %v", got)
		}
		pass(2 * time.Minute)
		if got := r.conditions(t); len(got) != 1 || got[0] != "busy" {
			t.Errorf("conditions: got %v, want busy", got)
		}
		if d := r.world.disk("db"); !d.attached {
			t.Error("a busy disk was detached")
		}
		r.world.set(func() { r.world.disks["db"].open = false })
		pass(5 * time.Second)
		if d := r.world.disk("db"); d.attached || len(r.conditions(t)) != 0 {
			t.Errorf("a disk that is free again: got %+v, conditions %v", d, r.conditions(t))
		}
		stop()
	})
}

// G4: an unmount that fails is an error and detaches nothing.
func TestG4FailedUnmountDetachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.closeErr = mooring.ErrInUse })
		if err := r.Unmount(t.Context(), "db", "c1"); !errors.Is(err, mooring.ErrInUse) {
			t.Errorf("unmount: got %v, want ErrInUse", err)
		}
		pass(time.Minute)
		if d := r.world.disk("db"); !d.attached || r.world.count("detach") != 0 {
			t.Errorf("after a failed unmount: got %+v", d)
		}
		stop()
	})
}

// G6: a volume that somebody holds is not removed; one that only lingers is detached first.
func TestG6RemoveRefusesHeldVolume(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	err := r.Remove(t.Context(), "db")
	var hint *mooring.HintError
	if !errors.Is(err, mooring.ErrInUse) || !errors.As(err, &hint) || !strings.Contains(hint.Hint, "docker ps") {
		t.Errorf("remove: got %v, want ErrInUse with a hint", err)
	}
	r.unmount(t, "db")
	if err := r.Remove(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), "db"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("get after remove: got %v, want ErrNotFound", err)
	}
}

// G7: a disk that another machine has: the error names it, and nothing is recorded.
func TestG7DiskOfAnotherMachine(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.world.set(func() { r.world.disks["db"].owner = "docker2" })
	_, err := r.Mount(t.Context(), "db", "c1", dockerd(1))
	if !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), "docker2") {
		t.Errorf("mount: got %v, want ErrInUse naming docker2", err)
	}
	if hs := r.holders(t, "db"); len(hs) != 0 {
		t.Errorf("holders: got %v, want none", hs)
	}
	if err := r.Remove(t.Context(), "db"); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("remove: got %v, want ErrInUse", err)
	}
}

// G9: what is attached starts, stops and restarts while vCenter is down; the rest says so.
func TestG9VCenterDown(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.create(t, "web")
	r.mount(t, "db", "c1", dockerd(1))
	r.world.set(func() { r.world.down = true })
	r.unmount(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	if _, err := r.Mount(t.Context(), "web", "c2", dockerd(1)); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("mount of a detached volume: got %v, want ErrUnavailable", err)
	}
	if got := r.conditions(t); !slices.Equal(got, []string{"vcenter"}) {
		t.Errorf("conditions: got %v, want vcenter at once", got)
	}
	r.world.set(func() { r.world.down = false })
	r.mount(t, "web", "c2", dockerd(1))
}

// G14: dockerd gets its answer before it gives up, with how far the work has come; the work goes on, and the next Mount joins it.
func TestG14SlowCheckIsAnsweredAndJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		r.create(t, "db")
		r.world.opening = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), 110*time.Second)
		_, err := r.Mount(ctx, "db", "c1", dockerd(1))
		cancel()
		if !errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), "checking, 30 %") {
			t.Errorf("slow mount: got %v, want how far it has come", err)
		}
		if hs := r.holders(t, "db"); len(hs) != 0 {
			t.Errorf("holders: got %v, want none: nobody took the answer", hs)
		}
		second := make(chan error)
		go func() { _, err := r.Mount(t.Context(), "db", "c2", dockerd(1)); second <- err }()
		synctest.Wait()
		close(r.world.opening)
		if err := <-second; err != nil {
			t.Errorf("second mount: %v", err)
		}
		if d := r.world.disk("db"); d.formatted != 1 {
			t.Errorf("formatted %d times, want once", d.formatted)
		}
		if hs := r.holders(t, "db"); len(hs) != 1 || hs[0] != (ledger.Holder{ID: "c2", Count: 1, Boot: "boot-1", Dockerd: dockerd(1)}) {
			t.Errorf("holders: got %v, want c2", hs)
		}
	})
}

// G3: a container that has the root of an adopted volume may write what looks like the mark. It must not change what Docker gets.
func TestG3RootThatWasHandedOutStaysTheRoot(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	rec, err := r.ledger.Find("db")
	if err != nil {
		t.Fatal(err)
	}
	rec.Root = true
	if err := r.ledger.Put(rec); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Mount(t.Context(), "db", "c1", dockerd(1)); !errors.Is(err, mooring.ErrCorrupt) {
		t.Errorf("mount: got %v, want ErrCorrupt", err)
	}
	if d := r.world.disk("db"); d.mounted {
		t.Error("it stays mounted")
	}
}
