package integration_test

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// sequence waits until dockerd has made these calls since the mark, for the volume if there is one.
func (r *rig) sequence(t *testing.T, mark int64, what, want string) {
	t.Helper()
	var got string
	if !within(5*time.Second, func() bool { got = strings.Join(r.calls(t, mark), " "); return got == want }) {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

// What dockerd asks when it ends, is killed and starts again. Its containers are killed with it, but for those of a dockerd with live restore.
func TestCallsWhenDockerdRestarts(t *testing.T) {
	r := newRig(t)
	docker(t, "volume", "create", "--driver=vmdk", "--label", "keep=me", "va")
	docker(t, "run", "-d", "--restart=always", "--stop-signal=KILL", "--name", "aa", "-v", "va:/d:nocopy", image, "sleep", "100000")

	mark := r.mark(t)
	r.docker.stop(t)
	r.sequence(t, mark, "dockerd ended", "get unmount")
	r.detached(t, "va")
	mark = r.mark(t)
	r.docker.start(t)
	r.sequence(t, mark, "dockerd started", "activate capabilities get get get mount")

	id := r.view(t, "va").Holders[0].ID
	mark = r.mark(t)
	r.docker.kill(t)
	r.docker.start(t)
	r.sequence(t, mark, "dockerd killed and started", "activate capabilities get get get mount")
	r.mustHold(t, "va", 1)
	if v := r.view(t, "va"); v.Holders[0].ID != id || v.Holders[0].Count != 1 {
		t.Errorf("after a kill: got holders %v, want %s once", v.Holders, id)
	}

	r.docker.stop(t)
	r.docker.flags = []string{"--live-restore"}
	r.docker.start(t)
	docker(t, "exec", "aa", "touch", "/d/kept")
	mark = r.mark(t)
	r.docker.kill(t)
	r.docker.start(t)
	r.sequence(t, mark, "dockerd with live restore killed and started", "activate capabilities get get")
	docker(t, "exec", "aa", "test", "-e", "/d/kept")
	docker(t, "cp", "aa:/d/kept", "/run/kept")
	docker(t, "exec", "aa", "touch", "/d/still") // docker cp has not unmounted it
	r.mustHold(t, "va", 1)
	if got := docker(t, "volume", "inspect", "-f", "{{.Labels.keep}}", "va"); got != "me" {
		t.Errorf("label: got %q, want me", got)
	}
	docker(t, "stop", "aa")
	r.docker.stop(t)
	r.docker.flags = nil
	r.docker.start(t)
}

// G3, G12: two containers start at once on one new volume. It is formatted once, and both hold it.
func TestG3TwoContainersAtOnceFormatOnce(t *testing.T) {
	r := newRig(t)
	docker(t, "volume", "create", "--driver=vmdk", "va")
	mark := r.mark(t)
	var both sync.WaitGroup
	for _, name := range []string{"c1", "c2"} {
		both.Go(func() {
			if out, err := tryDocker(t, "run", "-d", "--name", name, "-v", "va:/d:nocopy", image, "sleep", "100000"); err != nil {
				t.Errorf("run %s: %v\n%s", name, err, out)
			}
		})
	}
	both.Wait()
	r.mustHold(t, "va", 2)
	docker(t, "exec", "c1", "touch", "/d/shared")
	docker(t, "exec", "c2", "test", "-e", "/d/shared")
	if n := strings.Count(r.log(t, mark), "mkfs.ext4"); n != 1 {
		t.Errorf("mkfs ran %d times, want once", n)
	}
	docker(t, "rm", "-f", "c1")
	docker(t, "exec", "c2", "test", "-e", "/d/shared")
	r.mustHold(t, "va", 1)
}

// What dockerd does when the command goes away, or the container is removed, while the driver mounts.
func TestCallsDuringASlowMount(t *testing.T) {
	r := newRig(t)
	docker(t, "volume", "create", "--driver=vmdk", "va")
	docker(t, "create", "--name", "aa", "-v", "va:/d:nocopy", image, "sleep", "100000")
	slowly := func() *exec.Cmd {
		t.Helper()
		before := r.Calls()["ReconfigVM_Task"]
		r.Delay("ReconfigVM_Task", time.Second)
		cmd := exec.CommandContext(t.Context(), "docker", "start", "aa")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "the disk is being attached", func() bool { return r.Calls()["ReconfigVM_Task"] > before })
		r.Delay("ReconfigVM_Task", 0)
		return cmd
	}
	mark := r.mark(t)
	cmd := slowly()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	until(t, "the container runs though nobody waits for it", func() bool {
		return docker(t, "ps", "-q", "--filter", "name=aa") != ""
	})
	r.sequence(t, mark, "command killed during mount", "get mount")
	docker(t, "stop", "-t", "0", "aa")
	r.detached(t, "va")

	cmd = slowly()
	docker(t, "rm", "-f", "aa")
	_ = cmd.Wait() // started or not
	r.detached(t, "va")
	r.mustHold(t, "va", 0)
}

// What dockerd does with the driver's errors: it must be able to try again, and it must keep what it knows.
func TestCallsAfterErrors(t *testing.T) {
	r := newRig(t)
	docker(t, "volume", "create", "--driver=vmdk", "--label", "keep=me", "va")
	docker(t, "create", "--name", "aa", "-v", "va:/d:nocopy", image, "sleep", "100000")
	docker(t, "start", "aa")

	// Somebody on this machine has the volume's filesystem open when the container stops.
	dir := r.view(t, "va").Mountpoint
	busy := exec.CommandContext(t.Context(), "sleep", "100000")
	busy.Dir = dir
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	mark := r.mark(t)
	docker(t, "stop", "-t", "0", "aa")
	r.sequence(t, mark, "unmount failed", "get unmount")
	if v := r.view(t, "va"); !v.Mounted || !v.Attached {
		t.Errorf("after an unmount that failed: got mounted %t, attached %t, want both", v.Mounted, v.Attached)
	}
	docker(t, "start", "aa")
	r.mustHold(t, "va", 1)
	docker(t, "stop", "-t", "0", "aa")
	if err := busy.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = busy.Wait() // killed
	r.detached(t, "va")

	if err := r.Fail("ReconfigVM_Task", "InvalidState", -1, 0); err != nil {
		t.Fatal(err)
	}
	docker(t, "create", "--name", "fresh", "-v", "va:/d:nocopy", image, "true")
	for name, want := range map[string]string{
		"fresh": "get mount",             // and no unmount
		"aa":    "get mount get unmount", // with the ID of the run before: an unmount of a mount that never succeeded
	} {
		mark = r.mark(t)
		if out, err := tryDocker(t, "start", name); err == nil {
			t.Errorf("start with a failing vCenter: got no error\n%s", out)
		}
		r.sequence(t, mark, "mount failed, "+name, want)
	}
	r.Clear()
	docker(t, "rm", "fresh")
	docker(t, "start", "aa")
	r.mustHold(t, "va", 1)
	docker(t, "stop", "-t", "0", "aa") // in doubt, and confirmed by Docker's API
	r.detached(t, "va")
	docker(t, "rm", "aa")

	// rm -f shows the driver's error, and dockerd forgets its row all the same: the disk must be there, and be found again.
	if err := r.Fail("DeleteVirtualDisk_Task", "InvalidState", -1, 0); err != nil {
		t.Fatal(err)
	}
	mark = r.mark(t)
	if out, err := tryDocker(t, "volume", "rm", "-f", "va"); err == nil {
		t.Errorf("remove with a failing vCenter: got no error\n%s", out)
	}
	r.sequence(t, mark, "remove failed", "get get remove")
	r.Clear()
	if got := docker(t, "volume", "ls", "-q"); got != "va" {
		t.Errorf("volumes: got %q, want va", got)
	}
	docker(t, "volume", "rm", "va")
}

// log returns what the plugin has written since the mark.
func (r *rig) log(t *testing.T, mark int64) string {
	t.Helper()
	return string(read(t, r.unit.LogFile())[mark:])
}
