package plugin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// wantControllers is how many PVSCSI controllers a machine is to have from the beginning: none is added while volumes are in use.
const wantControllers = 4

// examine makes every check. It depends on o alone, and guesses nothing: what is not known is said to be unknown.
func examine(o observed) []admin.Check {
	checks := []admin.Check{checkVCenter(o)}
	for _, ask := range []struct {
		code, title string
		check       func(observed) (admin.Result, string, string)
		remote      bool // vCenter says it
	}{
		{"disk-uuids", "disks show their UUIDs", checkUUIDs, true},
		{"controllers", "four PVSCSI controllers", checkControllers, true},
		{"ha", "HA restarts this machine", checkHA, true},
		{"snapshots", "no snapshots", checkSnapshots, true},
		{"rights", "the account's rights", checkRights, true},
		{"policies", "the storage policy service", checkPolicies, true},
		{"identity", "the ledger is this machine's", checkIdentity, false},
		{"ledger", "the ledger is whole", checkLedger, false},
		{"attached", "what goes with the machine", checkAttached, false},
		{"socket", "systemd holds the sockets", checkSocket, false},
		{"order", "Docker starts after the plugin", checkOrder, false},
		{"live-restore", "Docker's live restore", checkLiveRestore, false},
		{"mountpoints", "mount directories are protected", checkMountpoints, false},
	} {
		c := admin.Check{Code: ask.code, Title: ask.title}
		if ask.remote && o.Unreachable != nil {
			c.Result, c.Text = admin.Untold, "vCenter was not asked"
		} else {
			c.Result, c.Text, c.Cure = ask.check(o)
		}
		checks = append(checks, c)
	}
	return checks
}

func checkVCenter(o observed) admin.Check {
	c := admin.Check{Code: "vcenter", Title: "vCenter answers", Result: admin.Fine, Text: "this machine is " + o.Inspection.Machine.Name}
	if o.Unreachable != nil {
		c.Result, c.Text = admin.Fails, o.Unreachable.Error()
		c.Cure = cureOf(o.Unreachable, "Check that vCenter is up, and the keys vcenter, vm and datastore of the configuration")
	}
	return c
}

func checkUUIDs(o observed) (result admin.Result, text, cure string) {
	const enable = "Power the machine off and set disk.EnableUUID=TRUE: govc vm.change -vm VM -e disk.enableUUID=1"
	switch {
	case o.Inspection.DiskUUIDs == mooring.Yes:
		return admin.Fine, "disk.EnableUUID is TRUE", ""
	case len(o.Attached) > 0:
		return admin.Fine, "this machine sees the disks of its volumes", ""
	case o.Inspection.DiskUUIDs == mooring.No:
		return admin.Fails, "disk.EnableUUID is not TRUE: this machine cannot tell its disks apart, and mounts none", enable
	default:
		return admin.Untold, "the account may not read the machine's settings, and no volume is attached that would show it", ""
	}
}

func checkControllers(o observed) (result admin.Result, text, cure string) {
	n := o.Inspection.Controllers
	if n >= wantControllers {
		return admin.Fine, "there are " + strconv.Itoa(n), ""
	}
	return admin.Warns, fmt.Sprintf("there are %d, with 15 disks each, and none is added while volumes are in use", n),
		"Power the machine off and give it four controllers of the kind PVSCSI"
}

func checkHA(o observed) (result admin.Result, text, cure string) {
	ha := o.Inspection.HA
	switch {
	case ha.Enabled == mooring.No && ha.Cluster == "":
		return admin.Warns, "its host is in no cluster: nothing restarts this machine when the host dies", "Run it in a cluster with vSphere HA"
	case ha.Enabled == mooring.No:
		return admin.Warns, "vSphere HA is off in the cluster " + ha.Cluster, "Turn vSphere HA on there"
	case ha.Restart == mooring.No && ha.Override == mooring.Yes:
		return admin.Warns, "in the cluster " + ha.Cluster + " the restart of this machine is disabled by settings of its own",
			"Remove the machine's override in the cluster's settings, or give it a restart priority"
	case ha.Restart == mooring.No:
		return admin.Warns, "in the cluster " + ha.Cluster + " the restart of machines is disabled", "Give the cluster, or this machine, a restart priority"
	case ha.Restart == mooring.Yes && ha.Override == mooring.Yes:
		return admin.Fine, "the cluster " + ha.Cluster + " restarts it, with settings of its own", ""
	case ha.Restart == mooring.Yes:
		return admin.Fine, "the cluster " + ha.Cluster + " restarts it", ""
	default:
		return admin.Untold, "the account may not read the cluster's settings", "Give it the role Read-only on the cluster, or look there"
	}
}

