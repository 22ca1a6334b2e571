package integration_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
)

// victims says who is killed.
type victims struct{ plugin, dockerd bool }

// moment is a verb of the protocol, and where in it the kill falls: while the call to vCenter is under way, or, without one, after the
// time that the command is given.
type moment struct {
	name    string
	prepare string // commands of docker, separated by semicolons, that succeed before
	command string // the command that is cut
	call    string // of vCenter
	after   time.Duration
}

func moments() []moment {
	const (
		vol  = "volume create --driver=vmdk --label keep=me vs"
		box  = vol + ";create --name subject --stop-signal KILL -v vs:/d:nocopy " + image + " sleep 1000"
		run  = box + ";start subject;exec subject touch /d/kept"
		stop = run + ";stop -t 0 subject"
	)
	return []moment{
		{name: "create", command: vol, call: "CreateVirtualDisk_Task"},
		{name: "create, sidecar", command: vol, call: "PUT"},
		{name: "get", prepare: vol, command: "volume inspect vs"},
		{name: "list", prepare: vol, command: "volume ls"},
		{name: "first mount, attach", prepare: box, command: "start subject", call: "ReconfigVM_Task"},
		{name: "first mount, formatting", prepare: box, command: "start subject", call: "MoveDatastoreFile_Task"},
		{name: "second mount, attach", prepare: stop, command: "start subject", call: "ReconfigVM_Task"},
		{name: "second mount", prepare: stop, command: "start subject", after: 30 * time.Millisecond},
		{name: "copy", prepare: run, command: "cp subject:/d/kept /run/kept", after: 20 * time.Millisecond},
		{name: "unmount", prepare: run, command: "stop -t 0 subject", after: 150 * time.Millisecond},
		{name: "detach", prepare: stop, command: "version", call: "ReconfigVM_Task"},
		{name: "remove", prepare: vol, command: "volume rm vs", call: "DeleteVirtualDisk_Task"},
	}
}

// G2, G3, G5, G12: whoever is killed, in the middle of whatever verb: afterwards labels and references are there, holders are right,
// no disk is attached that nobody holds, no held disk was detached, and nothing was formatted twice.
func TestG2KilledInTheMiddleOfEachVerb(t *testing.T) {
	for name, v := range map[string]victims{
		"plugin":  {plugin: true},
		"dockerd": {dockerd: true},
		"both":    {plugin: true, dockerd: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.keeper(t)
			for _, m := range moments() {
				t.Run(m.name, func(t *testing.T) { r.cut(t, v, m) })
			}
		})
	}
}

// keeper runs a container whose volume must come through everything.
func (r *rig) keeper(t *testing.T) {
	t.Helper()
	docker(t, "volume", "create", "--driver=vmdk", "--label", "keep=me", "vk")
	docker(t, "run", "-d", "--restart=always", "--stop-signal", "KILL", "--name", "keeper", "-v", "vk:/d:nocopy", image, "sh", "-c", "test -e /d/kept || echo kept > /d/kept; sleep 100000")
	until(t, "the keeper has written", func() bool { out, _ := tryDocker(t, "exec", "keeper", "cat", "/d/kept"); return out == "kept" })
}

// cut kills in the middle of the command, lets everything start again, and looks.
func (r *rig) cut(t *testing.T, v victims, m moment) {
	for command := range strings.SplitSeq(m.prepare, ";") {
		if command != "" {
			docker(t, strings.Fields(command)...)
		}
	}
	before := r.Calls()[m.call]
	if m.call != "" {
		r.Delay(m.call, time.Second)
		if m.name == "second mount, attach" {
			r.Delay(m.call, 0)
			r.detached(t, "vs")
			r.Delay(m.call, time.Second)
			before = r.Calls()[m.call]
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", strings.Fields(m.command)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if m.call != "" {
		until(t, m.call+" is under way", func() bool { return r.Calls()[m.call] > before })
	} else {
		<-time.After(m.after)
	}
	if v.plugin {
		r.killPlugin(t)
	}
	if v.dockerd {
		r.docker.kill(t)
		cancel()
	}
	r.Clear()
	r.ready(t)
	if v.dockerd {
		r.docker.start(t)
	}
	acknowledged := cmd.Wait() == nil
	until(t, "vCenter has ended what it was asked", func() bool {
		ended := r.Tasks()[m.call]
		return !strings.HasSuffix(m.call, "_Task") || ended.Succeeded+ended.Failed == r.Calls()[m.call]
	})
	defer r.clean(t)
	r.unharmed(t)
	r.settled(t, m, acknowledged)
}

// unharmed says whether the keeper came through.
func (r *rig) unharmed(t *testing.T) {
	t.Helper()
	until(t, "the keeper runs with its data", func() bool { out, _ := tryDocker(t, "exec", "keeper", "cat", "/d/kept"); return out == "kept" })
	if got := docker(t, "volume", "inspect", "-f", "{{.Labels.keep}}", "vk"); got != "me" {
		t.Errorf("the keeper's label: got %q, want me", got)
	}
	if out, err := tryDocker(t, "volume", "rm", "vk"); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("remove of the keeper's volume: got %v, want in use\n%s", err, out)
	}
	r.mustHold(t, "vk", 1)
}

