package supervisor

import (
	"time"

	"github.com/mooring-sh/mooring"
)

// Observation is all that [Step] knows of the world: what was seen at one moment.
type Observation struct {
	Now      time.Time
	Boot     Boot
	Docker   Reach
	Plugin   Reach // matters only to services that need volumes
	Project  Reach
	Volumes  []Volume
	Services []Service // in no order that matters
	Doors    Answer    // the last one
	Storage  Storage   // of the registry; matters only while it is known which services there are
	Images   ImagesState

	Underway []Action           // begun, and not ended yet
	Ended    []Outcome          // since the last observation
	Evidence []mooring.Sighting // what vCenter told since the last observation
	Heal     bool               // a person asked that everything be tried again that was given up
	Up       bool               // a person asked for that, and for what was stopped by a person to be started
}

// StackState is what [Stack.Observe] sees.
type StackState struct {
	Docker, Project Reach
	Services        []Service
	Storage         Storage
}

// Boot is this run of the guest's kernel.
type Boot struct {
	ID      mooring.BootID
	Started time.Time
	// Seen is when the boot before it was last seen to run; zero where there is no telling.
	Seen time.Time
	// Clean says whether the boot before it ended in order. Unknown where there is no telling: the first start of all, or a record that was damaged.
	Clean mooring.Fact
}

// Reach says whether something could be reached. The zero value says that it could.
type Reach struct {
	Err  string `json:"err,omitempty"` // why not: a sentence without a full stop
	Cure string `json:"cure,omitempty"`
	// Pending: it is being tried for the first time, which ends, and there is nothing to go by until then.
	Pending bool `json:"pending,omitempty"`
}

// OK reports that it could.
func (r Reach) OK() bool { return r.Err == "" }

// Volume is how one of the plugin's volumes is doing.
type Volume struct {
	Name  mooring.Name `json:"name"`
	State VolumeState  `json:"state"`
	Text  string       `json:"text,omitempty"` // what is wrong, naming who has the disk
	Cure  string       `json:"cure,omitempty"`
}

// VolumeState says what a service that needs the volume would find.
type VolumeState string

// The states of volumes.
const (
	VolumeMounted  VolumeState = "mounted"
	VolumePresent  VolumeState = "present"  // attached; the start of a container mounts it
	VolumeAbsent   VolumeState = "absent"   // detached, and nothing is known against it: the start of a container attaches it
	VolumeFetching VolumeState = "fetching" // the plugin tries to attach or mount it, again and again
	VolumeFenced   VolumeState = "fenced"   // another host or virtual machine may still write to the disk; the plugin tries again and again
	VolumeTaken    VolumeState = "taken"    // another machine has the disk; it stays so until a person decides
	VolumeDamaged  VolumeState = "damaged"  // it cannot be mounted; it stays so until a person has done something
)

// ServiceName is the name of a service in the compose project.
type ServiceName string

// Service is one service of the project, with its container. A service with several containers is as well as the worst of them.
type Service struct {
	Name ServiceName
	// Needs are the volumes of Mooring's driver that the service mounts, Dirs all directories for data that it mounts: of volumes that are
	// mounted, and of the host.
	Needs []mooring.Name
	Dirs  []Dir
	// After are the services that it depends on. A circle is broken by the stack.
	After []ServiceName
	Entry bool // the door: nobody reaches the stack but through it
	Cache bool // it holds copies of what disks of other services say, which are wrong after an unclean stop

	State     ContainerState
	Exit      int    // the exit code of a container that has ended
	Error     string // why Docker could not start it, in Docker's words
	Restarts  int    // by Docker, since it was last started
	Lost      bool   // it ran when dockerd was killed, and the next one reaches it by nothing; State is Dead then
	StartedAt time.Time
	// Ready: it does what it is there for, by its health check or by the profile's question. A service that runs once and has ended well is
	// ready. Unknown: there is nothing to ask by; then it counts as ready once it has run for some seconds.
	Ready    mooring.Fact
	ReadyWhy string // why it is not ready
	// Asking: nobody can tell yet. The supervisor or the container has just started, and the first question has no answer. Ready is No until then.
	Asking bool
	// Stopped: Yes when a person was seen to stop, pause or remove it, which the end of dockerd itself does not look like; No when it was seen to end otherwise.
	// Unknown where nobody looked: then what the journal says of it stands.
	Stopped mooring.Fact
}

// ContainerState is the state of a service's container, in Docker's words, or missing.
type ContainerState string

// The states of containers.
const (
	Missing    ContainerState = "missing" // there is none
	Created    ContainerState = "created"
	Running    ContainerState = "running"
	Restarting ContainerState = "restarting" // Docker will start it again by itself
	Exited     ContainerState = "exited"
	Paused     ContainerState = "paused"
	Dead       ContainerState = "dead"
)

// Dir is a directory for data that a service mounts, as it is now.
type Dir struct {
	Path string
	UID  int // who will write there
	// Mounted is No for a directory that must be a mount point and is none, and else Yes or Unknown.
	Mounted mooring.Fact
	// Writable is No if the user UID cannot write there: a mode, a read-only filesystem, a mount point made immutable. Unknown: not tried.
	Writable mooring.Fact
	Why      string // why not mounted or not writable
	Cure     string
}

// Answer is what the stack's doors said.
type Answer struct {
	At    time.Time `json:"at,omitzero"` // zero: never asked
	Right bool      `json:"right"`
	Text  string    `json:"text,omitempty"` // what was asked and what came back; for a wrong answer what was wrong with it
}

// Verb is a kind of action.
type Verb string

// The kinds of actions.
const (
	Start   Verb = "start"
	Restart Verb = "restart"
	Reload  Verb = "reload"
	Flush   Verb = "flush"
	Ask     Verb = "ask"    // the doors; no service
	Notify  Verb = "notify" // whoever wants to know that the recovery has settled or failed; no service
	Verify  Verb = "verify" // the images, tiers 1 and 2; no service, as of all that follow
	Keep    Verb = "keep"   // the manifest fresh; ends when it has to
	Rehash  Verb = "rehash" // the images' blobs: tier 3
	LetGo   Verb = "let go" // end Verify, Keep and Rehash; it has no outcome of its own
)

// Action is something that is to be done now. One whose like is under way is not asked for again.
type Action struct {
	Verb    Verb
	Service ServiceName
}

// Outcome is how an action ended.
type Outcome struct {
	Action

	Began, At time.Time // At: when it ended
	Err       string    // empty: done
}
