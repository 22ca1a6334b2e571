// Package cluster is a lab of machines that really boot, hang and die: a vCenter with a real one's rules (package vcenter), whose hosts are
// simulated and whose virtual machines are QEMU's (package qemu), each with Debian, systemd and Docker inside (package image).
//
// It promises that the root disk of a machine survives everything but [Cluster.Fresh], that several labs may be up at once, each in a
// directory of its own, and that after Close no process, socket or file of it is left but what the consoles printed. A lab that is killed takes
// its machines with it; what it leaves on disk the next one in that directory removes, or [Sweep].
//
// It installs nothing in the guests by itself, and runs no plugin: that is systemd's business there, once a package is installed.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/agent"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/image"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// Options says what the lab is to be. Only Dir must be given.
type Options struct {
	Dir       string        // everything of the lab's is put there; made if absent, and locked
	VMs       int           // virtual machines; 0 means two
	Hosts     int           // 0 means three
	Suites    []image.Suite // of the machines, one after the other; the last goes for the rest. None means Debian 13
	MemoryMB  int           // of each machine; 0 means 1536
	CPUs      int           // of each machine; 0 means 1
	Accel     qemu.Accel    // of all machines; empty means KVM where it works, and otherwise software emulation
	TimeScale float64       // how much faster than in vSphere HA acts; 0 means 1
	HA        vcenter.HA
	Busy      bool         // a second operation on a machine fails with TaskInProgress
	Listen    string       // of the vCenter; empty means a free port on 127.0.0.1
	Cache     string       // of the images; empty means as package image has it
	Agent     string       // static program for the guests' side; empty means that it is built with the go command
	Packages  []string     // files with Debian packages that every machine gets, in this order
	Files     []File       // that every machine gets
	Log       *slog.Logger // nil: silent
	Say       io.Writer    // gets a line for each step; nil: nobody
	// OnLine gets the lines that processes in the guests write to the agent's socket.
	OnLine func(vm, stream, line string)
}

// File is a file that is put into a guest.
type File struct {
	Path string
	Mode fs.FileMode
	Text string
}

// In the directory of the lab.
const (
	machinesDir = "vms"    // what is the machines'
	caFile      = "ca.pem" // vCenter's
)

// Cluster is a lab that is up. The vCenter's methods are its own.
type Cluster struct {
	*vcenter.VCenter

	opts Options
	log  *slog.Logger
	lock *os.File
	net  qemu.Network
	vms  []*node

	mu     sync.Mutex
	vc     *vcenter.VCenter // nil until it is up
	closed bool
}

// Start gets the images, starts the vCenter, which powers the machines on, and returns when each is up with what [Options] wants in it. It fails
// with [mooring.ErrInUse] while another lab is up in the directory.
func Start(ctx context.Context, opts Options) (c *Cluster, err error) {
	opts = opts.complete()
	c = &Cluster{opts: opts, log: opts.Log}
	if c.lock, err = control.Claim(opts.Dir, machinesDir, control.Datastores); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
			c = nil
		}
	}()
	if err := os.RemoveAll(c.path(machinesDir)); err != nil {
		return c, fmt.Errorf("clear machines of an earlier lab: %w", err)
	}
	if err := c.makeMachines(ctx); err != nil {
		return c, err
	}
	c.sayf("booting %s", strings.Join(c.Names(), ", "))
	if err := c.startVCenter(ctx); err != nil {
		return c, err
	}
	return c, c.each(ctx, c.settle)
}

