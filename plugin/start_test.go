package plugin_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/plugin"
)

// reboot returns a driver on the same world and ledger in a new boot: nothing is mounted, and the disks are where they were.
func (r *rig) reboot(t *testing.T, dir string, change ...func(*plugin.Settings)) *rig {
	t.Helper()
	r.kill(t)
	r.world.set(func() {
		for _, d := range r.world.disks {
			d.mounted = false
		}
	})
	return newRig(t, r.world, dir, append([]func(*plugin.Settings){inBoot2}, change...)...)
}

// inBoot2 is the boot after the first.
func inBoot2(s *plugin.Settings) { s.Boot = "boot-2" }

// files returns the ledger's files with when they were written.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != "lock" {
			list = append(list, e.Name()+" "+info.ModTime().String())
		}
	}
	return list
}

// kill ends the driver as SIGKILL would: nothing is unmounted or let go.
func (r *rig) kill(t *testing.T) {
	t.Helper()
	if err := r.ledger.Close(); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// G8: after an HA restart what was held and is present is mounted before the driver serves, with vCenter down; its old holders are
// void, and it stays for two minutes after Docker's API has answered.
func TestG8RestoresWithoutVCenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r = r.reboot(t, dir)
		r.world.set(func() { r.world.down, r.world.dockerDown = true, true })
		r.start(t)
		if d := r.world.disk("db"); !d.mounted || d.formatted != 1 {
			t.Errorf("after the restart: got %+v, want mounted and formatted once", d)
		}
		if hs := r.holders(t, "db"); len(hs) != 0 {
			t.Errorf("holders: got %v, want none of the boot before", hs)
		}
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(2))
		pass(10 * time.Minute)
		if d := r.world.disk("db"); !d.mounted {
			t.Error("let go before Docker's API answered")
		}
		r.world.set(func() { r.world.down, r.world.dockerDown = false, false })
		pass(time.Minute)
		if d := r.world.disk("db"); !d.mounted {
			t.Error("let go within two minutes of Docker's API answering")
		}
		pass(2 * time.Minute)
		if d := r.world.disk("db"); d.mounted || d.attached {
			t.Errorf("nobody wants it: got %+v, want detached", d)
		}
		stop()
	})
}

// G8: disks that are absent are attached once the driver is ready, and a volume that cannot be restored keeps no other one down.
func TestG8FetchesAbsentDisksAndReportsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		for _, name := range []mooring.Name{"absent", "damaged", "whole"} {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r.world.set(func() {
			r.world.disks["absent"].attached = false
			r.world.openErr["damaged"] = mooring.ErrCorrupt
		})
		r = r.reboot(t, dir)
		r.start(t)
		r.mount(t, "absent", "c1", dockerd(2)) // joins the work
		if d := r.world.disk("whole"); !d.mounted {
			t.Error("a damaged volume keeps a whole one down")
		}
		if got := r.conditions(t); !slices.Equal(got, []string{"not-mounted"}) {
			t.Errorf("conditions: got %v, want not-mounted", got)
		}
		if n := r.world.count("attach"); n != 4 {
			t.Errorf("attached %d times, want 4: three mounts, one fetch", n)
		}
	})
}

// G5: what a killed plugin left attached without a holder goes; what it left held stays.
func TestG5LeftoversOfAKilledPlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "left")
		r.create(t, "held")
		r.mount(t, "held", "c1", dockerd(1))
		stop := r.run(t)
		r.world.set(func() { r.world.running = map[mooring.Name][]string{"held": {"web"}} })
		r.Seen(t.Context(), dockerd(1))
		pass(3 * time.Minute) // the boot is long over
		stop()
		r.kill(t)
		r.world.set(func() { r.world.disks["left"].attached = true })
		r = newRig(t, r.world, dir)
		r.start(t)
		stop = r.run(t)
		pass(12 * time.Second)
		if d := r.world.disk("left"); d.attached {
			t.Error("a leftover stays attached")
		}
		r.world.set(func() { r.world.disks["left"].attached = true }) // a task that outlived the plugin
		pass(time.Minute)
		if d := r.world.disk("left"); d.attached {
			t.Error("a late leftover stays attached")
		}
		if d := r.world.disk("held"); !d.mounted || len(r.holders(t, "held")) != 1 {
			t.Errorf("a held volume: got %+v", d)
		}
		stop()
	})
}

