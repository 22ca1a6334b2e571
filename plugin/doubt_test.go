package plugin_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
)

// G12: the plugin dies while docker cp mounts. dockerd repeats the mount without its body, takes the refusal for a failed mount, and
// unmounts with the ID of the container, which runs on.
func TestG12UnmountOfAMountThatNeverSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(1))
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.running = map[mooring.Name][]string{"db": {"web"}} })
		ask(t, r.Handler(), "VolumeDriver.Mount", "")
		r.unmount(t, "db")
		pass(time.Minute)
		if d := r.world.disk("db"); !d.mounted || len(r.holders(t, "db")) != 1 {
			t.Errorf("the container runs on: got %+v, holders %v", d, r.holders(t, "db"))
		}
		r.world.set(func() { r.world.running = nil })
		r.unmount(t, "db")
		if d := r.world.disk("db"); d.mounted || len(r.holders(t, "db")) != 0 {
			t.Errorf("after its own unmount: got %+v, holders %v", d, r.holders(t, "db"))
		}
		stop()
	})
}

// G12: the same after a mount that failed in the driver; and when the container stops within that time, the volume is let go all the same.
func TestG12UnmountAfterAFailedMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(1))
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.openErr["db"] = mooring.ErrCorrupt })
		if _, err := r.Mount(t.Context(), "db", "c1", dockerd(1)); !errors.Is(err, mooring.ErrCorrupt) {
			t.Fatalf("mount: got %v", err)
		}
		r.unmount(t, "db")
		if hs := r.holders(t, "db"); len(hs) != 1 {
			t.Errorf("in doubt: got %v, want c1", hs)
		}
		pass(12 * time.Second)
		if d := r.world.disk("db"); d.mounted || d.attached || len(r.holders(t, "db")) != 0 {
			t.Errorf("no container runs: got %+v, holders %v", d, r.holders(t, "db"))
		}
		stop()
	})
}

// A removal that follows an unmount in doubt waits for Docker's API instead of refusing.
func TestRemovalWaitsWhileInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(1))
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		ask(t, r.Handler(), "VolumeDriver.Mount", "")
		r.unmount(t, "db")
		begun := time.Now()
		if err := r.Remove(t.Context(), "db"); err != nil || time.Since(begun) > time.Second {
			t.Errorf("remove: got %v after %s", err, time.Since(begun))
		}
		stop()
	})
}

// An answer of Docker's says how things were when it was asked: a container that ended, and was unmounted, before it came is no holder. On a busy machine the
// answer takes seconds, and whoever removes container and volume just after an upgrade was refused.
func TestRemovalAfterAnAnswerThatIsOutOfDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.kill(t)
		r = newRig(t, r.world, dir)
		slow := make(chan struct{})
		r.world.set(func() { r.world.running, r.world.answering = map[mooring.Name][]string{"db": {"web"}}, slow })
		r.start(t)
		stop := r.run(t)
		pass(2 * time.Second) // Docker is asked, and has not answered yet
		r.world.set(func() { r.world.running, r.world.answering = nil, nil })
		r.unmount(t, "db")
		close(slow)
		synctest.Wait()
		if err := r.Remove(t.Context(), "db"); err != nil {
			t.Errorf("remove: got %v, and its container is gone", err)
		}
		stop()
	})
}

// G5, G12: an unmount that was lost with the plugin never comes again. What no running container uses two minutes after is let go; what
// was mounted since is not.
func TestG12UnmountLostWithThePlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		for _, name := range []mooring.Name{"lost", "lives", "again"} {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r.mount(t, "lives", "c1", dockerd(1)) // docker cp, whose unmount was lost
		r.kill(t)
		r = newRig(t, r.world, dir)
		r.world.set(func() { r.world.running = map[mooring.Name][]string{"lives": {"web"}} })
		r.start(t)
		stop := r.run(t)
		pass(time.Minute)
		r.mount(t, "again", "c1", dockerd(1))
		if len(r.holders(t, "lost")) != 1 {
			t.Error("let go after a minute: its container may be starting")
		}
		pass(2 * time.Minute)
		if d := r.world.disk("lost"); d.attached || len(r.holders(t, "lost")) != 0 {
			t.Errorf("lost: got %+v, holders %v", d, r.holders(t, "lost"))
		}
		held := func(when string, name mooring.Name, count int) {
			if hs := r.holders(t, name); len(hs) != 1 || hs[0].Count != count || !r.world.disk(name).mounted {
				t.Errorf("%s %s: got %v, want c1 %d times", when, name, hs, count)
			}
		}
		held("after three minutes", "lives", 1)
		held("after three minutes", "again", 2)
		r.world.set(func() { r.world.running = map[mooring.Name][]string{"lives": {"web"}, "again": {"db"}} })
		pass(2 * time.Minute)
		held("after five minutes", "again", 1)
		stop()
	})
}

// G12: with live restore a container outlives its dockerd. A docker cp by the new one, before its API has said so, unmounts with the container's ID.
func TestG12CopyAfterLiveRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.running = map[mooring.Name][]string{"db": {"web"}} })
		r.Seen(t.Context(), dockerd(2))
		r.mount(t, "db", "c1", dockerd(2))
		r.unmount(t, "db")
		pass(time.Minute)
		if hs := r.holders(t, "db"); len(hs) != 1 || hs[0].Dockerd != dockerd(2) || !r.world.disk("db").mounted {
			t.Errorf("the container lives: got holders %v, %+v", hs, r.world.disk("db"))
		}
		stop()
	})
}