func checkSnapshots(o observed) (result admin.Result, text, cure string) {
	switch {
	case o.Inspection.SnapshotsOK == mooring.Unknown:
		return admin.Untold, "the account may not read the machine's snapshots", ""
	case len(o.Inspection.Snapshots) > 0:
		return admin.Warns, "there are snapshots (" + strings.Join(o.Inspection.Snapshots, ", ") +
			"): reverting to one brings back that day's list of disks, and no volume's content", "Delete the snapshots; back volumes up by other means"
	default:
		return admin.Fine, "there are none", ""
	}
}

func checkRights(o observed) (result admin.Result, text, cure string) {
	switch {
	case len(o.Inspection.Missing) > 0:
		return admin.Fails, "the account lacks " + strings.Join(o.Inspection.Missing, ", "), "Give its role these privileges, on the entities named"
	case o.Inspection.RightsOK == mooring.Yes:
		return admin.Fine, "nothing is missing", ""
	default:
		return admin.Untold, "vCenter does not say what the account may do", ""
	}
}

func checkPolicies(o observed) (result admin.Result, text, cure string) {
	if o.Inspection.Policies != "" {
		return admin.Warns, o.Inspection.Policies + ": volumes that ask for a policy cannot be made", "Start vCenter's service vmware-sps"
	}
	return admin.Fine, "answers", ""
}

func checkIdentity(o observed) (result admin.Result, text, cure string) {
	in := o.Inspection
	switch {
	case len(in.Twins) > 0:
		return admin.Warns, "has the BIOS UUID of " + strings.Join(in.Twins, ", ") + ", too: while both run, vCenter cannot tell which of them asks",
			"Give one of them another BIOS UUID (uuid.bios), while it is powered off"
	case o.Moved:
		return admin.Warns, "the ledger was written on another machine: this one is a clone of it, or was restored",
			"If this machine is a clone, remove the volumes' disks from its configuration"
	case o.Unreachable != nil && o.Ledger.Instance == "":
		return admin.Untold, "vCenter was not asked yet whose it is", ""
	default:
		return admin.Fine, "it is", ""
	}
}

func checkLedger(o observed) (result admin.Result, text, cure string) {
	if o.Behind {
		return admin.Warns, "its newest generation was damaged, and the one before was taken", "Nothing, when vCenter can be reached: the next complete listing mends it"
	}
	return admin.Fine, "it is", ""
}

func checkAttached(o observed) (result admin.Result, text, cure string) {
	if len(o.Attached) == 0 {
		return admin.Fine, "no volume is attached: deleting this machine from disk deletes none", ""
	}
	names := make([]string, len(o.Attached))
	for i, n := range o.Attached {
		names[i] = string(n)
	}
	return admin.Note, "deleting this machine from disk would delete the volumes attached now: " + strings.Join(names, ", "),
		"Before that, power it off from inside: a clean power-off leaves none attached"
}

func checkSocket(o observed) (result admin.Result, text, cure string) {
	switch o.Around.SystemdSocket {
	case mooring.Yes:
		return admin.Fine, "they are there while the plugin is restarted", ""
	case mooring.No:
		return admin.Warns, "the plugin made them itself: while it is restarted, Docker finds no driver", "systemctl enable --now mooring-plugin.socket; systemctl restart mooring-plugin"
	default:
		return admin.Untold, "it cannot be told who made them", ""
	}
}

func checkOrder(o observed) (result admin.Result, text, cure string) {
	switch o.Around.DockerAfter {
	case mooring.Yes:
		return admin.Fine, "docker.service is ordered after mooring-plugin.service", ""
	case mooring.No:
		return admin.Warns, "docker.service is not ordered after mooring-plugin.service: at boot containers may start before their volumes are there, and at a power-off " +
			"disks stay attached", "systemctl enable mooring-plugin.service; systemctl daemon-reload"
	default:
		return admin.Untold, "systemd does not say", ""
	}
}

func checkLiveRestore(o observed) (result admin.Result, text, cure string) {
	switch o.Around.LiveRestore {
	case mooring.Yes:
		return admin.Note, "it is on: containers outlive dockerd, and at a power-off a container that does not end in time keeps its disk attached", ""
	case mooring.No:
		return admin.Fine, "it is off", ""
	default:
		return admin.Untold, "Docker does not answer", ""
	}
}

func checkMountpoints(o observed) (result admin.Result, text, cure string) {
	switch {
	case len(o.Around.Writable) > 0:
		return admin.Warns, "while nothing is mounted there, a container could write into " + strings.Join(o.Around.Writable, ", ") + " on this machine's own disk",
			"Look what is in there, then: chattr +i DIRECTORY"
	case o.Around.WritableOK == mooring.Unknown:
		return admin.Untold, "they could not be looked at", ""
	default:
		return admin.Fine, "nothing can be written where nothing is mounted", ""
	}
}