// complete returns the options with the defaults for what is not given.
func (o Options) complete() Options {
	if o.VMs == 0 {
		o.VMs = 2
	}
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if len(o.Suites) == 0 {
		o.Suites = []image.Suite{image.Trixie}
	}
	if o.MemoryMB == 0 {
		o.MemoryMB = 1536
	}
	if o.CPUs == 0 {
		o.CPUs = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Say == nil {
		o.Say = io.Discard
	}
	return o
}

// startVCenter builds the inventory and powers the machines on.
func (c *Cluster) startVCenter(ctx context.Context) error {
	var vms []vcenter.VM
	for _, n := range c.vms {
		vms = append(vms, vcenter.VM{Name: n.name, BIOS: n.bios, Instance: n.instance, Guest: n.machine})
	}
	vc, err := vcenter.Start(ctx, vcenter.Options{
		Dir: c.opts.Dir, Listen: c.opts.Listen, Log: c.log, Busy: c.opts.Busy, Hosts: c.opts.Hosts, VMs: vms,
		HA: c.opts.HA, TimeScale: c.opts.TimeScale,
	})
	if err != nil {
		return fmt.Errorf("start vCenter: %w", err)
	}
	c.mu.Lock()
	c.VCenter, c.vc = vc, vc
	c.mu.Unlock()
	return control.WritePasswords(c.opts.Dir, vc)
}

// ended tells vCenter that a machine went off by itself.
func (c *Cluster) ended(name string, byGuest bool) {
	c.mu.Lock()
	vc := c.vc
	c.mu.Unlock()
	switch {
	case vc == nil: // it did not live to see its vCenter, which Start reports
	case byGuest:
		vc.PoweredOff(name)
	default:
		vc.Crashed(name)
	}
}

// each does something with every machine, all at once. The first error ends the rest.
func (c *Cluster) each(ctx context.Context, do func(context.Context, *node) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, n := range c.vms {
		wg.Go(func() {
			if err := do(ctx, n); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.opts.Dir}, elem...)...)
}

func (c *Cluster) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.opts.Say, format+"\n", args...)
}

// Dir returns the lab's directory.
func (c *Cluster) Dir() string { return c.opts.Dir }

// Env returns the environment with which govc, and every command of Mooring's that logs in as the administrator, finds the vCenter.
func (c *Cluster) Env() []string { return control.Env(c.VCenter) }

// Names returns the names of the virtual machines: docker1, docker2, and so on.
func (c *Cluster) Names() []string {
	var names []string
	for _, n := range c.vms {
		names = append(names, n.name)
	}
	return names
}

// VM returns the machine of that name, nil if there is none.
func (c *Cluster) VM(name string) *qemu.Machine {
	n, err := c.node(name)
	if err != nil {
		return nil
	}
	return n.machine
}

func (c *Cluster) node(name string) (*node, error) {
	i := slices.IndexFunc(c.vms, func(n *node) bool { return n.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no virtual machine %q, there are %s: %w", name, strings.Join(c.Names(), ", "), mooring.ErrNotFound)
	}
	return c.vms[i], nil
}

// Close ends the vCenter, pulls the plug of every machine, removes their disks, and lets go of the directory. What the consoles printed stays.
func (c *Cluster) Close() error {
	c.mu.Lock()
	vc := c.vc
	closed := c.closed
	c.vc, c.closed = nil, true
	c.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	if vc != nil { // first: HA would start them again
		errs = append(errs, vc.Close())
	}
	for _, n := range c.vms {
		errs = append(errs, n.pullPlug())
	}
	c.net.Wait()
	for _, n := range c.vms {
		errs = append(errs, n.discard())
	}
	for _, name := range [...]string{control.Datastores, control.AdminPassword, control.PluginPassword, caFile, path.Join(machinesDir, agent.Program)} {
		errs = append(errs, os.RemoveAll(c.path(name)))
	}
	return errors.Join(append(errs, c.lock.Close())...)
}

// Sweep removes what labs of this kind that were killed have left in the directories, as far as it is large.
func Sweep(dirs []string) error {
	ours := slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, machinesDir))
		return err != nil
	})
	return control.Sweep(ours, machinesDir, control.Datastores)
}

// RemoveConsoles removes what [Cluster.Close] has left in the directory.
func RemoveConsoles(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, machinesDir)); err != nil {
		return fmt.Errorf("remove consoles: %w", err)
	}
	return nil
}
