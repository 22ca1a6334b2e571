package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/agent"
	"github.com/mooring-sh/mooring/integration/lab/image"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// program emulates the machine. Debian has it in qemu-system-x86.
const program = "qemu-system-x86_64"

// starved is for a kernel whose processor is emulated by a machine that is busy: it would find at boot that its timer is too slow to be one, and panic
// ("IO-APIC + timer doesn't work").
const starved = "no_timer_check"

// oneFirst is for a kernel with several emulated processors: it patches its own code while it starts, and QEMU before 8.1 may let another processor execute an instruction that is gone
// by then ("Oops: int3", now and then). The guest's first process turns the others on.
const oneFirst = "maxcpus=1"

// commandLine returns the kernel's.
func (c Config) commandLine() string {
	words := []string{c.Append, starved}
	if c.CPUs > 1 && c.Accel != KVM {
		words = append(words, oneFirst)
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

// process is one time that the machine is on.
type process struct {
	cmd   *exec.Cmd
	qmp   *monitor
	agent *agent.Client
	done  chan struct{} // closed when nothing of it can write any more

	mu          sync.Mutex
	began       bool // it has run at all
	byGuest     bool // the guest powered itself off
	host        string
	controllers map[int]bool
	disks       map[string]vcenter.Disk // by UUID
}

// tied starts a command that dies with this program, however it dies. The kernel ties a child to the thread that made it, so that thread is kept until the
// child has ended, and does nothing else.
func tied(cmd *exec.Cmd) (ended <-chan error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true} // a session of its own: Ctrl-C is for the lab, which ends its machines
	started, end := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			end <- cmd.Wait()
		}
	}()
	return end, <-started
}

// start starts QEMU with its processors stopped.
func (m *Machine) start(ctx context.Context, hw vcenter.Hardware) (_ *process, err error) {
	p := &process{done: make(chan struct{}), host: hw.Host, controllers: map[int]bool{}, disks: map[string]vcenter.Disk{}}
	if err := m.separate(hw.Host); err != nil {
		return nil, err
	}
	var files []*os.File // what QEMU inherits, from descriptor 3 on
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close()) // QEMU has its own
		}
	}()
	pass := func(f *os.File) int { files = append(files, f); return 2 + len(files) }
	qmpEnd, qmpConn, err := socketPair("qmp")
	if err != nil {
		return nil, err
	}
	qmpFD := pass(qmpEnd)
	agentEnd, agentConn, err := socketPair("agent")
	if err != nil {
		return nil, errors.Join(err, qmpConn.Close())
	}
	agentFD := pass(agentEnd)
	guestsFD := -1
	if m.cfg.Guests != nil {
		end, err := m.cfg.Guests.connect()
		if err != nil {
			return nil, errors.Join(err, qmpConn.Close(), agentConn.Close())
		}
		guestsFD = pass(end)
	}
	ended, err := m.launch(ctx, p, m.arguments(hw, qmpFD, agentFD, guestsFD), files)
	if err != nil {
		return nil, errors.Join(err, qmpConn.Close(), agentConn.Close())
	}
	for _, bus := range hw.Controllers {
		p.controllers[bus] = true
	}
	p.agent = agent.NewClient(ctx, agentConn, agent.Options{OnLine: m.cfg.OnLine, OnBoot: m.tellBoot})
	p.qmp = newMonitor(qmpConn, p.notice)
	go m.attend(p, ended)
	return p, nil
}

// launch starts the program. What it complains about is appended to a file.
func (m *Machine) launch(ctx context.Context, p *process, arguments []string, files []*os.File) (<-chan error, error) {
	log, err := appendFile(m.complaints())
	if err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, arguments...) //nolint:gosec // made from the configuration
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = log, log, files
	ended, err := tied(p.cmd)
	return ended, errors.Join(err, log.Close())
}

// attend waits for the end of QEMU and tells about it.
func (m *Machine) attend(p *process, ended <-chan error) {
	err := <-ended
	<-p.qmp.done // its last events are why it ended
	_ = p.qmp.conn.Close()
	_ = p.agent.Close()
	m.mu.Lock()
	asked := m.asked == p
	if m.proc == p {
		m.proc, m.frozen = nil, false
	}
	m.mu.Unlock()
	p.mu.Lock()
	began, byGuest := p.began, p.byGuest
	p.mu.Unlock()
	m.log.Info("machine is off", "by_guest", byGuest, "asked", asked, "err", err)
	close(p.done)
	if began && !asked && m.cfg.OnEnd != nil {
		m.cfg.OnEnd(byGuest)
	}
}

