//go:build machines

package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const bios = "4c2b178d-8e1a-4000-8000-0123456789ab"

// soon is how long a guest may take for anything: it boots in seven seconds on two idle cores.
const soon = 3 * time.Minute

// labEnv makes the test program a lab that powers on a machine and waits to be killed. It holds a directory and the guest's files.
const labEnv = "MOORING_TEST_LAB"

func TestMain(m *testing.M) {
	if lab := os.Getenv(labEnv); lab != "" {
		os.Exit(beLab(strings.Split(lab, ":")))
	}
	os.Exit(m.Run())
}

// machine returns a machine that is off, and off again when the test ends.
func machine(t *testing.T, g tiny, change func(*qemu.Config)) *qemu.Machine {
	t.Helper()
	cfg := qemu.Config{
		Name: "docker1", Dir: t.TempDir(), BIOS: bios, Kernel: g.kernel, Initrd: g.initrd, Agent: g.agent,
		Append: "console=ttyS0 quiet mooring.ip=10.77.0.1", MemoryMB: 384, VCenter: true,
	}
	if change != nil {
		change(&cfg)
	}
	m, err := qemu.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.PowerOff(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console: %s", end(m.ConsoleFile()))
			t.Logf("QEMU: %s", end(filepath.Join(cfg.Dir, "qemu.log")))
		}
	})
	return m
}