// G5: on a clone, the ledger's holders are void and nothing is attached ahead.
func TestG5CloneAttachesNothing(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, newWorld(), dir)
	r.create(t, "db")
	r.mount(t, "db", "c1", dockerd(1))
	r.world.set(func() { r.world.disks["db"].attached = false })
	r = r.reboot(t, dir, func(s *plugin.Settings) { s.Moved, s.BIOS = true, cloneBIOS })
	r.start(t)
	r.Drain(t.Context()) //nolint:errcheck // nothing to detach
	if d := r.world.disk("db"); d.attached || len(r.holders(t, "db")) != 0 {
		t.Errorf("on a clone: got %+v, holders %v", d, r.holders(t, "db"))
	}
	if got := r.ledger.VM().BIOS; got != cloneBIOS {
		t.Errorf("the ledger is that of %q, want the clone's from now on", got)
	}
}

// G12: after dockerd was killed its holders stay until the new one's API answers; then those go whose containers do not run.
func TestG12HoldersOfAKilledDockerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		for _, name := range []mooring.Name{"lives", "died", "again"} {
			r.create(t, name)
			r.mount(t, name, "c-"+mooring.MountID(name), dockerd(1))
		}
		r.world.set(func() { r.world.dockerDown = true; r.world.running = map[mooring.Name][]string{"lives": {"web"}} })
		r.Seen(t.Context(), dockerd(2))
		r.mount(t, "again", "c-again", dockerd(2)) // restart: always
		pass(time.Minute)
		if hs := r.holders(t, "died"); len(hs) != 1 {
			t.Errorf("before the API answers: got %v, want c-died", hs)
		}
		r.world.set(func() { r.world.dockerDown = false })
		pass(20 * time.Second)
		if d := r.world.disk("died"); d.attached || len(r.holders(t, "died")) != 0 {
			t.Errorf("a volume whose container died: got %+v, holders %v", d, r.holders(t, "died"))
		}
		for name, from := range map[mooring.Name]ledger.Instance{"lives": dockerd(2), "again": dockerd(2)} {
			if hs := r.holders(t, name); len(hs) != 1 || hs[0].Dockerd != from || !r.world.disk(name).mounted {
				t.Errorf("%s: got %v", name, hs)
			}
		}
		stop()
	})
}

// At a power-off all that nobody holds is detached in one batch, at an upgrade nothing is.
func TestDrainDetachesWhatNobodyHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		stop := r.run(t)
		for _, name := range []mooring.Name{"v1", "v2", "held"} {
			r.create(t, name)
			r.mount(t, name, "c1", dockerd(1))
		}
		r.unmount(t, "v1")
		r.unmount(t, "v2")
		stop()
		if n := r.world.count("detach"); n != 0 {
			t.Errorf("stopping detached in %d tasks, want 0", n)
		}
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.world.count("detach"); n != 1 || r.world.disk("v1").attached || r.world.disk("v2").attached || !r.world.disk("held").attached {
			t.Errorf("drained in %d tasks: %+v", n, r.world.disks)
		}
	})
}

// A listing feeds the ledger with other hosts' volumes and drops them after two complete listings; ours become missing.
func TestListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		r.create(t, "ours")
		if _, err := r.world.Create(t.Context(), mooring.Spec{Name: "theirs"}, mooring.Given{}); err != nil {
			t.Fatal(err)
		}
		stop := r.run(t)
		pass(time.Second)
		if got := r.List(); len(got) != 2 {
			t.Errorf("after a listing: got %v, want ours and theirs", got)
		}
		r.world.set(func() { r.world.disks = map[mooring.Name]*disk{}; r.world.down = true })
		pass(5 * time.Minute)
		if got := r.List(); len(got) != 2 {
			t.Errorf("with vCenter down: got %v, want both", got)
		}
		if got := r.conditions(t); !slices.Equal(got, []string{"vcenter"}) {
			t.Errorf("conditions: got %v, want vcenter", got)
		}
		r.world.set(func() { r.world.down = false })
		pass(31 * time.Second)
		if got := r.List(); len(got) != 2 {
			t.Errorf("after one listing without them: got %v, want both", got)
		}
		pass(time.Minute)
		if got := r.List(); len(got) != 1 || got[0].Volume.Name != "ours" {
			t.Errorf("after two listings: got %v, want ours", got)
		}
		if got := r.conditions(t); !slices.Equal(got, []string{"missing"}) {
			t.Errorf("conditions: got %v, want missing", got)
		}
		if _, err := r.Get(t.Context(), "ours"); err != nil {
			t.Errorf("get of a missing volume: %v", err)
		}
		if err := r.Remove(t.Context(), "ours"); err != nil {
			t.Errorf("remove of a missing volume: %v", err)
		}
		stop()
	})
}

