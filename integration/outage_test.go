package integration_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
)

// soon is what the product promises for saying that vCenter is away, and what a command that does not need vCenter stays well below.
const soon = 10 * time.Second

// G9: vCenter is down, or accepts requests and answers none. Who needs it is told so within ten seconds, nobody else notices, and when it is back
// nothing has to be restarted, and what had to wait is done.
func TestG9Outage(t *testing.T) {
	r := newRig(t)
	r.configure(t, "\nlinger: 1s\n", "\nlinger: 3s\n") // a restart is shorter
	for name, cut := range map[string]func(*testing.T){
		"refusing": r.cutOff,
		"hanging":  func(*testing.T) { r.Hang() },
	} {
		t.Run(name, func(t *testing.T) {
			defer r.clear(t)
			outage(t, r, cut)
		})
	}
}

func outage(t *testing.T, r *rig, cut func(*testing.T)) {
	for _, name := range []string{"stays", "leaves", "absent"} {
		newVolume(t, name)
	}
	docker(t, "start", "stays", "leaves")
	tasks, starts, mark := r.reconfigured(), r.unit.Starts(), r.mark(t)
	cut(t)
	var needy sync.WaitGroup
	needy.Go(func() { inTime(t, "vCenter", "volume", "create", "--driver=vmdk", "new") })
	needy.Go(func() { inTime(t, "vCenter", "start", "absent") })
	for _, command := range []string{
		"volume ls", "volume inspect stays", "exec stays touch /d/kept", "restart stays", "stop stays", "start stays", "exec stays test -e /d/kept",
		"volume inspect absent", "stop leaves",
	} {
		inTime(t, "", strings.Fields(command)...)
	}
	fails(t, "in use", "volume", "rm", "absent")
	needy.Wait()
	until(t, "the plugin has tried to detach", func() bool {
		return strings.Contains(string(read(t, r.unit.LogFile())[mark:]), "detach of idle disks")
	})
	inTime(t, "", "start", "leaves")
	inTime(t, "", "stop", "leaves")
	until(t, "vCenter is said to be away", func() bool { return slices.Contains(r.conditions(t), "vcenter") })
	if !r.view(t, "leaves").Attached {
		t.Error("a disk was detached while vCenter was away")
	}
	if got := r.reconfigured() - tasks; got != 0 {
		t.Errorf("restart and stop made %d changes of the hardware, want none", got)
	}
	r.back(t)
	docker(t, "volume", "create", "--driver=vmdk", "new")
	docker(t, "start", "absent")
	docker(t, "exec", "absent", "touch", "/d/kept")
	r.detached(t, "leaves")
	until(t, "nothing is wrong", func() bool { return len(r.conditions(t)) == 0 })
	if got := r.unit.Starts(); got != starts {
		t.Errorf("the plugin was started %d times, want none", got-starts)
	}
}

// G9, G13: whatever keeps the plugin from vCenter or from its configuration, it starts and answers for the volumes that there are.
func TestPluginAnswersWithoutVCenter(t *testing.T) {
	r := newRig(t)
	names := make([]string, 8)
	for i := range names {
		names[i] = fmt.Sprintf("v%d", i)
		newVolume(t, names[i])
	}
	docker(t, "start", "v0")
	for _, c := range []struct {
		name string
		test func(*testing.T, *rig)
	}{
		{"G9 sessions ended by vCenter", killedSessions}, // first: a plugin that is stopped in an outage leaves its session at vCenter
		{"G9 dockerd restarted in an outage", restartInOutage},
		{"G13 wrong password", wrongPassword},
		{"G13 broken configuration", brokenConfiguration},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, r) })
		if got := len(strings.Fields(docker(t, "volume", "ls", "-q"))); got != len(names) {
			t.Errorf("%s: got %d volumes, want %d", c.name, got, len(names))
		}
		for _, name := range names {
			if got := inspect(t, name, "{{.Labels.keep}}"); got != "me" {
				t.Errorf("%s: %s: got label %q, want me", c.name, name, got)
			}
		}
		docker(t, "exec", "v0", "touch", "/d/kept")
	}
}

// restartInOutage restarts plugin and dockerd while vCenter is down. A driver that did not answer would cost dockerd 15 s for each volume.
func restartInOutage(t *testing.T, r *rig) {
	r.cutOff(t)
	r.stopPlugin(t)
	r.docker.kill(t)
	r.startPlugin(t)
	begun := time.Now()
	r.docker.start(t)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("dockerd's API answers after %s, want less than one volume's 15s", took)
	}
	docker(t, "start", "v0")
	r.back(t)
}

// killedSessions has vCenter end the session: the next request logs in again, once.
func killedSessions(t *testing.T, r *rig) {
	before, _ := r.Logins()
	if n := r.KillSessions(r.Plugin().User); n != 1 {
		t.Errorf("the plugin had %d sessions, want one", n)
	}
	docker(t, "start", "v1", "v2")
	docker(t, "stop", "v1", "v2")
	r.detached(t, "v1")
	r.detached(t, "v2")
	if after, _ := r.Logins(); after != before+1 {
		t.Errorf("logged in %d times, want once", after-before)
	}
}