// end returns the last lines of a log.
func end(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// on powers a machine on and waits until its guest answers.
func on(t *testing.T, m *qemu.Machine, disks ...vcenter.Disk) (boot string) {
	t.Helper()
	start := time.Now()
	if err := m.PowerOn(t.Context(), vcenter.Hardware{Host: "esx1", Controllers: []int{0, 1, 2, 3}, Disks: disks}); err != nil {
		t.Fatal(err)
	}
	boot = await(t, m, "")
	t.Logf("the guest of %s answers after %v", m.Name(), time.Since(start).Round(10*time.Millisecond))
	return boot
}

func await(t *testing.T, m *qemu.Machine, other string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	boot, err := m.AwaitBoot(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	return boot
}

// shell runs a script that must succeed.
func shell(t *testing.T, m *qemu.Machine, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	out, err := m.Shell(ctx, script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(out)
}

// disk makes a disk's extent of 64 MB.
func disk(t *testing.T, controller, unit int) vcenter.Disk {
	t.Helper()
	d := vcenter.Disk{
		UUID:     fmt.Sprintf("6000c29%d-1234-5678-9abc-def0123456%02x", controller, unit),
		Extent:   filepath.Join(t.TempDir(), "x-flat.vmdk"),
		Capacity: 64 << 20, Controller: controller, Unit: unit,
	}
	if err := os.WriteFile(d.Extent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.Extent, d.Capacity); err != nil {
		t.Fatal(err)
	}
	return d
}

// device is a script that prints the block device of a disk, by its serial number as the SCSI disk tells it.
func device(d vcenter.Disk) string {
	return "$(grep -l " + strings.ReplaceAll(d.UUID, "-", "") + " /sys/block/sd*/device/vpd_pg80 | sed 's,/sys/block/\\(sd[a-z]*\\)/.*,/dev/\\1,')"
}

// The power of a machine, from the outside and from within: each boot is another one, its firmware tells the UUID as vSphere has it, and who asked for its
// end is known.
func TestPowerFromOutsideAndWithin(t *testing.T) {
	ends := make(chan bool, 4)
	m := machine(t, newTiny(t), func(c *qemu.Config) { c.OnEnd = func(byGuest bool) { ends <- byGuest } })
	if m.Running() || m.Boot() != "" || !m.Heartbeat().IsZero() {
		t.Error("a machine that was never on is not off")
	}
	if _, err := m.Shell(t.Context(), "true"); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("a command in a machine that is off: got %v, want ErrUnavailable", err)
	}
	first := on(t, m)
	if err := m.PowerOn(t.Context(), vcenter.Hardware{}); !errors.Is(err, mooring.ErrExists) {
		t.Errorf("power on twice: got %v, want ErrExists", err)
	}
	if got := shell(t, m, "cat /sys/class/dmi/id/product_uuid"); got != bios {
		t.Errorf("the firmware tells %s, want %s", got, bios)
	}
	if since := time.Since(m.Heartbeat()); since > 5*time.Second {
		t.Errorf("the last heartbeat came %v ago", since)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := await(t, m, first)
	if _, err := m.Shell(t.Context(), "reboot -f"); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("reboot: got %v, want ErrUnavailable", err)
	}
	third := await(t, m, second)
	if first == second || second == third || !m.Running() {
		t.Errorf("boots %s, %s, %s, running %v", first, second, third, m.Running())
	}
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, m, third)
	if err := m.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if byGuest := <-ends; !byGuest || m.Running() {
		t.Errorf("after a shutdown: by guest %v, running %v, want true, false", byGuest, m.Running())
	}
	on(t, m)
	if err := m.PowerOff(t.Context()); err != nil || m.Running() {
		t.Errorf("power off: %v, running %v", err, m.Running())
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Errorf("power off again: %v", err)
	}
	if len(ends) != 0 {
		t.Error("the end that PowerOff made was told of as if it had come by itself")
	}
	console, err := os.ReadFile(m.ConsoleFile())
	if err != nil || bytes.Count(console, []byte("\n=== docker1 powered on")) != 2 || bytes.Count(console, []byte("tiny guest is up")) != 5 {
		t.Errorf("console: %v, %s", err, console)
	}
}

// A host that dies takes the guest's memory along, and not one write that the guest was told is done. This is what the whole suite rests on.
func TestPowerCutLosesNoCompletedWrite(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	d := disk(t, 0, 0)
	for round := range 3 {
		on(t, m, d)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		enough, acknowledged := make(chan struct{}), &lineCounter{limit: 40 + 17*round}
		acknowledged.reached = func() { close(enough) }
		done := make(chan error, 1)
		go func() {
			_, err := m.Exec(ctx, qemu.Command{
				Args: []string{"sh", "-ec", `i=0; while :; do printf "block %s of round ` + strconv.Itoa(round) + `\n" $i | dd of=` + device(d) +
					` bs=4096 seek=$i conv=notrunc,fsync 2>/dev/null; echo $i; i=$((i+1)); done`}, Stdout: acknowledged,
			})
			done <- err
		}()
		<-enough
		if err := m.PowerOff(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, mooring.ErrUnavailable) {
			t.Errorf("the writer ended with %v, want ErrUnavailable", err)
		}
		cancel()
		extent, err := os.ReadFile(d.Extent)
		if err != nil {
			t.Fatal(err)
		}
		for i := range acknowledged.lines {
			if want := fmt.Sprintf("block %d of round %d\n", i, round); !bytes.HasPrefix(extent[i*4096:], []byte(want)) {
				t.Fatalf("block %d is %q, want %q", i, extent[i*4096:][:40], want)
			}
		}
		t.Logf("round %d: %d writes were acknowledged, all are there", round, acknowledged.lines)
	}
}

// lineCounter counts the lines that come, which one goroutine writes.
type lineCounter struct {
	lines, limit int
	reached      func()
}

// Write counts.
func (c *lineCounter) Write(p []byte) (int, error) {
	before := c.lines
	c.lines += bytes.Count(p, []byte("\n"))
	if before < c.limit && c.lines >= c.limit {
		c.reached()
	}
	return len(p), nil
}

// Disks come and go while the machine runs. In the guest each is at the controller and unit that vCenter says, with its UUID.
func TestDisksAreWhereVCenterPutsThem(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	boot := disk(t, 0, 0)
	on(t, m, boot)
	want := map[string]string{place(boot): strings.ReplaceAll(boot.UUID, "-", "")}
	var disks []vcenter.Disk
	for i := 1; i < 60; i++ {
		unit := i / 4
		if unit >= 7 {
			unit++ // the controller's own
		}
		disks = append(disks, disk(t, i%4, unit))
	}
	start := time.Now()
	for _, d := range disks {
		if err := m.Plug(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		want[place(d)] = strings.ReplaceAll(d.UUID, "-", "")
	}
	plugged := time.Since(start)
	seen := func() string {
		return shell(t, m, `for v in /sys/class/scsi_disk/*/device/vpd_pg80; do d=$(readlink -f ${v%/*}); h=${d##*/}; p=${d%/host*}
echo "${p##*/} $(echo $h | cut -d: -f3) $(dd if=$v bs=1 skip=4 2>/dev/null)"; done | sort`)
	}
	awaitSame(t, seen, want)
	t.Logf("%d disks plugged in %v, seen after %v", len(disks), plugged.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if err := m.Plug(t.Context(), disks[0]); err != nil {
		t.Errorf("plug what is there: %v", err)
	}
	shell(t, m, "exec 3<"+device(disks[3])+"; sleep 1000 <&3 >/dev/null 2>&1 &") // hardware does not ask
	for i, d := range disks {
		if i%2 == 1 {
			if err := m.Unplug(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			delete(want, place(d))
		}
	}
	awaitSame(t, seen, want)
	if err := m.Unplug(t.Context(), disks[1]); err != nil {
		t.Errorf("unplug what is not there: %v", err)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, m, "")
	awaitSame(t, seen, want)
}

// place is what the guest calls the place of a disk.
func place(d vcenter.Disk) string { return fmt.Sprintf("0000:00:1%d.0 %d", d.Controller, d.Unit) }

// awaitSame looks until the guest has these disks, by place.
func awaitSame(t *testing.T, look func() string, want map[string]string) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for tick := time.NewTicker(200 * time.Millisecond); ; <-tick.C {
		got := map[string]string{}
		out := look()
		for line := range strings.SplitSeq(out, "\n") {
			if i := strings.LastIndexByte(line, ' '); i > 0 {
				got[line[:i]] = line[i+1:]
			}
		}
		same := len(got) == len(want)
		for p, serial := range want {
			same = same && got[p] == serial
		}
		if same {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest has %d disks, want %d:\n%s\nwant %v", len(got), len(want), out, want)
		}
	}
}

// A controller can be added to a machine that runs, used, and removed.
func TestControllerComesAndGoes(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	if err := m.PowerOn(t.Context(), vcenter.Hardware{Controllers: []int{0}}); err != nil {
		t.Fatal(err)
	}
	await(t, m, "")
	d := disk(t, 2, 3)
	if err := m.Plug(t.Context(), d); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("a disk without a controller: got %v, want ErrInvalid", err)
	}
	if err := m.AddController(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := m.Plug(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	shell(t, m, "until echo hello > "+device(d)+"; do sleep 0.1; done; sync")
	if err := m.Unplug(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveController(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if out := shell(t, m, "ls /sys/bus/pci/devices"); strings.Contains(out, "0000:00:12.0") {
		t.Errorf("the controller is still there: %s", out)
	}
	if b, err := os.ReadFile(d.Extent); err != nil || !bytes.HasPrefix(b, []byte("hello\n")) {
		t.Errorf("extent: %v, %q", err, b[:6])
	}
}

// A disk that becomes larger is larger for a guest that looks again, while it is mounted.
func TestGrowIsSeenAfterARescan(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	d := disk(t, 1, 0)
	on(t, m, d)
	shell(t, m, "mke2fs "+device(d)+" >/dev/null 2>&1; mount -t ext4 "+device(d)+" /mnt; echo kept > /mnt/file")
	d.Capacity *= 2
	if err := os.Truncate(d.Extent, d.Capacity); err != nil {
		t.Fatal(err)
	}
	if err := m.Grow(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, m, "d="+device(d)+"; echo 1 > /sys/block/${d##*/}/device/rescan; blockdev --getsize64 $d; cat /mnt/file"); got != "134217728\nkept" {
		t.Errorf("got %q, want 134217728 and what was in it", got)
	}
	d.Capacity /= 4
	if err := m.Grow(t.Context(), d); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("a smaller disk: got %v, want ErrInvalid", err)
	}
}

// A frozen machine does nothing and keeps its disks; it can be thawed, killed, and reset.
func TestFrozenMachine(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	d, other := disk(t, 0, 1), disk(t, 0, 2)
	boot := on(t, m, d)
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	beat := m.Heartbeat()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := m.Shell(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command in a frozen guest: got %v, want the context's end", err)
	}
	if now := m.Heartbeat(); now.Sub(beat) > time.Second {
		t.Errorf("heartbeats go on: %v, then %v", beat, now)
	}
	for verb, err := range map[string]error{
		"plug": m.Plug(t.Context(), other), "unplug": m.Unplug(t.Context(), d), "grow": m.Grow(t.Context(), d), "link": m.Link(t.Context(), qemu.NICVCenter, false),
	} {
		if !errors.Is(err, mooring.ErrUnavailable) {
			t.Errorf("%s of a frozen machine: got %v, want ErrUnavailable", verb, err)
		}
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	if out := shell(t, m, "echo again"); out != "again" || m.Boot() != boot || !m.Heartbeat().After(beat) {
		t.Errorf("thawed: got %q, boot %s, want %s", out, m.Boot(), boot)
	}
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, m, boot)
	shell(t, m, "test -b "+device(d))
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOff(t.Context()); err != nil || m.Running() {
		t.Errorf("power off: %v, running %v", err, m.Running())
	}
}

// A guest whose kernel has panicked answers nothing and is still on, until somebody resets it.
func TestPanickedGuestIsSilentUntilReset(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	boot := on(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := m.Shell(ctx, "echo 0 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want silence", err)
	}
	if since := time.Since(m.Heartbeat()); since < 3*time.Second || !m.Running() {
		t.Errorf("the last heartbeat came %v ago, running %v", since, m.Running())
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, m, boot)
}

// Two machines see each other until one's cable is cut. And whatever vCenter believes, no two have one disk: QEMU's own lock is the last word.
func TestTwoMachines(t *testing.T) {
	g, network := newTiny(t), &qemu.Network{}
	one := machine(t, g, func(c *qemu.Config) { c.Guests = network })
	two := machine(t, g, func(c *qemu.Config) {
		c.Name, c.BIOS, c.Guests, c.Append = "docker2", "4c2b178d-8e1a-4000-8000-0123456789ac", network, "console=ttyS0 quiet mooring.ip=10.77.0.2"
	})
	d := disk(t, 0, 0)
	on(t, one, d)
	if err := two.PowerOn(t.Context(), vcenter.Hardware{Controllers: []int{0}, Disks: []vcenter.Disk{d}}); !errors.Is(err, mooring.ErrFenced) || two.Running() {
		t.Errorf("power on with another's disk: got %v, running %v, want ErrFenced and off", err, two.Running())
	}
	on(t, two)
	if err := two.Plug(t.Context(), d); !errors.Is(err, mooring.ErrFenced) {
		t.Errorf("plug another's disk: got %v, want ErrFenced", err)
	}
	shell(t, two, "ping -c 1 -W 20 10.77.0.1")
	for _, up := range []bool{false, true} {
		if err := one.Link(t.Context(), qemu.NICGuests, up); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		if _, err := two.Shell(ctx, "ping -c 3 -W 3 10.77.0.1"); (err == nil) != up {
			t.Errorf("link up %v: got %v", up, err)
		}
		cancel()
	}
	if err := one.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := two.Plug(t.Context(), d); err != nil {
		t.Errorf("plug the disk of a machine that is off: %v", err)
	}
}

// A cut link stays cut in the next boot, and vCenter's address is this machine's loopback.
func TestLinkToVCenter(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	on(t, m)
	if out, err := m.Shell(t.Context(), "ping -c 1 -W 20 10.0.2.2"); err != nil {
		t.Errorf("vCenter's address: %v: %s", err, out)
	}
	if err := m.Link(t.Context(), qemu.NICGuests, false); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("a network interface that is none: got %v, want ErrInvalid", err)
	}
	if err := m.Link(t.Context(), qemu.NICVCenter, false); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	on(t, m)
	if out, err := m.Shell(t.Context(), "ping -c 1 -W 3 10.0.2.2"); err == nil {
		t.Errorf("a cut link lets packets through: %s", out)
	}
}

// Fifty megabytes from a guest arrive whole, while other commands run and heartbeats come.
func TestManyCommandsAtOnce(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	on(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	big := make(chan int, 1)
	start := time.Now()
	go func() {
		c := &byteCounter{}
		if _, err := m.Exec(ctx, qemu.Command{Args: []string{"dd", "if=/dev/zero", "bs=65536", "count=800"}, Stdout: c}); err != nil {
			t.Error(err)
		}
		big <- c.n
	}()
	errs := make(chan error, 20)
	for i := range cap(errs) {
		go func() {
			out, err := m.Shell(ctx, "echo "+strconv.Itoa(i))
			if err == nil && strings.TrimSpace(out) != strconv.Itoa(i) {
				err = fmt.Errorf("command %d said %q", i, out)
			}
			errs <- err
		}()
	}
	silence := time.Duration(0)
	for tick, n := time.NewTicker(50*time.Millisecond), 0; n < cap(errs); {
		select {
		case err := <-errs:
			if n++; err != nil {
				t.Error(err)
			}
		case <-tick.C:
			silence = max(silence, time.Since(m.Heartbeat()))
		}
	}
	if n := <-big; n != 800*65536 {
		t.Errorf("got %d bytes, want %d", n, 800*65536)
	}
	t.Logf("50 MB in %v, longest silence %v", time.Since(start).Round(time.Millisecond), silence.Round(time.Millisecond))
}

type byteCounter struct{ n int }

// Write counts.
func (c *byteCounter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// A lab that is killed leaves no machine running: two QEMUs with one disk would be the end of all that it proves.
func TestKilledLabLeavesNoMachine(t *testing.T) {
	g := newTiny(t)
	lab := exec.CommandContext(t.Context(), os.Args[0])
	lab.Env = append(os.Environ(), labEnv+"="+strings.Join([]string{t.TempDir(), g.kernel, g.initrd, g.agent}, ":"))
	out, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	var up string
	if _, err := fmt.Fscan(out, &up); err != nil || up != "up" {
		t.Fatalf("the lab said %q, %v", up, err)
	}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", lab.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, file := range children {
		if b, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(b)) > 0 {
			if pid, err = strconv.Atoi(string(bytes.TrimSpace(b))); err != nil {
				t.Fatal(err)
			}
		}
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open QEMU's process %d: %v", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := lab.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lab.Wait() // killed
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 10_000); err != nil || n != 1 {
		t.Errorf("ten seconds after the lab was killed QEMU lives (%v)", err)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// beLab powers on a machine, freezes it (the hardest to get rid of), says so, and waits.
func beLab(where []string) int {
	m, err := qemu.New(qemu.Config{Name: "orphan", Dir: where[0], BIOS: bios, Kernel: where[1], Initrd: where[2], Agent: where[3]})
	if err == nil {
		err = m.PowerOn(context.Background(), vcenter.Hardware{})
	}
	if err == nil {
		err = m.Freeze()
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = fmt.Fprintln(os.Stdout, "up")
	select {}
}

// QEMU that cannot start says why.
func TestStartThatFailsNamesTheReason(t *testing.T) {
	m := machine(t, newTiny(t), func(c *qemu.Config) { c.Root = filepath.Join(c.Dir, "no-such-root") })
	if err := m.PowerOn(t.Context(), vcenter.Hardware{}); err == nil || !strings.Contains(err.Error(), "no-such-root") || m.Running() {
		t.Errorf("got %v, running %v, want the file's name", err, m.Running())
	}
}

// Hardware virtualisation is used where a kernel really boots with it, and not where there is only a device for it.
func TestProbedAccelerationBoots(t *testing.T) {
	g := newTiny(t)
	start := time.Now()
	accel, reason := qemu.Probe(t.Context(), g.kernel)
	took := time.Since(start)
	t.Logf("acceleration %q after %v: %s", accel, took.Round(time.Millisecond), reason)
	if reason == "" || took > 10*time.Second {
		t.Errorf("got %q after %v, want a reason within ten seconds", reason, took)
	}
	m := machine(t, g, func(c *qemu.Config) { c.Accel = accel })
	on(t, m)
}

// By a clock that counts instructions the same work takes the same time, whatever else the computer does.
func TestCountedClockIsTheSameOnABusyComputer(t *testing.T) {
	m := machine(t, newTiny(t), func(c *qemu.Config) { c.Accel, c.CPUs = qemu.Counted, 2 })
	on(t, m)
	work := func() float64 {
		t.Helper()
		out := shell(t, m, `
			cut -d " " -f 1 /proc/uptime
			i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done
			cut -d " " -f 1 /proc/uptime`)
		var began, ended float64
		if _, err := fmt.Sscan(out, &began, &ended); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		return ended - began
	}
	alone := work()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 * runtime.NumCPU() {
		burn := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := burn.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = burn.Wait() }()
	}
	if busy := work(); alone < 0.1 || busy/alone < 0.95 || busy/alone > 1.05 {
		t.Errorf("got %.2f s alone and %.2f s beside other work, want the same", alone, busy)
	}
}
