package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/image"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
)

// node is a virtual machine of the lab.
type node struct {
	name     string
	bios     string
	instance string
	address  string // among the machines
	suite    image.Suite
	image    image.Image
	dir      string
	machine  *qemu.Machine
	pullPlug func() error // whatever else has ended

	mu  sync.Mutex
	cut map[string]bool // networks whose cable is pulled
}

// newNode names the machine with the number, from 1 on. The UUIDs are as vSphere makes them: the BIOS's begins with 42, the instance's with 50.
func newNode(number int, dir string) *node {
	return &node{
		name:     fmt.Sprintf("docker%d", number),
		bios:     fmt.Sprintf("42110000-0000-4000-8000-%012x", 0xd0+number),
		instance: fmt.Sprintf("50110000-0000-4000-8000-%012x", 0xd0+number),
		address:  fmt.Sprintf("10.77.0.%d", number),
		dir:      filepath.Join(dir, fmt.Sprintf("docker%d", number)),
		cut:      map[string]bool{},
	}
}

func (n *node) root() string { return filepath.Join(n.dir, "root.raw") }

// discard removes what is the machine's but for its console.
func (n *node) discard() error {
	entries, err := os.ReadDir(n.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	console := filepath.Base(n.machine.ConsoleFile())
	for _, e := range entries {
		if e.Name() != console {
			errs = append(errs, os.RemoveAll(filepath.Join(n.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// emulator is the program that package qemu runs.
const emulator = "qemu-system-x86_64"

// makeMachines gets the images and makes every machine, switched off.
func (c *Cluster) makeMachines(ctx context.Context) error {
	if _, err := exec.LookPath(emulator); err != nil { // before an image is built, which takes minutes
		return &mooring.HintError{Err: fmt.Errorf("%w: %w", err, mooring.ErrNotFound), Hint: "apt-get install qemu-system-x86 debootstrap"}
	}
	agent, err := c.agent(ctx)
	if err != nil {
		return err
	}
	images := map[image.Suite]image.Image{}
	for i := range c.opts.VMs {
		suite := c.opts.Suites[min(i, len(c.opts.Suites)-1)]
		if _, ok := images[suite]; !ok {
			img, err := image.Get(ctx, image.Options{Suite: suite, Cache: c.opts.Cache, Say: c.opts.Say})
			if err != nil {
				return fmt.Errorf("get image of %s: %w", suite, err)
			}
			images[suite] = img
		}
	}
	accel := c.opts.Accel
	if accel == "" {
		var reason string
		accel, reason = qemu.Probe(ctx, images[c.opts.Suites[0]].Kernel)
		c.log.Info("looked for KVM", "accel", string(accel), "reason", reason)
	}
	for i := range c.opts.VMs {
		n := newNode(i+1, c.path(machinesDir))
		n.suite = c.opts.Suites[min(i, len(c.opts.Suites)-1)]
		n.image = images[n.suite]
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return fmt.Errorf("make %s: %w", n.name, err)
		}
		if err := copySparse(ctx, n.image.Root, n.root()); err != nil {
			return fmt.Errorf("make %s: %w", n.name, err)
		}
		cfg := c.config(n)
		cfg.Agent, cfg.Accel = agent, accel
		if n.machine, err = qemu.New(cfg); err != nil {
			return err
		}
		n.pullPlug = func() error { return n.machine.PowerOff(context.WithoutCancel(ctx)) }
		c.vms = append(c.vms, n)
	}
	return nil
}

func (c *Cluster) config(n *node) qemu.Config {
	cfg := qemu.Config{
		Name: n.name, Dir: n.dir, BIOS: n.bios,
		Kernel: n.image.Kernel, Initrd: n.image.Initrd, Root: n.root(),
		Append:   fmt.Sprintf("%s mooring.name=%s mooring.ip=%s", n.image.Append, n.name, n.address),
		MemoryMB: c.opts.MemoryMB, CPUs: c.opts.CPUs, VCenter: true, Guests: &c.net,
		Log:   c.log,
		OnEnd: func(byGuest bool) { c.ended(n.name, byGuest) },
	}
	if c.opts.OnLine != nil {
		cfg.OnLine = func(stream, line string) { c.opts.OnLine(n.name, stream, line) }
	}
	return cfg
}

// Fresh gives the machine the root disk that it had in the beginning, which none of the packages is installed on yet, and boots it. Its volumes stay
// in its configuration. It returns when the machine is as [Start] has left it.
func (c *Cluster) Fresh(ctx context.Context, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if n.machine.Running() {
		if err := c.PowerOff(name); err != nil {
			return err
		}
	}
	if err := copySparse(ctx, n.image.Root, n.root()); err != nil {
		return fmt.Errorf("renew %s: %w", name, err)
	}
	if err := c.PowerOn(name); err != nil {
		return err
	}
	return c.settle(ctx, n)
}
