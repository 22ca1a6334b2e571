package qemu

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/image"
)

// Accel is what executes the guest's instructions. The zero value is software emulation, which works everywhere.
type Accel string

const (
	// KVM is the kernel's virtual machines, where they work.
	KVM Accel = "kvm"
	// Counted is software emulation in which the machine's clock goes on by a nanosecond with each instruction that its processors execute in turn, and as the world's
	// while they have nothing to do. What a program takes by that clock is the same on a busy computer, and takes longer by the world's: it is for measurements.
	Counted Accel = "counted"
)

func (a Accel) arguments() []string {
	switch a {
	case KVM:
		return []string{"-accel", "kvm", "-cpu", "host"}
	case Counted:
		return []string{"-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-cpu", image.CPU}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", image.CPU}
}

// probeWithin is how long a kernel may take to come so far that it misses its root: with KVM, a second.
const probeWithin = 8 * time.Second

// missesRoot is what a kernel says that has neither root nor initrd: it has come through all of its own start.
const missesRoot = "not syncing"

// Probe returns what accelerates a machine here: KVM if this kernel comes through its start with it, else the zero value, with the reason in words. That there
// is a /dev/kvm says little: inside a virtual machine it may lack what a kernel needs.
func Probe(ctx context.Context, kernel string) (accel Accel, reason string) {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "", err.Error()
	}
	_ = dev.Close() // it can be opened: no more was asked
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(KVM.arguments(), //nolint:gosec // the kernel is the lab's own
		"-machine", image.MachineType, "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1")...)
	watch := &watcher{stop: cancel}
	cmd.Stdout, cmd.Stderr = watch, watch
	ended, err := tied(cmd)
	if err != nil {
		return "", err.Error()
	}
	err = <-ended
	switch {
	case watch.booted:
		return KVM, "a kernel boots with it"
	case watch.failed:
		return "", "KVM cannot execute what the kernel does: " + watch.line("KVM internal error")
	case ctx.Err() != nil:
		return "", "a kernel that is booted with KVM says nothing for " + probeWithin.String()
	case err != nil:
		return "", "QEMU with KVM: " + watch.line("error")
	default:
		return "", "a kernel that is booted with KVM ends at once"
	}
}

// watcher ends a trial as soon as its outcome is known.
type watcher struct {
	stop           context.CancelFunc
	seen           bytes.Buffer
	booted, failed bool
}

// Write is called by one goroutine: standard output and error are the same writer (os/exec).
func (w *watcher) Write(p []byte) (int, error) {
	_, _ = w.seen.Write(p) // cannot fail
	w.booted = w.booted || bytes.Contains(w.seen.Bytes(), []byte(missesRoot))
	w.failed = w.failed || bytes.Contains(w.seen.Bytes(), []byte("KVM internal error"))
	if w.booted || w.failed {
		w.stop()
	}
	return len(p), nil
}

// line returns the first line that has the word, or the last one.
func (w *watcher) line(word string) string {
	lines := bytes.Split(bytes.TrimSpace(w.seen.Bytes()), []byte("\n"))
	for _, l := range lines {
		if bytes.Contains(l, []byte(word)) {
			return string(bytes.TrimSpace(l))
		}
	}
	return string(bytes.TrimSpace(lines[len(lines)-1]))
}
