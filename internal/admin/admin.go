// Package admin holds the shapes that the plugin and the mooring command exchange over the plugin's admin socket: HTTP with
// JSON bodies on a Unix socket that only root can open.
//
// It promises that an error crosses the socket with its text, its hint and its sentinel ([ProblemOf], [Problem.Err]), and
// that a key once published keeps its meaning. It does no I/O and decides nothing: the plugin fills the shapes, the
// command shows them.
package admin

import (
	"net/url"
	"time"

	"github.com/mooring-sh/mooring"
)

// DefaultSocket is where the plugin listens for administrators.
const DefaultSocket = "/run/mooring/admin.sock"

// SocketEnv names the environment variable with which the command is told of another socket.
const SocketEnv = "MOORING_ADMIN_SOCKET"

// The paths that the plugin serves. One volume is at [VolumePath].
const (
	VolumesPath = "/v1/volumes"        // GET: Volumes
	StatusPath  = "/v1/status"         // GET: Status
	DoctorPath  = "/v1/doctor"         // GET: Doctor; asks vCenter
	RebuildPath = "/v1/ledger/rebuild" // POST: Rebuilt; served only while no generation of the ledger can be read
	// ResetPath, POST: restarts the machine at once, so that success is hardly ever heard of.
	ResetPath = "/v1/reset"
	// RestartsPath, GET: Restarts; asks vCenter for at most ten seconds. Its parameter since is a time as RFC 3339 has it.
	RestartsPath = "/v1/restarts"
)

// VolumePattern is [VolumePath] as net/http's ServeMux spells it: PathValue("name") is the unescaped name.
const VolumePattern = "GET " + VolumesPath + "/{name}"

// ReleasePattern is [ReleasePath] as net/http's ServeMux spells it. POST Release: Released.
const ReleasePattern = "POST " + VolumesPath + "/{name}/release"

// ReleasePath returns the path at which the plugin removes another machine's claim on the volume.
func ReleasePath(name mooring.Name) string { return VolumePath(name) + "/release" }

// VolumePath returns the path of one volume, whose name may hold any character that [mooring.ParseName] lets pass.
func VolumePath(name mooring.Name) string { return VolumesPath + "/" + url.PathEscape(string(name)) }

// Volumes answers [VolumesPath]. Volumes is sorted by name.
type Volumes struct {
	Volumes []View `json:"volumes"`
}

// View is what one volume is and how it is doing, as the plugin sees it without asking vCenter.
type View struct {
	Name      mooring.Name       `json:"name"`
	Size      string             `json:"size"` // as mooring.Size prints it: "10gb"
	SizeBytes mooring.Size       `json:"size_bytes"`
	FSType    mooring.FSType     `json:"fstype"`
	Policy    mooring.PolicyName `json:"policy"`  // asked for; empty: the datastore's default
	Profile   mooring.ProfileID  `json:"profile"` // last applied
	Backing   mooring.Backing    `json:"backing"`
	Datastore string             `json:"datastore"`
	Disk      mooring.DiskID     `json:"disk"`
	Created   time.Time          `json:"created,omitzero"`
	CreatedBy string             `json:"created_by"` // the VM's name
	Format    mooring.Format     `json:"format"`

	Mountpoint string   `json:"mountpoint"` // what Docker gets; empty unless mounted
	Attached   bool     `json:"attached"`   // to the VM that answers
	Mounted    bool     `json:"mounted"`
	Holders    []Holder `json:"holders"`

	PolicyApplied    mooring.PolicyName `json:"policy_applied"`  // by Mooring, when it made or last attached the disk
	PolicyReported   mooring.PolicyName `json:"policy_reported"` // by vCenter, when it last saw the disk attached
	Compliance       string             `json:"compliance"`      // SPBM's complianceStatus; empty if never reported
	PolicyReportedAt time.Time          `json:"policy_reported_at,omitzero"`

	Sidecar    Sidecar     `json:"sidecar"`
	Conditions []Condition `json:"conditions"`
}