// settled looks at the volume that the command was about.
func (r *rig) settled(t *testing.T, m moment, acknowledged bool) {
	t.Helper()
	out, err := tryDocker(t, "volume", "inspect", "-f", "{{.Labels.keep}}", "vs")
	switch {
	case strings.HasPrefix(m.name, "create"):
		if acknowledged && (err != nil || out != "me") {
			t.Errorf("an acknowledged volume: got %q, %v", out, err)
		}
		docker(t, "volume", "create", "--driver=vmdk", "vs")
		docker(t, "run", "--rm", "-v", "vs:/d:nocopy", image, "touch", "/d/works")
	case m.name == "remove":
		if acknowledged && err == nil {
			t.Error("a volume that was removed is there")
		}
	case err != nil || out != "me":
		t.Errorf("volume: got label %q, %v, want me", out, err)
	}
	if strings.Contains(m.prepare, "create --name subject") {
		r.usable(t, strings.Contains(m.prepare, "/d/kept"))
	}
}

// usable starts the container again, if it does not run, and looks at its data.
func (r *rig) usable(t *testing.T, written bool) {
	t.Helper()
	r.startSubject(t)
	if written {
		docker(t, "exec", "subject", "test", "-e", "/d/kept")
	}
	docker(t, "exec", "subject", "touch", "/d/kept")
	until(t, "the container alone holds its volume", func() bool { return len(r.view(t, "vs").Holders) == 1 })
	docker(t, "stop", "-t", "0", "subject")
	r.detached(t, "vs")
	r.mustHold(t, "vs", 0)
}

// startSubject starts the container. A dockerd that was killed between containerd's making the task and its own note of that cannot start the
// container ever again (moby's "task already exists"): then another one gets the volume.
func (r *rig) startSubject(t *testing.T) {
	t.Helper()
	out, err := tryDocker(t, "start", "subject")
	switch {
	case err == nil:
	case strings.Contains(out, "already exists"):
		docker(t, "rm", "-f", "subject")
		docker(t, "run", "-d", "--name", "subject", "--stop-signal", "KILL", "-v", "vs:/d:nocopy", image, "sleep", "1000")
	default:
		t.Fatalf("start: %v\n%s", err, out)
	}
}

// clean takes the volume and its container away, whatever is left of them.
func (r *rig) clean(t *testing.T) {
	t.Helper()
	_, _ = tryDocker(t, "rm", "-f", "subject")
	until(t, "the volume is gone", func() bool {
		_, _ = tryDocker(t, "volume", "rm", "-f", "vs")
		_, err := tryDocker(t, "volume", "inspect", "vs") // looks it up
		return err != nil
	})
	if got := r.attached(); len(got) != 1 || got[0] != "vk" {
		t.Errorf("attached: got %v, want vk alone", got)
	}
}

// attached returns the volumes that the machine's hardware list names.
func (r *rig) attached() []mooring.Name {
	var names []mooring.Name
	for _, m := range r.Machines() {
		for _, d := range m.Disks {
			if _, file, ok := strings.Cut(d.Backing, "/default/"); ok { // not a boot disk
				names = append(names, mooring.Name(strings.TrimSuffix(file, ".vmdk")))
			}
		}
	}
	return names
}