// G10: volumes that were mounted when the ledger was lost are held, until Docker's API says that nobody uses them.
func TestG10SurveyRebuildsTheLedger(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	r.create(t, "db")
	r.create(t, "web")
	r.mount(t, "db", "c1", dockerd(1))
	recs, err := plugin.Survey(t.Context(), r.world, r.world, "boot-1")
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, rec := range recs {
		held += len(rec.Holders)
		if rec.Volume.Disk == "" || !rec.Own {
			t.Errorf("record: got %+v", rec)
		}
	}
	if len(recs) != 2 || held != 1 {
		t.Errorf("survey: got %v, want db held and web", recs)
	}
	r.world.set(func() { r.world.down = true })
	if _, err := plugin.Survey(t.Context(), r.world, r.world, "boot-1"); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("survey without vCenter: got %v, want ErrUnavailable", err)
	}
}

// G10: while the ledger's newest generation is lost and vCenter cannot be asked, a volume that only it held gets no answer at all.
func TestG10BehindLedgerDoesNotSayGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir(), func(s *plugin.Settings) { s.Behind = true })
		if _, err := r.world.Create(t.Context(), mooring.Spec{Name: "db"}, mooring.Given{}); err != nil {
			t.Fatal(err)
		}
		r.start(t)
		r.world.set(func() { r.world.down = true })
		if _, err := r.Get(t.Context(), "db"); !errors.Is(err, plugin.ErrDontKnow) {
			t.Errorf("get of what the lost generation held: got %v, want ErrDontKnow", err)
		}
		stop := r.run(t)
		r.world.set(func() { r.world.down = false })
		pass(31 * time.Second)
		if _, err := r.Get(t.Context(), "db"); err != nil {
			t.Errorf("get after a complete listing: %v", err)
		}
		if _, err := r.Get(t.Context(), "none"); !errors.Is(err, mooring.ErrNotFound) {
			t.Errorf("get of what never was: got %v, want ErrNotFound", err)
		}
		if got := r.conditions(t); len(got) != 0 {
			t.Errorf("conditions after a complete listing: got %v, want none", got)
		}
		stop()
	})
}

// The ledger names the instance UUID of its machine, which vCenter alone knows: another one is a clone's.
func TestLedgerNamesTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newWorld(), t.TempDir())
		r.world.set(func() { r.world.instance = "50110000-0000-4000-8000-0000000000d1" })
		stop := r.run(t)
		pass(time.Second)
		if got := r.ledger.VM().Instance; got != "50110000-0000-4000-8000-0000000000d1" || len(r.conditions(t)) != 0 {
			t.Errorf("got machine %q and conditions %v", got, r.conditions(t))
		}
		r.world.set(func() { r.world.instance = "50110000-0000-4000-8000-0000000000d2" })
		pass(31 * time.Second)
		if got := r.conditions(t); !slices.Equal(got, []string{"machine-changed"}) {
			t.Errorf("on a clone: got conditions %v, want machine-changed", got)
		}
		stop()
	})
}

// G5: after a clean reboot nobody holds anything, and the disks that lingered are still attached. Docker's containers are about to want them: they stay
// for two minutes after its API has answered, also when the plugin is restarted meanwhile.
func TestG5LingeringDisksSurviveACleanReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, newWorld(), dir)
		r.create(t, "db")
		r.mount(t, "db", "c1", dockerd(1))
		r.unmount(t, "db")
		for range 2 {
			r = r.reboot(t, dir)
			r.world.set(func() { r.world.dockerDown = true })
			r.start(t)
			stop := r.run(t)
			r.Seen(t.Context(), dockerd(2))
			pass(time.Minute)
			if d := r.world.disk("db"); !d.attached {
				t.Fatal("detached before Docker's API answered")
			}
			stop()
		}
		r = r.reboot(t, dir)
		r.world.set(func() { r.world.dockerDown = false })
		r.start(t)
		stop := r.run(t)
		r.Seen(t.Context(), dockerd(2))
		pass(100 * time.Second)
		if d := r.world.disk("db"); !d.attached {
			t.Error("detached within two minutes of Docker's API answering")
		}
		pass(time.Minute)
		if d := r.world.disk("db"); d.attached {
			t.Error("nobody wants it, and it stays attached")
		}
		stop()
	})
}
