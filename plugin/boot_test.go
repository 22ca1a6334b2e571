package plugin_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

// G8, G19: after an HA restart in which nothing has changed nothing waits for vCenter, here one that takes requests and never answers: neither the start, nor
// what dockerd asks while it starts its containers. What the driver asks in the background is asked of nobody's time.
func TestG19NothingWaitsForVCenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		names := []mooring.Name{"v1", "v2", "v3", "v4"}
		r := newRig(t, newWorld(), dir)
		for _, name := range names {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r = r.reboot(t, dir)
		hang := make(chan struct{})
		r.world.set(func() { r.world.hang, r.world.calls = hang, map[string]int{} })
		begun := time.Now()
		r.start(t)
		all := r.world.count("present")
		calls := 0
		for _, n := range []string{"create", "find", "names", "delete", "set format", "attach", "detach", "machine"} {
			calls += r.world.count(n)
		}
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(2))
		for _, name := range names {
			if _, err := r.Get(t.Context(), name); err != nil {
				t.Error(err)
			}
			r.mount(t, name, "c1", dockerd(2))
		}
		r.unmount(t, "v1") // docker restart
		r.mount(t, "v1", "c1", dockerd(2))
		if n := r.world.count("present") - all; n != 0 {
			t.Errorf("all disks were looked at %d times more than at the start, for %d volumes", n, len(names))
		}
		if took := time.Since(begun); took != 0 || calls != 0 {
			t.Errorf("waited %s for vCenter, and asked it %d times before the driver was ready, want neither", took, calls)
		}
		for _, name := range names {
			if d := r.world.disk(name); !d.mounted || d.formatted != 1 || len(r.holders(t, name)) != 1 {
				t.Errorf("%s: got %+v, holders %v", name, d, r.holders(t, name))
			}
		}
		close(hang)
		stop()
	})
}

// While a restarted machine starts its containers again vCenter is asked for nothing: the first listing comes when Docker's API has answered, or two minutes later. A plugin that
// is started again lists at once.
func TestFirstListingComesAfterTheContainers(t *testing.T) {
	for _, c := range []struct {
		what           string
		reboot, docker bool
		after          time.Duration
	}{
		{"the machine restarted", true, true, time.Second},
		{"the machine restarted, and dockerd did not come", true, false, 2 * time.Minute},
		{"the plugin restarted", false, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, newWorld(), dir)
			r.create(t, "db")
			r.mount(t, "db", "c1", dockerd(1))
			if c.reboot {
				r = r.reboot(t, dir)
			} else {
				r.kill(t)
				r = newRig(t, r.world, dir)
			}
			r.world.set(func() { r.world.calls = map[string]int{} })
			r.start(t)
			stop := r.run(t)
			defer stop()
			if c.docker {
				r.Seen(t.Context(), dockerd(2))
				r.mount(t, "db", "c1", dockerd(2))
			}
			if c.after > 0 {
				<-time.After(c.after - time.Millisecond)
				synctest.Wait()
				if n := r.world.count("names") + r.world.count("machine"); n != 0 {
					t.Errorf("%s: vCenter was asked %d times before %s", c.what, n, c.after)
				}
				<-time.After(time.Millisecond)
			}
			synctest.Wait()
			if n := r.world.count("names"); n != 1 {
				t.Errorf("%s: %d listings after %s, want 1", c.what, n, c.after)
			}
		})
	}
}

// G8: at a boot the kernel makes devices known one after the other. A held disk that is late is waited for: it is not to be asked of vCenter, which may be down.
func TestG8DisksThatAppearLate(t *testing.T) {
	for _, c := range []struct {
		appears, settles time.Duration
	}{{2 * time.Second, 0}, {20 * time.Second, 21 * time.Second}, {time.Minute, time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, newWorld(), dir)
			r.create(t, "db")
			r.mount(t, "db", "c1", dockerd(1))
			r = r.reboot(t, dir)
			r.world.set(func() { r.world.down, r.world.disks["db"].attached, r.world.unsettled = true, false, c.settles > 0 })
			time.AfterFunc(c.appears, func() { r.world.set(func() { r.world.disks["db"].attached = true }) })
			settle := time.AfterFunc(c.settles, func() { r.world.set(func() { r.world.unsettled = false }) })
			defer settle.Stop()
			begun := time.Now()
			r.start(t)
			if took := time.Since(begun); took > 31*time.Second {
				t.Errorf("served after %s", took)
			}
			if d := r.world.disk("db"); !d.mounted && c.appears < 30*time.Second {
				t.Errorf("appears after %s: not mounted before the driver serves", c.appears)
			}
			stop := r.run(t)
			pass(time.Minute + 31*time.Second)
			if d := r.world.disk("db"); !d.mounted || r.world.count("attach") != 1 {
				t.Errorf("appears after %s: got %+v, attached %d times, want it mounted without vCenter", c.appears, d, r.world.count("attach"))
			}
			stop()
		})
	}
}

