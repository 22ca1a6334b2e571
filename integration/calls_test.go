package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
)

// call is one row of what dockerd is known to ask for a command. Other versions of dockerd may ask for less or more; what
// counts is that the driver's answers fit.
type call struct {
	command string // of docker; fields separated by spaces
	want    string // operations in their order
	err     string // part of what docker says, if it fails
}

// What the driver promises is built on which calls dockerd makes. Each row was seen on dockerd 20.10 with a driver that only logged; here the real
// driver answers them.
func TestCallsThatDockerdMakes(t *testing.T) {
	r := newRig(t)
	check := func(calls ...call) {
		t.Helper()
		for _, c := range calls {
			mark := r.mark(t)
			out, err := tryDocker(t, strings.Fields(c.command)...)
			if (err != nil) != (c.err != "") || !strings.Contains(out, c.err) {
				t.Errorf("docker %s: got %v, want error %q\n%s", c.command, err, c.err, out)
			}
			var got string
			settled := func() bool { got = strings.Join(r.calls(t, mark), " "); return got == c.want }
			if !within(time.Second, settled) {
				t.Errorf("docker %s:\ngot  %s\nwant %s", c.command, got, c.want)
			}
		}
	}
	check(
		call{command: "volume create --driver=vmdk --name=va", want: "activate capabilities get create"},
		call{command: "volume create --driver=vmdk --name=va", want: "get"},
		call{command: "volume inspect va", want: "get"},
		call{command: "volume ls", want: "list"},
		call{command: "volume rm va", want: "get get remove"},
		call{command: "volume create --driver=vmdk --name=vb", want: "get create"},
		call{command: "create --name c0 -v vb:/seed " + image + " sleep 1000", want: "get get mount get unmount"},
		call{command: "start c0", want: "get mount"},
		call{command: "volume rm vb", want: "get", err: "in use"},
		call{command: "cp c0:/seed/file /run/copied", want: "get mount get unmount"},
		call{command: "cp /run/copied c0:/seed/again", want: "get mount get unmount get mount get unmount"},
		call{command: "exec c0 cat /seed/again", want: ""},
		call{command: "pause c0", want: ""},
		call{command: "unpause c0", want: ""},
		call{command: "inspect c0", want: ""},
		call{command: "ps", want: ""},
		call{command: "restart -t 0 c0", want: "get unmount get mount"},
		call{command: "run --name c1 --volumes-from c0 " + image + " true", want: "get get mount get unmount"},
		call{command: "rm c1", want: ""},
		call{command: "stop -t 0 c0", want: "get unmount"},
		call{command: "start c0", want: "get mount"},
		call{command: "kill c0", want: "get unmount"},
		call{command: "start c0", want: "get mount"},
		call{command: "rm -f c0", want: "get unmount"},
		call{command: "run --name c2 -v vc:/seed --volume-driver=vmdk " + image + " true", want: "get create get mount get unmount get mount get unmount"},
		call{command: "run --name c3 -v vd:/seed:nocopy --volume-driver=vmdk " + image + " true", want: "get create get mount get unmount"},
		call{command: "volume prune -f", want: ""},
	)
	for _, name := range []mooring.Name{"vb", "vc", "vd"} {
		r.mustHold(t, name, 0)
	}
}