// wrongPassword must not lock the account: vCenter's single sign-on does so after five refusals.
func wrongPassword(t *testing.T, r *rig) {
	file := filepath.Join(r.Dir(), "plugin.password")
	right := read(t, file)
	write(t, file, []byte("wrong\n"), 0o600)
	_, before := r.Logins()
	r.restartPlugin(t)
	for range 3 {
		out := inTime(t, "check the user name and the password", "volume", "create", "--driver=vmdk", "new")
		if strings.Contains(out, strings.TrimSpace(string(right))) {
			t.Error("the error shows a password")
		}
	}
	inTime(t, "check the user name and the password", "start", "v1")
	if _, after := r.Logins(); after != before+1 {
		t.Errorf("vCenter refused %d logins, want one", after-before)
	}
	docker(t, "restart", "v0")
	write(t, file, right, 0o600)
	r.restartPlugin(t)
	docker(t, "start", "v1")
}

// brokenConfiguration has a key that nobody knows and a value that makes no sense; what is right in it is used.
func brokenConfiguration(t *testing.T, r *rig) {
	right := read(t, r.ConfigFile())
	write(t, r.ConfigFile(), append([]byte("lingre: 5s\n"), right...), 0o600)
	r.restartPlugin(t)
	inTime(t, "lingre", "volume", "create", "--driver=vmdk", "new")
	docker(t, "restart", "v0")
	write(t, r.ConfigFile(), right, 0o600)
	r.restartPlugin(t)
	docker(t, "start", "v2")
}

// A reconfiguration of the machine takes seconds in a real vSphere, and stuns it. A container that comes back costs none, a new volume two, and a container with
// five volumes one for each, because dockerd mounts them one after another.
func TestChangesOfTheHardwareAreFew(t *testing.T) {
	r := newRig(t)
	r.configure(t, "\nlinger: 1s\n", "\nlinger: 3s\n") // a restart is shorter
	r.Delay("ReconfigVM_Task", 500*time.Millisecond)
	begun := r.reconfigured()
	docker(t, "run", "-d", "--stop-signal=KILL", "--name", "first", "--volume-driver=vmdk", "-v", "one:/d", image, "sleep", "100000")
	if got := r.reconfigured() - begun; got != 1 {
		t.Errorf("docker run with a new volume made %d tasks, want one", got)
	}
	for range 3 {
		docker(t, "restart", "first")
	}
	docker(t, "cp", "/etc/hostname", "first:/d/copied")
	if got := r.reconfigured() - begun; got != 1 {
		t.Errorf("restarts and copies made %d tasks, want none", got-1)
	}
	docker(t, "rm", "-f", "first")
	r.detached(t, "one")
	until(t, "vCenter has counted the detach", func() bool { return r.reconfigured()-begun > 1 }) // the disk is gone before the task ends
	if got := r.reconfigured() - begun; got != 2 {
		t.Errorf("a container with a new volume made %d tasks in its life, want an attach and a detach", got)
	}
	five := []string{"f1", "f2", "f3", "f4", "f5"}
	newContainer(t, "five", five...)
	begun = r.reconfigured()
	docker(t, "start", "five")
	if got := r.reconfigured() - begun; got > len(five) {
		t.Errorf("a container with five volumes made %d tasks, want one for each at most", got)
	}
	docker(t, "restart", "five")
	docker(t, "rm", "-f", "five")
	for _, name := range five {
		r.detached(t, mooring.Name(name))
	}
	until(t, "vCenter has counted the detach", func() bool { return r.reconfigured()-begun > len(five) })
	// They are unmounted one after another, so that a look for what has lingered enough may fall between them.
	if got := r.reconfigured() - begun - len(five); got > 2 {
		t.Errorf("restart and removal made %d tasks, want one detach for all, or two", got)
	}
}

// inTime runs docker, which must succeed, or fail with want where that is given, before somebody who waits gives up.
func inTime(t *testing.T, want string, args ...string) string {
	t.Helper()
	begun := time.Now()
	out, err := tryDocker(t, args...)
	if took := time.Since(begun); took > soon {
		t.Errorf("docker %s took %s, want %s at most", strings.Join(args, " "), took, soon)
	}
	if (err == nil) != (want == "") || !strings.Contains(out, want) {
		t.Errorf("docker %s: got %v, want error %q\n%s", strings.Join(args, " "), err, want, out)
	}
	return out
}

// cutOff makes vCenter refuse connections.
func (r *rig) cutOff(t *testing.T) {
	t.Helper()
	if err := r.StopServing(); err != nil {
		t.Fatal(err)
	}
}

// back ends an outage.
func (r *rig) back(t *testing.T) {
	t.Helper()
	if err := r.StartServing(); err != nil {
		t.Fatal(err)
	}
}

// configure puts one text in the place of another in the plugin's configuration, and restarts the plugin.
func (r *rig) configure(t *testing.T, is, want string) {
	t.Helper()
	content := string(read(t, r.ConfigFile()))
	if strings.Count(content, is) != 1 {
		t.Fatalf("the configuration holds %q %d times, want once:\n%s", is, strings.Count(content, is), content)
	}
	write(t, r.ConfigFile(), []byte(strings.Replace(content, is, want, 1)), 0o600)
	r.restartPlugin(t)
}

func (r *rig) restartPlugin(t *testing.T) {
	t.Helper()
	r.stopPlugin(t)
	r.startPlugin(t)
}
