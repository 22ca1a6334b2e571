package integration_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// Storage policies, from the administrator's command to the disk in the hardware list.
func TestPolicies(t *testing.T) {
	r := newRig(t)
	if _, out := r.mooring(t, r.Admin(), "policy", "create", "--name", "SW=2", "--content", `(("stripeWidth" i2))`); !strings.Contains(out, "vsanDatastore") {
		t.Fatalf("policy create: got %s, want the datastore that can take it", out)
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, *rig)
	}{
		{"shown attached and detached", policyShown},
		{"unknown one is refused with those there are", policyUnknown},
		{"G15 plugin's account makes none", policyRights},
		{"impossible one is refused", policyImpossible},
		{"deleted one keeps no volume down", policyDeleted},
		{"datastore that cannot keep it is refused", policyElsewhere}, // the last: it changes the configuration
	} {
		t.Run(c.name, func(t *testing.T) {
			defer r.clear(t)
			c.test(t, r)
		})
	}
}

// policyShown shows what vCenter reports of a disk that is attached, and says plainly of a detached one that it is what was applied last.
func policyShown(t *testing.T, r *rig) {
	const reported = `{{index .Status "policy reported by vCenter"}}`
	newVolume(t, "db", "-o", "vsan-policy-name=SW=2")
	if got := inspect(t, "db", reported); got != "none while detached; last applied: SW=2" {
		t.Errorf("detached: got %q", got)
	}
	docker(t, "start", "db")
	until(t, "vCenter's report is shown", func() bool {
		return strings.HasPrefix(inspect(t, "db", reported), "map[at:2") && strings.HasSuffix(inspect(t, "db", reported), " compliance:compliant policy:SW=2]")
	})
	if got := inspect(t, "db", `{{index .Status "vsan-policy-name"}}`); got != "SW=2" {
		t.Errorf("got policy %q, want SW=2", got)
	}
	docker(t, "stop", "db")
	r.detached(t, "db")
	if got := inspect(t, "db", reported); got != "none while detached; last applied: SW=2" {
		t.Errorf("detached again: got %q", got)
	}
}

func policyUnknown(t *testing.T, r *rig) {
	out := fails(t, `there is no storage policy "SW=3"`, "volume", "create", "--driver=vmdk", "-o", "vsan-policy-name=SW=3", "db")
	if !strings.Contains(out, `"SW=2"`) {
		t.Errorf("got %s, want the policies that there are", out)
	}
	r.nothingMade(t)
}

func policyRights(t *testing.T, r *rig) {
	code, out := r.mooring(t, r.Plugin(), "policy", "create", "--name", "mine", "--content", `(("stripeWidth" i2))`)
	if code == 0 || !strings.Contains(out, "NoPermission") || !strings.Contains(out, "StorageProfile.Update") {
		t.Errorf("got code %d, want NoPermission and the privilege\n%s", code, out)
	}
	if code, out = r.mooring(t, r.Plugin(), "policy", "ls"); code != 0 || !strings.Contains(out, "SW=2") || strings.Contains(out, "mine") {
		t.Errorf("list: got code %d, want SW=2 and no new one\n%s", code, out)
	}
}

// policyImpossible wants more hosts than the three there are.
func policyImpossible(t *testing.T, r *rig) {
	code, out := r.mooring(t, r.Admin(), "policy", "create", "--name", "FTT=2", "--content", `(("hostFailuresToTolerate" i2))`)
	if code != 0 || !strings.Contains(out, "no datastore can take it") {
		t.Errorf("policy create: got code %d, want that no datastore can take it\n%s", code, out)
	}
	fails(t, `the datastore vsanDatastore is not compatible with the storage policy "FTT=2", no datastore is`,
		"volume", "create", "--driver=vmdk", "-o", "vsan-policy-name=FTT=2", "db")
	r.nothingMade(t)
}

// policyDeleted takes the policy away before a volume's next attach: the volume comes up without it, and that is said.
func policyDeleted(t *testing.T, r *rig) {
	r.mooring(t, r.Admin(), "policy", "create", "--name", "brief", "--content", `(("stripeWidth" i3))`)
	newVolume(t, "db", "-o", "vsan-policy-name=brief")
	code, out := r.mooring(t, r.Admin(), "policy", "rm", "brief")
	if code == 0 || !strings.Contains(out, "in use by volumes (db)") {
		t.Errorf("policy rm: got code %d, want that db uses it\n%s", code, out)
	}
	if code, out = r.mooring(t, r.Admin(), "policy", "rm", "--force", "brief"); code != 0 {
		t.Fatalf("policy rm --force: got code %d\n%s", code, out)
	}
	docker(t, "start", "db")
	docker(t, "exec", "db", "touch", "/d/kept")
	if got := r.conditions(t); !slices.Contains(got, "profile") {
		t.Errorf("got conditions %v, want profile among them", got)
	}
	if got := inspect(t, "db", `{{index .Status "condition profile"}}`); !strings.Contains(got, `without its storage policy "brief"`) {
		t.Errorf("inspect: got %q, want the condition", got)
	}
}

// policyElsewhere asks for a policy of vSAN on a datastore that is none.
func policyElsewhere(t *testing.T, r *rig) {
	r.configure(t, `datastore: ""`, "datastore: vmfsDatastore")
	fails(t, `the datastore vmfsDatastore is not compatible with the storage policy "SW=2", compatible are vsanDatastore`,
		"volume", "create", "--driver=vmdk", "-o", "vsan-policy-name=SW=2", "db")
	r.nothingMade(t)
	newVolume(t, "plain")
	docker(t, "start", "plain")
	if got := inspect(t, "plain", "{{.Status.datastore}}"); got != "vmfsDatastore" {
		t.Errorf("got datastore %q, want vmfsDatastore", got)
	}
}

// nothingMade fails if a refused create has left something.
func (r *rig) nothingMade(t *testing.T) {
	t.Helper()
	if got := docker(t, "volume", "ls", "-q"); got != "" {
		t.Errorf("volumes: got %q, want none", got)
	}
}

// mooring runs the command as that user and returns its exit code and what it printed.
func (r *rig) mooring(t *testing.T, a vcenter.Account, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), build(t, "mooring"), args...)
	cmd.Env = append(append(os.Environ(), r.Env()...), "GOVC_USERNAME="+a.User, "GOVC_PASSWORD="+a.Password)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}