// G8: nor is a disk that nobody holds, and that is late too, sent away before Docker had time to want it.
func TestG8UnheldDisksThatAppearLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "db")
		r = r.reboot(t, dir)
		r.start(t)
		stop := r.run(t)
		r.world.set(func() { r.world.disks["db"].attached = true })
		pass(10 * time.Minute)
		if d := r.world.disk("db"); !d.attached {
			t.Error("detached before Docker's API answered")
		}
		r.Seen(t.Context(), dockerd(2))
		pass(3 * time.Minute)
		if d := r.world.disk("db"); d.attached {
			t.Error("still attached three minutes after Docker's API answered, and nobody wants it")
		}
		stop()
	})
}

// G8, G14: a check that takes longer than five minutes keeps nobody from the other volumes, and its own volume's Mount joins it.
func TestG8ServesAfterFiveMinutesOfChecking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r = r.reboot(t, dir)
		checking := make(chan struct{})
		r.world.set(func() { r.world.opening = checking })
		begun := time.Now()
		r.start(t)
		if took := time.Since(begun); took != 5*time.Minute {
			t.Errorf("served after %s, want five minutes", took)
		}
		stop := r.run(t)
		ctx, cancel := context.WithTimeout(t.Context(), 110*time.Second)
		_, err := r.Mount(ctx, "db", "c1", dockerd(2))
		cancel()
		if err == nil {
			t.Error("mounted while it is being checked")
		}
		close(checking)
		r.mount(t, "db", "c1", dockerd(2))
		stop()
	})
}

// G5: a disk whose filesystem a person has to repair stays attached, though nobody holds it: the cure names its device. Once it was mounted it goes as any other does.
func TestG5ADamagedVolumeStaysAttachedForItsRepair(t *testing.T) {
	for _, held := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, newWorld(), dir)
			r.create(t, "db")
			r.mount(t, "db", "c1", dockerd(1))
			if !held {
				r.unmount(t, "db")
			}
			r = r.reboot(t, dir)
			damaged := &guest.DamagedError{HintError: &mooring.HintError{Err: mooring.ErrCorrupt, Hint: "e2fsck -f /dev/sdb"}}
			r.world.set(func() { r.world.openErr["db"] = damaged })
			r.start(t)
			stop := r.run(t)
			r.Seen(t.Context(), dockerd(2))
			if _, err := r.Mount(t.Context(), "db", "c1", dockerd(2)); err == nil {
				t.Fatal("a damaged volume was mounted")
			}
			pass(time.Hour)
			if d := r.world.disk("db"); !d.attached {
				t.Errorf("held before: %t: detached, so that nobody can repair it", held)
			}
			if got := r.conditions(t); !slices.Equal(got, []string{"not-mounted"}) {
				t.Errorf("held before: %t: conditions %v, want not-mounted", held, got)
			}
			r.world.set(func() { delete(r.world.openErr, "db") })
			r.mount(t, "db", "c1", dockerd(2))
			r.unmount(t, "db")
			pass(time.Minute)
			if d := r.world.disk("db"); d.attached || len(r.conditions(t)) > 0 {
				t.Errorf("held before: %t: repaired and let go: attached %t, conditions %v", held, d.attached, r.conditions(t))
			}
			stop()
		})
	}
}

// G20: a boot is told in one line for each volume and step, and a plugin that is killed and started again tells nothing twice.
func TestG20WhatHappenedIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		names := []mooring.Name{"v1", "v2", "broken"}
		r := newRig(t, newWorld(), dir)
		for _, name := range names {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r.create(t, "idle")
		r.world.set(func() { r.world.openErr["broken"] = mooring.ErrCorrupt; r.world.disks["idle"].attached = true })
		r = r.reboot(t, dir)
		r.start(t)
		for _, c := range []struct {
			parts []string
			want  int
		}{
			{[]string{"msg=reconcile", "op=restore"}, 3}, {[]string{"msg=restored"}, 2}, {[]string{"msg=restore ", "volume=broken"}, 1}, {nil, 6},
		} {
			if n := r.log.count(c.parts...); n != c.want {
				t.Errorf("%v: logged %d times, want %d: %q", c.parts, n, c.want, r.log.all)
			}
		}
		r.world.set(func() { delete(r.world.openErr, "broken") })
		for _, name := range names {
			r.mount(t, name, "c1", dockerd(2))
		}
		r.run(t)() // ends what the driver does in the background
		for range 30 {
			r.kill(t)
			r = newRig(t, r.world, dir, inBoot2)
			r.start(t)
			r.run(t)()
			if n := r.log.count(); n != 0 {
				t.Fatalf("a start in which nothing happened logs %q", r.log.all)
			}
		}
		for _, name := range names {
			if hs := r.holders(t, name); len(hs) != 1 || hs[0].Count != 1 {
				t.Errorf("%s: got holders %v, want c1 once", name, hs)
			}
		}
		if n := r.world.count("close"); n != 0 {
			t.Errorf("unmounted %d times, want 0", n)
		}
	})
}

// A start in which nothing has happened writes nothing, so that a plugin that is killed again and again wears no disk out and loses nothing.
func TestG2StartWritesNothing(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, newWorld(), dir)
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	r.kill(t)
	before := files(t, dir)
	for range 3 {
		r = newRig(t, r.world, dir)
		r.start(t)
		r.kill(t)
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("the ledger was written: %v, then %v", before, after)
	}
}
