package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// The names of a machine's network interfaces, see [Machine.Link].
const (
	NICVCenter = "vcenter"
	NICGuests  = "guests"
)

// PowerOn boots the machine with this hardware. It returns when the machine runs, not when its guest is up. The error wraps [mooring.ErrExists] when it is on
// already, and [mooring.ErrFenced] when another QEMU has one of the disks.
func (m *Machine) PowerOn(ctx context.Context, hw vcenter.Hardware) error {
	m.power.Lock()
	defer m.power.Unlock()
	if err := m.powerOn(ctx, hw); err != nil {
		return fmt.Errorf("power on %s: %w", m.cfg.Name, err)
	}
	return nil
}

// powerOn is PowerOn for who holds m.power.
func (m *Machine) powerOn(ctx context.Context, hw vcenter.Hardware) error {
	if m.Running() {
		return fmt.Errorf("it is on: %w", mooring.ErrExists)
	}
	p, err := m.start(ctx, hw)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.proc, m.frozen = p, false
	m.mu.Unlock()
	if err := m.furnish(ctx, p, hw); err != nil {
		return errors.Join(err, m.complaint(p), p.kill(context.WithoutCancel(ctx)))
	}
	m.log.Info("machine is on", "host", hw.Host, "disks", len(hw.Disks), "pid", p.cmd.Process.Pid)
	return nil
}

// furnish gives a machine that has not begun to run what it boots with, and lets it run. The caller holds m.power.
func (m *Machine) furnish(ctx context.Context, p *process, hw vcenter.Hardware) error {
	if err := p.qmp.do(ctx, "qmp_capabilities", nil); err != nil {
		return err
	}
	for nic := range m.cut {
		if err := p.qmp.do(ctx, "set_link", args{"name": nic, "up": false}); err != nil {
			return err
		}
	}
	for _, d := range hw.Disks {
		if err := p.plug(ctx, d); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.began = true
	p.mu.Unlock()
	return p.qmp.do(ctx, "cont", nil)
}

// complaint returns the last line that QEMU wrote if it has died, which says why.
func (m *Machine) complaint(p *process) error {
	select {
	case <-p.qmp.done:
	default:
		return nil
	}
	b, err := os.ReadFile(m.complaints())
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return errors.New(lines[len(lines)-1])
}

// PowerOff pulls the plug: SIGKILL for QEMU. It returns when nothing of the machine can write any more.
func (m *Machine) PowerOff(ctx context.Context) error {
	m.mu.Lock()
	p := m.proc
	m.asked = p
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	if err := p.kill(ctx); err != nil {
		return fmt.Errorf("power off %s: %w", m.cfg.Name, err)
	}
	return nil
}

// Reset restarts the machine, asking nobody. Its hardware stays. One that is frozen, or whose QEMU does not answer, gets a new QEMU.
func (m *Machine) Reset(ctx context.Context) error {
	m.power.Lock()
	defer m.power.Unlock()
	if err := m.reset(ctx); err != nil {
		return fmt.Errorf("reset %s: %w", m.cfg.Name, err)
	}
	return nil
}

func (m *Machine) reset(ctx context.Context) error {
	p, err := m.answering()
	if err == nil {
		if err = p.qmp.do(ctx, "system_reset", nil); err == nil {
			p.agent.Forget() // QEMU's event says so too, perhaps later than our caller asks
			return nil
		}
	}
	if p, off := m.on(); off == nil && ctx.Err() == nil {
		hw := p.hardware()
		if err := m.PowerOff(ctx); err != nil {
			return err
		}
		return m.powerOn(ctx, hw)
	}
	return err
}

// Shutdown asks the guest's systemd to power the machine off. It has not ended when the call returns.
func (m *Machine) Shutdown(ctx context.Context) error { return m.ask(ctx, "poweroff") }

// Reboot asks the guest's systemd to boot anew. It has not ended when the call returns.
func (m *Machine) Reboot(ctx context.Context) error { return m.ask(ctx, "reboot") }

func (m *Machine) ask(ctx context.Context, what string) error {
	var errs bytes.Buffer
	code, err := m.Exec(ctx, Command{Args: []string{"systemctl", "--no-block", what}, Stderr: &errs})
	if err == nil && code != 0 {
		err = fmt.Errorf("systemctl: exit status %d: %s", code, strings.TrimSpace(errs.String()))
	}
	if err != nil {
		return fmt.Errorf("%s %s from within: %w", what, m.cfg.Name, err)
	}
	return nil
}

// Freeze stops the machine where it is, as a host does that hangs. It keeps its locks.
func (m *Machine) Freeze() error { return m.signal(syscall.SIGSTOP, true) }

// Thaw lets a frozen machine go on, as if no time had passed but by its clock.
func (m *Machine) Thaw() error { return m.signal(syscall.SIGCONT, false) }

// Frozen says whether the machine stands still.
func (m *Machine) Frozen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.frozen
}

func (m *Machine) signal(sig syscall.Signal, frozen bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil {
		return fmt.Errorf("machine %s is off: %w", m.cfg.Name, mooring.ErrUnavailable)
	}
	if err := m.proc.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to %s: %w", sig, m.cfg.Name, err)
	}
	m.frozen = frozen
	return nil
}

// answering returns the process of a machine that is on and not frozen. A frozen one is not asked: it would do later what its caller had given up.
func (m *Machine) answering() (*process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.proc == nil:
		return nil, fmt.Errorf("machine %s is off: %w", m.cfg.Name, mooring.ErrUnavailable)
	case m.frozen:
		return nil, fmt.Errorf("machine %s is frozen: %w", m.cfg.Name, mooring.ErrUnavailable)
	default:
		return m.proc, nil
	}
}

// Link cuts or mends one of the machine's network interfaces, [NICVCenter] or [NICGuests]. It stays so when the machine is switched off and on: what is cut
// is a cable, not a host.
func (m *Machine) Link(ctx context.Context, nic string, up bool) error {
	there := nic == NICVCenter && m.cfg.VCenter || nic == NICGuests && m.cfg.Guests != nil
	if !there {
		return fmt.Errorf("link %s of %s: it has no such network interface: %w", nic, m.cfg.Name, mooring.ErrInvalid)
	}
	m.power.Lock() // so that no start misses it
	defer m.power.Unlock()
	if m.Running() {
		p, err := m.answering()
		if err != nil {
			return err
		}
		if err := p.qmp.do(ctx, "set_link", args{"name": nic, "up": up}); err != nil {
			return fmt.Errorf("link %s of %s: %w", nic, m.cfg.Name, err)
		}
	}
	if up {
		delete(m.cut, nic)
	} else {
		m.cut[nic] = true
	}
	return nil
}
