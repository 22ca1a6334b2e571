// Package qemu is a guest of the lab that really boots and dies: one QEMU process for each time that the machine is on. Disks and controllers are plugged
// by QMP, commands run through the agent inside (package agent).
//
// It promises that a machine whose power is cut has lost its memory and nothing else: what the guest was told is written, is in the extent, for QEMU caches
// no write. It promises that a disk is open in one machine at a time, by a lock that QEMU itself holds on the extent; and that no QEMU outlives the program
// that started it, however that ends.
//
// It never decides who may have a disk or where a machine runs: that is the vCenter's business (package vcenter).
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/agent"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// Config is what stays of a machine while its power comes and goes.
type Config struct {
	Name string
	Dir  string // for the console's file, QEMU's complaints and the initrd; must exist
	BIOS string // UUID that the firmware tells the guest, in vSphere's byte order

	Kernel string
	Initrd string // empty: none but the agent's
	Append string // the kernel's command line; without console=ttyS0 the console's file stays empty
	Agent  string // static program that becomes /mooring-agent in the initrd; empty: the initrd has what it needs

	Root  string // raw image that the guest boots from, read and written; empty: none
	Tools string // raw image for a disk that cannot be written, with the serial number "tools"; empty: none

	MemoryMB int   // 0: 1024
	CPUs     int   // 0: 1
	Accel    Accel // as [Probe] found out; the zero value is software emulation

	// VCenter gives the guest a network interface from which 10.0.2.2 is this machine's loopback. Its MAC address begins with 52:54:00, it is the first.
	VCenter bool
	// Guests gives it one to the other machines of this network. Its MAC address begins with 52:54:01, it is the second. nil: none.
	Guests *Network

	Log *slog.Logger // nil: silent
	// OnLine gets the lines that processes of the guest write to the agent's socket.
	OnLine func(stream, line string)
	// OnEnd is told that the machine went off though nobody had called PowerOff: byGuest if the guest did that, else QEMU has died.
	OnEnd func(byGuest bool)
}

// Command is what [Machine.Exec] runs in the guest.
type Command = agent.Command

// Machine is a machine with power of its own. Its methods may be called from any goroutine; power operations wait for each other, but for PowerOff, which
// waits for nothing.
type Machine struct {
	cfg    Config
	log    *slog.Logger
	initrd string

	power sync.Mutex      // held by who starts or restarts it, and guards what follows
	cut   map[string]bool // network interfaces without a link

	mu     sync.Mutex
	proc   *process // nil: off
	asked  *process // that PowerOff or Reset ended
	frozen bool
	booted chan struct{} // closed, and made anew, when an agent says hello
}

var (
	_ vcenter.Powered = (*Machine)(nil)
	_ vcenter.Grower  = (*Machine)(nil)
	_ vcenter.Bus     = (*Machine)(nil)
	_ vcenter.Beating = (*Machine)(nil)
	_ vcenter.Pausing = (*Machine)(nil)

	_ vcenter.Obedient = (*Machine)(nil)
)

// New returns a machine that is off.
func New(cfg Config) (*Machine, error) {
	m := &Machine{cfg: cfg, log: cfg.Log, initrd: cfg.Initrd, booted: make(chan struct{}), cut: map[string]bool{}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.log = m.log.With("vm", cfg.Name)
	if cfg.Name == "" || cfg.Kernel == "" || cfg.BIOS == "" {
		return nil, fmt.Errorf("make machine %q: it needs a name, a kernel and a BIOS UUID: %w", cfg.Name, mooring.ErrInvalid)
	}
	if cfg.Agent != "" {
		m.initrd = filepath.Join(cfg.Dir, "initrd")
		if err := PackInitrd(cfg.Initrd, cfg.Agent, m.initrd); err != nil {
			return nil, fmt.Errorf("make machine %s: %w", cfg.Name, err)
		}
	}
	return m, nil
}

// Name returns the machine's name.
func (m *Machine) Name() string { return m.cfg.Name }

// ConsoleFile returns the file that gets what the guest writes to its serial console, of all boots, each after a line that begins with "=== ".
func (m *Machine) ConsoleFile() string { return filepath.Join(m.cfg.Dir, "console.log") }

// complaints is the file that gets what QEMU itself writes.
func (m *Machine) complaints() string { return filepath.Join(m.cfg.Dir, "qemu.log") }

// Running says whether the machine is on. A frozen one is.
func (m *Machine) Running() bool { return m.current() != nil }

func (m *Machine) current() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proc
}

// on returns the process of a machine that is on. The error wraps [mooring.ErrUnavailable].
func (m *Machine) on() (*process, error) {
	if p := m.current(); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("machine %s is off: %w", m.cfg.Name, mooring.ErrUnavailable)
}

// Heartbeat returns when the agent in the guest last gave a sign of life; zero: not since power-on.
func (m *Machine) Heartbeat() time.Time {
	if p := m.current(); p != nil {
		return p.agent.Heartbeat()
	}
	return time.Time{}
}

// Boot returns the ID of the guest's boot, as its agent told; empty while none answers.
func (m *Machine) Boot() string {
	if p := m.current(); p != nil {
		return p.agent.Boot()
	}
	return ""
}

// AwaitBoot waits until the agent of a boot other than the given one answers, through as many power cycles as it takes, and returns that boot's ID.
func (m *Machine) AwaitBoot(ctx context.Context, other string) (string, error) {
	for {
		m.mu.Lock()
		booted := m.booted
		m.mu.Unlock()
		if boot := m.Boot(); boot != "" && boot != other {
			return boot, nil
		}
		select {
		case <-booted:
		case <-ctx.Done():
			return "", fmt.Errorf("await a boot of %s: %w", m.cfg.Name, errors.Join(context.Cause(ctx), mooring.ErrUnavailable))
		}
	}
}

// tellBoot wakes those who await a boot.
func (m *Machine) tellBoot(boot string) {
	m.log.Info("guest answers", "boot", boot)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.booted)
	m.booted = make(chan struct{})
}

// Exec runs a command in the guest, see [agent.Client.Run]. The error wraps [mooring.ErrUnavailable] when the machine is off or no agent answers, and when the
// machine went off or was reset meanwhile.
func (m *Machine) Exec(ctx context.Context, cmd Command) (int, error) {
	p, err := m.on()
	if err != nil {
		return 0, err
	}
	return p.agent.Run(ctx, cmd)
}

// Shell runs a script in the guest, see [agent.Client.Shell].
func (m *Machine) Shell(ctx context.Context, script string) (string, error) {
	p, err := m.on()
	if err != nil {
		return "", err
	}
	return p.agent.Shell(ctx, script)
}

// CopyIn writes a file of the guest, see [agent.Client.CopyIn].
func (m *Machine) CopyIn(ctx context.Context, r io.Reader, path string, mode fs.FileMode) error {
	p, err := m.on()
	if err != nil {
		return err
	}
	return p.agent.CopyIn(ctx, r, path, mode)
}

// CopyOut reads a file of the guest, see [agent.Client.CopyOut].
func (m *Machine) CopyOut(ctx context.Context, path string, w io.Writer) error {
	p, err := m.on()
	if err != nil {
		return err
	}
	return p.agent.CopyOut(ctx, path, w)
}

// appendFile opens a file that grows with every boot.
func appendFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the lab's own directory
}
