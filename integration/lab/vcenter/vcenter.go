// Package vcenter is a simulated vCenter (govmomi's vcsim) with the rules that a real one has and vcsim lacks: disks
// are locked by the virtual machine that runs with them, hosts die and HA restarts what ran on them, a device specification is checked as a whole before anything
// changes, disks have a size, a UUID and real extents, first class disks are attached as devices, storage policies are enforced and reported, accounts have
// rights, and the service can be slow, full, faulty or gone.
//
// It promises that a request which a real vCenter refuses is refused here too, with the fault in the form (SOAP or
// task) in which a real one gives it, and that a refused request has changed nothing. Each rule has a test that also
// shows what vcsim alone answers.
//
// It never touches block devices or mounts: that is the business of the [Guest] which is told what a virtual machine gains and loses.
package vcenter

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// Disk is a virtual disk as the guest of a virtual machine meets it.
type Disk struct {
	UUID     string // 8-4-4-4-12, lower case
	Backing  string // "[vsanDatastore] <folder>/x.vmdk", as the hardware list has it
	Extent   string // the file on this machine that holds the disk's bytes
	Capacity int64  // bytes

	Controller int // bus number of its SCSI controller, 0 to 3
	Unit       int // on the controller
}

// Guest is what runs inside a virtual machine, as far as its disks are concerned. Calls for one guest do not overlap;
// their context ends when the machine is killed or reset meanwhile, and they must end with it.
type Guest interface {
	// Plug makes the disk appear in the guest. An error undoes the whole reconfiguration.
	Plug(ctx context.Context, d Disk) error
	// Unplug takes the disk away, whether or not the guest uses it, as hardware does.
	Unplug(ctx context.Context, d Disk) error
}

// Grower is a guest that notices when a disk becomes larger.
type Grower interface {
	Grow(ctx context.Context, d Disk) error
}

// Bus is a guest that notices when a SCSI controller comes or goes.
type Bus interface {
	// AddController makes the controller with the bus number appear, which is in 1 to 3.
	AddController(ctx context.Context, bus int) error
	// RemoveController takes it away; it has no disks by then.
	RemoveController(ctx context.Context, bus int) error
}

// Hardware is what a virtual machine boots with.
type Hardware struct {
	Host        string // that runs it
	Controllers []int  // bus numbers of its SCSI controllers
	Disks       []Disk // without those that it boots from
}

// Powered is a guest with power of its own: a machine that boots and dies. A guest that is none is there whenever its virtual machine is on.
// What the guest does to its own power, it tells by [VCenter.PoweredOff] or [VCenter.Crashed].
type Powered interface {
	Guest
	// PowerOn boots the machine with this hardware. It returns when the machine runs, not when its guest is up.
	PowerOn(ctx context.Context, hw Hardware) error
	// PowerOff pulls the plug, of a frozen machine too: the guest's memory is lost, what it was told is written is not. It returns when nothing of
	// the machine can write any more. Off already: nil. It is called after a failed PowerOn too.
	PowerOff(ctx context.Context) error
	// Reset restarts the machine, asking nobody. Its hardware stays.
	Reset(ctx context.Context) error
}

// Obedient is a guest that does what it is asked, as one with VMware's tools. It has not ended when the call returns.
type Obedient interface {
	Shutdown(ctx context.Context) error
	Reboot(ctx context.Context) error
}

// Beating is a guest with heartbeats, as VMware's tools send them.
type Beating interface {
	// Heartbeat returns when the last one came; zero: none since power-on.
	Heartbeat() time.Time
}

// Pausing is a machine whose clock can be stopped, which is all that is seen of a suspended one: its memory stays where it is.
type Pausing interface {
	Freeze() error
	Thaw() error
}

// VM describes a virtual machine of the inventory.
type VM struct {
	Name     string
	BIOS     string // config.uuid
	Instance string // config.instanceUuid
	Guest    Guest  // nil: nobody notices what is plugged
	Off      bool   // it is not powered on at the start
}

// Account is a user with the rights it has. The administrator has every right.
type Account struct {
	User, Password string
}

