package guest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// process is a program that said "ready" and then waits to be stopped.
type process struct {
	cmd *exec.Cmd
}

// start runs a shell script up to its line "ready".
func start(t *testing.T, dir, script string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-ec", script)
	if dir != "" {
		cmd = exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir = dir
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(func() { p.stop(t) })
	if lines := bufio.NewScanner(out); !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("%s: %q, %v: %s", script, lines.Text(), cmd.Wait(), talk.String())
	}
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = p.cmd.Wait() // killed
}

func (p *process) name() string { return fmt.Sprintf("(PID %d)", p.cmd.Process.Pid) }

// elsewhere mounts the disk in a mount namespace of its own, as a container of a killed dockerd does.
func elsewhere(t *testing.T, d *disk) *process {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return start(t, "", fmt.Sprintf("mount %s %s; echo ready; exec sleep 1000", d.dev, dir))
}

// What tells that the detach of a disk would lose data: somebody has it, in whichever namespace.
func TestHoldIsRefusedWhileAnyNamespaceHasTheDisk(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	m.mustOpen(t, d)
	if _, err := m.Hold(d.Disk); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), d.dev) {
		t.Errorf("mounted here: %v, want ErrInUse naming the device", err)
	}
	p := elsewhere(t, d)
	m.mustClose(t, d)
	if _, err := m.Hold(d.Disk); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), p.name()) {
		t.Errorf("mounted in another namespace: %v, want ErrInUse naming %s", err, p.name())
	}
	p.stop(t)
	h, err := m.Hold(d.Disk)
	if err != nil {
		t.Fatalf("mounted nowhere: %v", err)
	}
	// While it is held nobody can begin to use the disk.
	if _, _, err := m.open(t, d); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("open while held: %v, want ErrInUse", err)
	}
	if _, err := m.Hold(d.Disk); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("held twice: %v, want ErrInUse", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	m.mustOpen(t, d)
	if _, err := m.Hold("00000000-0000-0000-0000-000000000000"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("a disk that is not there: %v, want ErrNotFound", err)
	}
}

// Containers survive a dockerd that is killed. Their filesystem is in use, so that checking it would damage it; mounting it beside
// them is what they share anyway.
func TestDiskThatAnotherNamespaceHasIsMountedWithoutACheck(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		t.Run(string(fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", fs)
			o := m.mustOpen(t, d)
			write(t, filepath.Join(o.Dir, "row"), "1")
			p := elsewhere(t, d)
			m.mustClose(t, d)
			if fs == mooring.Ext4 {
				sh(t, "tune2fs", "-c", "1", "-C", "9", d.dev) // the superblock asks for a check
			}
			ran := recordCommands(t, "e2fsck", "xfs_repair")
			m.wantData(t, d, m.mustOpen(t, d))
			if got := read(t, filepath.Join(o.Dir, "row")); got != "1" {
				t.Errorf("row: got %q", got)
			}
			if b, err := os.ReadFile(ran); err == nil {
				t.Errorf("checked while in use: %s", b)
			}
			p.stop(t)
			m.mustClose(t, d)
			m.mustOpen(t, d)
			if _, err := os.Stat(ran); (err == nil) != (fs == mooring.Ext4) {
				t.Errorf("check of a free %s: %v", fs, err)
			}
		})
	}
}

// recordCommands puts programs in PATH that note that they were run, and then run the real ones.
func recordCommands(t *testing.T, names ...string) (notes string) {
	t.Helper()
	dir := t.TempDir()
	notes = filepath.Join(dir, "notes")
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s\nexec %s \"$@\"\n", name, notes, path)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return notes
}

// A disk that somebody has is never formatted, whatever the sidecar says.
func TestDiskThatSomebodyHasIsNotFormatted(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	d.Format = mooring.Formatting
	sh(t, "mkfs.ext4", "-q", "-U", string(d.FSUUID), d.dev)
	seed := fsCreated(t, d, "ext4")
	p := elsewhere(t, d)
	_, s, err := m.open(t, d)
	if !errors.Is(err, mooring.ErrInUse) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("error: %v, want that the device is taken", err)
	}
	if got := fsCreated(t, d, "ext4"); got != seed || len(s.formats) != 0 {
		t.Errorf("formatted while in use, or recorded %v", s.formats)
	}
	p.stop(t)
	m.wantData(t, d, m.mustOpen(t, d))
}

// An mkfs or fsck outlives the plugin that is killed. The next plugin waits for it, as long as its caller does, and names it.
func TestProcessThatHasTheDeviceIsWaitedForAndNamed(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	p := start(t, t.TempDir(), fmt.Sprintf("exec %s -test.run=^TestHoldDeviceForAnotherTest$ %s", os.Args[0], d.dev))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := m.Open(ctx, d.Volume, false, &sidecar{d: d})
	if !errors.Is(err, mooring.ErrInUse) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), p.name()) {
		t.Errorf("error: %v, want ErrInUse naming %s", err, p.name())
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); p.stop(t) }()
	m.wantData(t, d, m.mustOpen(t, d))
	<-stopped
}

// TestHoldDeviceForAnotherTest is the process that has a device exclusively, when it is given one.
func TestHoldDeviceForAnotherTest(t *testing.T) {
	dev := os.Args[len(os.Args)-1]
	if !strings.HasPrefix(dev, "/dev/") {
		return
	}
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		t.Fatal(err)
	}
	_ = unix.Pause() // until it is killed
	_ = f.Close()
}

// A link that was left over leads to the device too: it is the volume's own link that says whose the mount is.
func TestMountIsTheVolumesWhateverElseLinksToItsDevice(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	for _, digits := range []string{"6000c290000000000000000000000001", "6000c29fffffffffffffffffffffffff"} { // before and after it in the directory
		if err := os.Symlink(d.dev, filepath.Join(m.byID, "wwn-0x"+digits)); err != nil {
			t.Fatal(err)
		}
	}
	m.mustOpen(t, d)
	m.mustOpen(t, d)
	m.mustClose(t, d)
}
