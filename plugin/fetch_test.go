package plugin_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

const (
	thisInstance  = "50110000-0000-4000-8000-0000000000d1"
	cloneBIOS     = "42110000-0000-4000-8000-0000000000d2"
	cloneInstance = "50110000-0000-4000-8000-0000000000d2"
)

// heldAndAbsent returns a driver after a reboot in which the volume db was held before, and its disk is absent.
func heldAndAbsent(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := newRig(t, newWorld(), dir)
	r.world.set(func() { r.world.instance = thisInstance })
	stop := r.run(t)
	pass(time.Second) // the ledger learns whose it is
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	stop()
	r = r.reboot(t, dir)
	r.world.set(func() { r.world.disks["db"].attached = false })
	return r
}

// G18: what was held and is absent is fetched as soon as vCenter is back, by itself. It is said once that it could not be.
func TestG18FetchIsTriedAgainUntilVCenterIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.down = true })
		r.start(t)
		stop := r.run(t)
		pass(5 * time.Minute)
		if got := r.conditions(t); !slices.Equal(got, []string{"not-mounted retried", "vcenter"}) {
			t.Errorf("conditions: got %v, want not-mounted, retried, and vcenter", got)
		}
		if n := r.log.count("msg=restore ", "volume=db"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		if n := r.world.count("machine"); n > 40 {
			t.Errorf("asked vCenter %d times in five minutes", n)
		}
		r.world.set(func() { r.world.down = false })
		pass(31 * time.Second)
		if d := r.world.disk("db"); !d.mounted || d.formatted != 1 {
			t.Errorf("after vCenter came back: got %+v, want it mounted", d)
		}
		if got := r.conditions(t); len(got) != 0 {
			t.Errorf("conditions: got %v, want none", got)
		}
		if n := r.log.count("msg=restored", "volume=db"); n != 1 {
			t.Errorf("logged %d times that it is there, want once", n)
		}
		stop()
	})
}

// G9, G18: a Mount that comes while vCenter is away is not held up by the attempts in the background.
func TestG18MountFindsOutByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.hang = make(chan struct{}) })
		r.start(t)
		stop := r.run(t)
		pass(time.Minute) // an attempt waits for vCenter
		r.world.set(func() { close(r.world.hang); r.world.hang, r.world.down = nil, true })
		begun := time.Now()
		if _, err := r.Mount(t.Context(), "db", "c1", dockerd(2)); err == nil || time.Since(begun) > 0 {
			t.Errorf("mount: got %v after %s, want an error at once", err, time.Since(begun))
		}
		stop()
	})
}

// G17: a volume that another machine took over while this one was off stays there. This machine starts, says who has it, and wants nothing of
// it before a container does, however long that takes.
func TestG17VolumeThatWasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.disks["db"].owner = "docker2" })
		r.start(t)
		stop := r.run(t)
		pass(time.Minute)
		if got := r.conditions(t); !slices.Equal(got, []string{"taken"}) {
			t.Errorf("conditions: got %v, want taken", got)
		}
		if n := r.log.count("level=ERROR", "docker2"); n != 1 {
			t.Errorf("logged %d times who has it, want once", n)
		}
		if hs := r.holders(t, "db"); len(hs) != 0 {
			t.Errorf("holders: got %v, want none of the boot before", hs)
		}
		r.world.set(func() { r.world.disks["db"].owner = "" }) // its containers there are being restarted
		pass(10 * time.Minute)
		if d := r.world.disk("db"); d.attached {
			t.Error("taken back though nobody wants it here")
		}
		r.mount(t, "db", "c1", dockerd(2))
		if got := r.conditions(t); len(got) != 0 {
			t.Errorf("conditions of a mounted volume: got %v, want none", got)
		}
		stop()
	})
}

// G17: a takeover stays one even if the other machine lets go a few seconds after this one's start: its containers there may just be restarting. Only a
// container that wants the volume here waits for that.
func TestG17VolumeThatWasTakenOverIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.disks["db"].owner, r.world.linger = "docker2", 30*time.Second })
		r.start(t)
		stop := r.run(t)
		pass(10 * time.Second)
		r.world.set(func() { r.world.disks["db"].owner = "" })
		pass(10 * time.Minute)
		if d := r.world.disk("db"); d.attached {
			t.Error("taken back though nobody wants it here")
		}
		if got := r.conditions(t); !slices.Equal(got, []string{"taken"}) {
			t.Errorf("conditions: got %v, want taken", got)
		}
		stop()
	})
}

// G7, G18: a lock without an owner in view (a host that was cut off, whose machine runs on) is waited for, never broken.
func TestG18FencedDiskIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.fenced = true })
		r.start(t)
		stop := r.run(t)
		pass(10 * time.Minute)
		if got := r.conditions(t); !slices.Equal(got, []string{"fenced retried"}) {
			t.Errorf("conditions: got %v, want fenced, retried", got)
		}
		r.world.set(func() { r.world.fenced = false })
		pass(31 * time.Second)
		if d := r.world.disk("db"); !d.mounted {
			t.Error("the lock is gone, and the volume is not mounted")
		}
		if n := r.log.count("msg=restore ", "volume=db"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		stop()
	})
}

