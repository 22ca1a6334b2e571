package mooring

import "time"

// Fact is something that may not be known: what an account may not read is never guessed.
type Fact string

// What may be known of a fact.
const (
	Unknown Fact = ""
	Yes     Fact = "yes"
	No      Fact = "no"
)

// FactOf returns what b says.
func FactOf(b bool) Fact {
	if b {
		return Yes
	}
	return No
}

// Inspection is what vCenter says of the virtual machine that matters to its volumes, as far as the account may read it.
type Inspection struct {
	Machine     Machine
	Twins       []string // other machines in view that have the same BIOS UUID
	DiskUUIDs   Fact     // disk.EnableUUID: the guest sees its disks' UUIDs
	Controllers int      // of the kind PVSCSI
	Snapshots   []string // their names
	SnapshotsOK Fact     // Unknown: Snapshots could not be read
	HA          HA
	Missing     []string // privileges that the account lacks, as "privilege on entity"
	RightsOK    Fact     // Unknown: vCenter did not say what the account may do
	Policies    string   // why the storage policy service does not answer; empty: it does
}

// HA is what vSphere HA would do for the machine.
type HA struct {
	Cluster  string // empty: in none, or unknown
	Enabled  Fact   // the cluster restarts machines of a dead host
	Restart  Fact   // and this one among them
	Override Fact   // the machine has settings of its own
}

// Sighting is something that vCenter wrote into its log about a restart of the virtual machine, or a failure of a host.
type Sighting struct {
	At   time.Time `json:"at"`             // by vCenter's clock
	Type string    `json:"type"`           // of the event; of an EventEx its ID
	Host string    `json:"host,omitempty"` // on which the machine was, or which failed
	Text string    `json:"text"`           // vCenter's own
}