// Options says what the vCenter is to be. The zero value of each field but Dir has a meaning of its own.
type Options struct {
	Dir      string       // where datastores and the CA's certificate (ca.pem) are put; must exist
	Listen   string       // host:port; empty means a free port on 127.0.0.1
	Log      *slog.Logger // nil: silent
	Hosts    int          // hosts in the cluster; 0 means three
	VMs      []VM         // on vsanDatastore, powered on, one per host in turn
	Capacity int64        // bytes of each datastore; 0 means 1 TB for each host
	// Names are names and addresses by which the vCenter is reached too: its certificate is valid for them.
	Names []string
	// HA is what the cluster does when hosts and machines die.
	HA HA
	// TimeScale is how many times as fast the times of HA pass; 0 means 1.
	TimeScale float64
	// Privileges are those of the plugin's account; nil means [PluginPrivileges].
	Privileges []string
	// Busy makes a second operation on a virtual machine fail with TaskInProgress; otherwise it waits for the first.
	Busy bool
	// Plain leaves all rules out: vcsim as it is, for tests that show why a rule is needed.
	Plain bool
}

// VCenter is a running simulated vCenter. Its methods may be called from any goroutine.
type VCenter struct {
	opts    Options
	log     *slog.Logger
	service *simulator.Service
	reg     *simulator.Registry
	content types.ServiceContent
	dc      types.ManagedObjectReference
	cluster *cluster
	journal journal
	admin   Account
	plugin  Account
	server  *server

	ctx context.Context //nolint:containedctx // the life of the vCenter: tasks outlive the requests that started them
	end context.CancelFunc
	wg  sync.WaitGroup // tasks

	spbm *profiles

	counts  counters
	faults  injector
	queues  queues
	tickets tickets

	processes processes

	hw       sync.Mutex              // guards what follows, and makes check-and-reserve of disk files one step
	reserved map[string]reservation  // by file: disks that a running task is about to attach
	applied  map[string]string       // by disk UUID: the profile by which the object was placed
	attached map[association]string  // the profile that was given with an attached disk
	datasets map[string]*capacityUse // by datastore name
	shelf    map[string]shelved      // by configuration file: machines that are out of the inventory
}

// Start builds the inventory and serves it until [VCenter.Close].
func Start(ctx context.Context, opts Options) (*VCenter, error) {
	v := &VCenter{
		opts: opts, log: opts.Log,
		reserved: map[string]reservation{}, applied: map[string]string{}, attached: map[association]string{},
		datasets: map[string]*capacityUse{}, shelf: map[string]shelved{},
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.processes.of = map[types.ManagedObjectReference]*process{}
	v.ctx, v.end = context.WithCancel(context.WithoutCancel(ctx))
	v.admin = Account{User: "administrator@vsphere.local", Password: password()}
	v.plugin = Account{User: "mooring@vsphere.local", Password: password()}
	if err := v.build(ctx); err != nil {
		return nil, fmt.Errorf("build inventory: %w", err)
	}
	srv, err := newServer(v)
	if err != nil {
		return nil, err
	}
	v.server = srv
	v.wg.Go(v.cluster.run)
	if err := srv.start(); err != nil {
		return nil, err
	}
	return v, nil
}

// Close ends the service and the tasks that still run. Guests keep what was plugged into them.
func (v *VCenter) Close() error {
	err := v.server.stop()
	v.end()
	v.wg.Wait()
	return err
}

// URL returns the address of the SDK, https://host:port/sdk.
func (v *VCenter) URL() string { return "https://" + v.server.addr + vim25.Path }

// CAFile returns the file with the certificate of the authority that signed the service's.
func (v *VCenter) CAFile() string { return v.server.caFile }

// Thumbprint returns the SHA-256 thumbprint of the service's certificate, as pairs of hexadecimal digits with colons.
func (v *VCenter) Thumbprint() string { return v.server.thumbprint }

// Admin returns the administrator's account.
func (v *VCenter) Admin() Account { return v.admin }

// Plugin returns the account that the volume plugin is to use.
func (v *VCenter) Plugin() Account { return v.plugin }

// context returns a context for work outside a request, or for a task: locks that it takes are its own.
func (v *VCenter) context(user string) *simulator.Context {
	return &simulator.Context{
		Context: v.ctx,
		Session: &simulator.Session{
			UserSession: types.UserSession{Key: newUUID(), UserName: user},
			Registry:    simulator.NewRegistry(),
			Map:         v.reg,
		},
		Map: v.reg,
	}
}

// home is where datastores are put.
func (v *VCenter) home() (string, error) {
	dir := filepath.Join(v.opts.Dir, "datastores")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clear datastores: %w", err)
	}
	return dir, os.MkdirAll(dir, 0o700)
}