// G17: a clone or a restored copy that kept its BIOS UUID is known by its instance UUID, which vCenter alone knows: nothing is fetched before it has been asked.
func TestG17CloneWithTheSameBIOSFetchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.instance, r.world.down = cloneInstance, true })
		r.start(t)
		stop := r.run(t)
		pass(time.Minute)
		r.world.set(func() { r.world.down = false })
		attached := r.world.count("attach")
		pass(10 * time.Minute)
		if d := r.world.disk("db"); d.attached || r.world.count("attach") != attached || len(r.holders(t, "db")) != 0 {
			t.Errorf("on a clone: got %+v, holders %v", d, r.holders(t, "db"))
		}
		if got := r.conditions(t); !slices.Equal(got, []string{"machine-changed"}) {
			t.Errorf("conditions: got %v, want machine-changed", got)
		}
		stop()
	})
}

// G17: while two machines with one BIOS UUID run, vCenter cannot say which of them this is. Nothing is fetched, and the reason is shown.
func TestG17TwoMachinesWithOneBIOSFetchNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := heldAndAbsent(t)
		r.world.set(func() { r.world.machineErr = fmt.Errorf("of 2 that have it, 2 run: %w", mooring.ErrInvalid) })
		attached := r.world.count("attach")
		r.start(t)
		stop := r.run(t)
		pass(10 * time.Minute)
		if n := r.world.count("attach") - attached; n != 0 {
			t.Errorf("attached %d times, want 0", n)
		}
		if got := r.conditions(t); !slices.Contains(got, "machine-unclear") {
			t.Errorf("conditions: got %v, want machine-unclear among them", got)
		}
		stop()
	})
}

// G17: a ledger from before the volume was formatted (the machine was reverted to a snapshot, or restored) does not allow mkfs, with vCenter and without.
func TestG17OldLedgerFormatsNothing(t *testing.T) {
	for _, down := range []bool{false, true} {
		r := newRig(t, newWorld(), t.TempDir())
		r.create(t, "db")
		old, err := r.ledger.Find("db")
		if err != nil {
			t.Fatal(err)
		}
		r.mount(t, "db", "c1", dockerd(1))
		r.world.set(func() { r.world.disks["db"].mounted, r.world.down = false, down })
		old.Holders = []ledger.Holder{{ID: "c0", Count: 1, Boot: "boot-0"}}
		if err := r.ledger.Put(old); err != nil {
			t.Fatal(err)
		}
		r.start(t)
		if d := r.world.disk("db"); !d.mounted || d.formatted != 1 || len(r.world.violations) > 0 {
			t.Errorf("vCenter down %t: got %+v, %v, want it mounted and formatted once", down, d, r.world.violations)
		}
	}
}

// G17: a volume that was removed and made anew by another machine is the new one, also where the ledger still knows the old.
func TestG17VolumeThatWasMadeAnewElsewhere(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	r.unmount(t, "db")
	const anew = mooring.DiskID("6000c29a-0000-0000-0000-00000000ffff")
	r.world.set(func() {
		vol := r.world.disks["db"].vol
		vol.Disk, vol.Format = anew, mooring.FormatNone
		r.world.disks["db"] = &disk{vol: vol}
	})
	r.mount(t, "db", "c1", dockerd(1))
	if rec, err := r.ledger.Find("db"); err != nil || rec.Volume.Disk != anew || r.world.disk("db").formatted != 1 {
		t.Errorf("got %+v, %v, want the new disk", rec, err)
	}
	// Without a sidecar that vouches for it, it is a stranger's.
	r.unmount(t, "db")
	r.world.set(func() {
		vol := r.world.disks["db"].vol
		vol.Disk, vol.Format = otherDisk, mooring.FormatUnknown
		r.world.disks["db"] = &disk{vol: vol}
	})
	if _, err := r.Mount(t.Context(), "db", "c1", dockerd(1)); err == nil {
		t.Error("a disk that nobody vouches for was mounted")
	}
}

// G5, G17: a disk that is attached, and that a ledger from before its volume was made does not know, is recognised and detached.
func TestG17DiskThatAnOldLedgerLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		for _, name := range []mooring.Name{"lacking", "theirs"} {
			if _, err := r.world.Create(t.Context(), mooring.Spec{Name: name}, mooring.Given{}); err != nil {
				t.Fatal(err)
			}
		}
		r.world.set(func() { r.world.disks["lacking"].attached = true })
		r.start(t)
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(1))
		pass(3 * time.Minute)
		if d := r.world.disk("lacking"); d.attached {
			t.Error("it stays attached, and nobody holds it")
		}
		if n := r.world.count("find"); n != 1 {
			t.Errorf("looked up %d volumes, want the one that is attached", n)
		}
		stop()
	})
}