// NewView returns the view of vol that vol itself determines; who fills in the rest knows its mounts and attachments.
func NewView(vol mooring.Volume) View {
	return View{
		Name:      vol.Name,
		Size:      vol.Size.String(),
		SizeBytes: vol.Size,
		FSType:    vol.FSType,
		Policy:    vol.Policy,
		Profile:   vol.Profile,
		Backing:   vol.Backing,
		Datastore: vol.Backing.Datastore(),
		Disk:      vol.Disk,
		Created:   vol.Created,
		CreatedBy: vol.CreatedBy,
		Format:    vol.Format,
		Holders:   []Holder{},
		Sidecar:   SidecarUnknown,

		Conditions: []Condition{},
	}
}

// Holder is a mount ID that Docker has not let go.
type Holder struct {
	ID    mooring.MountID `json:"id"`
	Count int             `json:"count"` // docker cp reuses a running container's ID
}

// Sidecar says whether the record beside a disk was there when it was last looked for.
type Sidecar string

// What is known of a sidecar.
const (
	SidecarPresent Sidecar = "present"
	SidecarMissing Sidecar = "missing" // such a volume works and is never formatted
	SidecarUnknown Sidecar = "unknown" // not looked for yet
)

// Condition is one thing that is wrong, with its cure.
type Condition struct {
	Code     string   `json:"code"` // stable, for scripts: "missing", "taken"
	Severity Severity `json:"severity"`
	Title    string   `json:"title"` // a few words
	Text     string   `json:"text"`  // a sentence that names the things
	Cure     string   `json:"cure"`  // what to do, as a command where there is one
	// Retried: what is wrong is tried again by itself, again and again, and may go without anybody's doing.
	Retried bool `json:"retried,omitempty"`
}

// Severity says how much a condition hurts.
type Severity string

// The severities, the worst last.
const (
	Warning Severity = "warning" // everything works; somebody should look
	Failing Severity = "failing" // something does not work until the condition is cured
)

// Status answers [StatusPath].
type Status struct {
	Version    string      `json:"version"`
	VM         string      `json:"vm"` // the VM that answers, by its name in vCenter
	VCenter    VCenter     `json:"vcenter"`
	Volumes    int         `json:"volumes"`
	Mounted    int         `json:"mounted"`
	Held       int         `json:"held"`
	Conditions []Condition `json:"conditions"` // of the plugin itself and of all its volumes
}

// VCenter says how the plugin last found the vCenter that it uses.
type VCenter struct {
	URL       string `json:"url"` // without credentials
	Reachable bool   `json:"reachable"`
	Error     string `json:"error"` // why not; empty when reachable
}

// Doctor answers [DoctorPath].
type Doctor struct {
	Version string  `json:"version"` // of the plugin
	VM      string  `json:"vm"`
	Checks  []Check `json:"checks"`
}

// Check is one thing that was looked at.
type Check struct {
	Code   string `json:"code"` // stable, for scripts
	Result Result `json:"result"`
	Title  string `json:"title"` // a few words
	Text   string `json:"text"`  // what was found
	Cure   string `json:"cure,omitempty"`
}

// Result says what a check came to.
type Result string

// The results.
const (
	Fine   Result = "ok"
	Note   Result = "note"    // as it should be, and worth knowing
	Untold Result = "unknown" // nobody here may or can say
	Warns  Result = "warning" // everything works, and will not always
	Fails  Result = "failing" // something does not work
)

// Wants reports whether somebody should do something about the result.
func (r Result) Wants() bool { return r == Warns || r == Fails }

// Restarts answers [RestartsPath]: evidence, on which nothing may hang.
type Restarts struct {
	Sightings []mooring.Sighting `json:"sightings"` // the oldest first
}

// Release asks for the removal of a volume's disk from the configuration of a machine that is powered off.
type Release struct {
	From string `json:"from"` // the machine's name in vCenter
}

// Released answers [ReleasePattern].
type Released struct {
	Volume   mooring.Name `json:"volume"`
	From     string       `json:"from"`
	Released bool         `json:"released"` // false: the machine did not have the disk
}

// Rebuilt answers [RebuildPath].
type Rebuilt struct {
	Volumes int `json:"volumes"`
}