// notice takes QEMU's events.
func (p *process) notice(e event) {
	switch e.Name {
	case "RESET": // by the guest too: a reboot stays in the process
		p.agent.Forget()
	case "SHUTDOWN":
		var data struct {
			Guest bool `json:"guest"`
		}
		if json.Unmarshal(e.Data, &data) == nil && data.Guest {
			p.mu.Lock()
			p.byGuest = true
			p.mu.Unlock()
		}
	}
}

// kill ends QEMU, whatever it is doing, and waits until it is gone.
func (p *process) kill(ctx context.Context) error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("await the end of QEMU: %w", errors.Join(context.Cause(ctx), mooring.ErrUnavailable))
	}
}

// hardware is what the machine has by now.
func (p *process) hardware() vcenter.Hardware {
	p.mu.Lock()
	defer p.mu.Unlock()
	hw := vcenter.Hardware{Host: p.host}
	for bus := range p.controllers {
		hw.Controllers = append(hw.Controllers, bus)
	}
	slices.Sort(hw.Controllers)
	for _, d := range p.disks {
		hw.Disks = append(hw.Disks, d)
	}
	return hw
}

// arguments are QEMU's. All that is hot-plugged later has a fixed place, so that every boot finds the same machine.
func (m *Machine) arguments(hw vcenter.Hardware, qmpFD, agentFD, guestsFD int) []string {
	c := m.cfg
	a := []string{
		"-name", c.Name, "-uuid", c.BIOS, "-machine", image.MachineType,
		"-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-m", strconv.Itoa(orDefault(c.MemoryMB, 1024)), "-smp", strconv.Itoa(orDefault(c.CPUs, 1)),
		"-kernel", c.Kernel, "-append", c.commandLine(),
		"-chardev", "socket,id=qmp,fd=" + strconv.Itoa(qmpFD), "-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=console,append=on,path=" + escape(m.ConsoleFile()), "-serial", "chardev:console",
		"-device", "virtio-serial-pci,id=ports,addr=0x5",
		"-chardev", "socket,id=agent,fd=" + strconv.Itoa(agentFD), "-device", "virtserialport,bus=ports.0,chardev=agent,name=" + agent.Port,
		"-device", "virtio-rng-pci,addr=0x6",
	}
	a = append(a, c.Accel.arguments()...)
	if m.initrd != "" {
		a = append(a, "-initrd", m.initrd)
	}
	if c.Root != "" {
		a = append(
			a, "-blockdev", "driver=raw,node-name=root,discard=unmap,file.driver=file,file.filename="+escape(c.Root),
			"-device", "virtio-blk-pci,drive=root,addr=0x7",
		)
	}
	if c.Tools != "" {
		a = append(
			a, "-blockdev", "driver=raw,node-name=tools,read-only=on,file.driver=file,file.filename="+escape(c.Tools),
			"-device", "virtio-blk-pci,drive=tools,serial=tools,addr=0x8",
		)
	}
	if c.VCenter {
		a = append(a, "-netdev", "user,id="+NICVCenter+",ipv6=off", "-device", "virtio-net-pci,addr=0x3,romfile=,netdev="+NICVCenter+",mac="+mac(0, c.BIOS))
	}
	if guestsFD >= 0 {
		a = append(
			a, "-netdev", "socket,id="+NICGuests+",fd="+strconv.Itoa(guestsFD),
			"-device", "virtio-net-pci,addr=0x4,romfile=,netdev="+NICGuests+",mac="+mac(1, c.BIOS),
		)
	}
	for _, bus := range hw.Controllers {
		a = append(a, "-device", fmt.Sprintf("pvscsi,id=%s,addr=%#x", controllerID(bus), controllerSlot(bus)))
	}
	return a
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// escape makes a path fit for a list of QEMU options.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// mac returns an address for the machine's interface of the given number, made from its UUID.
func mac(nic byte, uuid string) string {
	sum := sha256.Sum256([]byte(uuid))
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", nic, sum[0], sum[1], sum[2])
}

// separate writes a line into the console's file that begins a boot.
func (m *Machine) separate(host string) error {
	f, err := appendFile(m.ConsoleFile())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "\n=== %s powered on, host %q, %s\n", m.cfg.Name, host, time.Now().UTC().Format(time.RFC3339))
	return errors.Join(err, f.Close())
}

// socketPair returns a socket's two ends: one for QEMU to inherit, one for us. There is no path that somebody else could connect to, or that is left behind.
func socketPair(name string) (theirs *os.File, ours net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	theirs = os.NewFile(uintptr(fds[0]), name)
	f := os.NewFile(uintptr(fds[1]), filepath.Join(name, "ours"))
	ours, err = net.FileConn(f) // has a descriptor of its own
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make socket %s: %w", name, err), theirs.Close())
	}
	return theirs, ours, nil
}
