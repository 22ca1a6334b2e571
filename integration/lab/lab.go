// Package lab is vSphere for people who have none: a vCenter with a real one's rules (package vcenter), the guest
// "this machine" (package loop), the volume plugin run as systemd would run it ([Unit]), and a Docker Engine ([Engine]).
// Tests use it in their own process; the command mooring-lab wraps it.
//
// It promises that whatever it made on the machine is gone after Close: sockets, loop devices, links, mounts of its
// own volumes, processes that it started. What was there before is used and left as it was.
//
// It keeps nothing: volumes do not survive the lab that they were made in. It never installs over, replaces or
// reconfigures a Docker Engine.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/loop"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// The virtual machines of the lab. The first is this machine; the second has no guest.
const (
	ThisVM  = "docker1"
	OtherVM = "docker2"

	ThisBIOS      = "42110000-0000-4000-8000-0000000000d1"
	ThisInstance  = "50110000-0000-4000-8000-0000000000d1"
	OtherBIOS     = "42110000-0000-4000-8000-0000000000d2"
	OtherInstance = "50110000-0000-4000-8000-0000000000d2"
)

// Options says what the lab is to be. Only Dir must be given.
type Options struct {
	Dir     string        // everything of the lab's is put there; made if absent, and locked
	Listen  string        // of the vCenter; empty means a free port on 127.0.0.1
	Log     *slog.Logger  // nil: silent
	LinkDir string        // where the guest's links are put; empty means /dev/disk/by-id
	Guest   vcenter.Guest // of the first machine; nil means this machine for root, and none for others
	Busy    bool          // a second operation on a machine fails with TaskInProgress
	Hosts   int           // of the cluster; 0 means three
}

// Lab is a running lab. The vCenter's methods are its own.
type Lab struct {
	*vcenter.VCenter

	dir  string
	log  *slog.Logger
	lock *os.File
	loop *loop.Guest // nil if the guest is another
}

// Start starts a vCenter with two virtual machines. It fails with [mooring.ErrInUse] while another lab is up in the directory.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	l := &Lab{dir: opts.Dir, log: opts.Log}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	lock, err := control.Claim(opts.Dir, stateDir, mountDir, control.Datastores)
	if err != nil {
		return nil, err
	}
	l.lock = lock
	if err := l.sweep(); err != nil {
		return nil, errors.Join(err, l.lock.Close())
	}
	guest := opts.Guest
	if guest == nil && os.Geteuid() == 0 {
		g, err := loop.New(opts.Dir, opts.LinkDir, l.log)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start guest: %w", err), l.lock.Close())
		}
		l.loop, guest = g, g
	}
	vc, err := vcenter.Start(ctx, vcenter.Options{
		Dir: opts.Dir, Listen: opts.Listen, Log: l.log, Busy: opts.Busy, Hosts: opts.Hosts,
		VMs: []vcenter.VM{
			{Name: ThisVM, BIOS: ThisBIOS, Instance: ThisInstance, Guest: guest},
			{Name: OtherVM, BIOS: OtherBIOS, Instance: OtherInstance},
		},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start vCenter: %w", err), l.lock.Close())
	}
	l.VCenter = vc
	if err := control.WritePasswords(l.dir, vc); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// The directories that a lab makes in its own, and clears when it starts.
const (
	stateDir = "state"
	mountDir = "mnt"
)

// sweep clears what an earlier lab left: its mounts, if it was killed, and what its plugin remembers of volumes that are gone.
func (l *Lab) sweep() error {
	if err := l.UnmountVolumes(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(l.dir, stateDir)); err != nil {
		return fmt.Errorf("clear the plugin's state: %w", err)
	}
	return nil
}

// Dir returns the lab's directory.
func (l *Lab) Dir() string { return l.dir }

// Env returns the environment with which govc, and every command of Mooring's that logs in as the administrator, finds the vCenter.
func (l *Lab) Env() []string { return control.Env(l.VCenter) }

// Violations returns the disks that were taken from this machine while something had them mounted. A plugin that works leaves none.
func (l *Lab) Violations() []loop.Violation {
	if l.loop == nil {
		return nil
	}
	return l.loop.Violations()
}

// Devices returns the device node of every disk that this machine has, by disk UUID.
func (l *Lab) Devices() map[string]string {
	if l.loop == nil {
		return nil
	}
	return l.loop.Devices()
}

// Close ends the vCenter, takes the disks from this machine, and lets go of the directory.
func (l *Lab) Close() error {
	err := l.VCenter.Close()
	if l.loop != nil {
		err = errors.Join(err, l.loop.Close())
	}
	return errors.Join(err, l.lock.Close())
}
