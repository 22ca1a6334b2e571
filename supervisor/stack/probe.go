package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

const (
	// startLimit is how long the child may take until it begins to write: on a machine that has just started and is starved of processor time long, and that says nothing of the
	// storage. writeLimit is for storage that has stalled: whoever writes there hangs until it is back, which on vSAN takes half a minute when a host dies.
	startLimit = time.Minute
	writeLimit = time.Minute
	// probeSize is more than a filesystem keeps in an inode, so that a full disk is seen to be full.
	probeSize = 64 << 10
	// unforeseen is the child's exit code where the error is no errno.
	unforeseen = 255
	// handedOver is what the child calls the directory that it gets as its first descriptor beside the three that everybody has.
	handedOver = "/proc/self/fd/3"
)

// probe is what the try to write into a directory came to.
type probe struct {
	Writable  mooring.Fact
	Why, Cure string
}

// prober tries whether directories can be written.
type prober struct {
	command      []string
	turns        chan struct{} // held by each child until it begins to write: so many start at once
	start, write time.Duration // the limits
}

func newProber(command []string) prober {
	return prober{command: command, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), start: startLimit, write: writeLimit}
}

// try writes into dir as that user, in a child process: the supervisor's own rights (the blocks that are reserved for root, quotas that
// do not bind it, modes that do not) would make the answer a lie. The command is this program's, with which [ProbeMain] is called in the child.
//
// The directory is opened here and handed over: the user needs no right to pass those above it, which a container's mount does not lead through. Docker's own and the
// volume driver's are closed to all but root.
func (p prober) try(ctx context.Context, dir string, uid, gid int) probe {
	select {
	case p.turns <- struct{}{}:
	case <-ctx.Done():
		return probe{Why: ctx.Err().Error()}
	}
	release := sync.OnceFunc(func() { <-p.turns })
	defer release()
	ctx, end := context.WithCancel(ctx)
	defer end()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return refusal(errno, dir, uid, gid)
	}
	handle := os.NewFile(uintptr(fd), dir)
	defer func() { _ = handle.Close() }() // nothing is read or written by it
	cmd := exec.CommandContext(ctx, p.command[0], append(slices.Clip(p.command[1:]), handedOver)...)
	cmd.ExtraFiles = []*os.File{handle}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return probe{Why: fmt.Sprintf("try to write as user %d: %v", uid, err)}
	}
	begun := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, _ = out.Read(make([]byte, 1)) // its first word; or it has ended
		close(begun)
		ended <- cmd.Wait()
	}()
	late := time.NewTimer(p.start)
	defer late.Stop()
	select {
	case <-begun:
	case <-late.C:
		return probe{Why: fmt.Sprintf("whether user %d can write to %s is not known: what tries it has not begun in %s", uid, dir, p.start)}
	case <-ctx.Done():
		return probe{Why: ctx.Err().Error()}
	}
	release()
	// A process in the middle of a write to storage that has stalled cannot be killed, and must not be waited for.
	late.Reset(p.write)
	select {
	case err = <-ended:
		return outcome(err, dir, uid, gid)
	case <-late.C:
		return probe{
			Writable: mooring.No, Why: fmt.Sprintf("a write to %s by user %d has not ended in %s", dir, uid, p.write),
			Cure: "look at the storage below it: dmesg | tail",
		}
	case <-ctx.Done():
		return probe{Why: ctx.Err().Error()}
	}
}

// outcome says what it means that the child ended so.
func outcome(err error, dir string, uid, gid int) probe {
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return probe{Writable: mooring.Yes}
	case failed && exit.ExitCode() > 0 && exit.ExitCode() != unforeseen:
		return refusal(syscall.Errno(exit.ExitCode()), dir, uid, gid)
	default:
		return probe{Why: fmt.Sprintf("try to write into %s as user %d: %v", dir, uid, err)}
	}
}

// refusal names what keeps the user from writing, and what to do.
func refusal(errno syscall.Errno, dir string, uid, gid int) probe {
	p := probe{Writable: mooring.No}
	switch errno {
	case syscall.EROFS:
		p.Why = dir + " is read-only: its filesystem has failed, or was mounted so"
		p.Cure = "see why (dmesg | tail), check the filesystem, then mount it again"
	case syscall.ENOSPC, syscall.EDQUOT:
		p.Why = fmt.Sprintf("%s is full for user %d: %v", dir, uid, errno)
		p.Cure = "df -h " + dir + "; df -i " + dir
	case syscall.EPERM:
		p.Why = fmt.Sprintf("user %d may not write into %s: it is immutable, as a mount point is on which nothing is mounted", uid, dir)
		p.Cure = "mount what belongs there"
	case syscall.EACCES:
		p.Why = fmt.Sprintf("user %d, who writes there, may not write into %s", uid, dir)
		p.Cure = fmt.Sprintf("ls -ld %s; chown %d:%d %s", dir, uid, gid, dir)
	case syscall.ENOENT:
		p.Why, p.Cure = dir+" is not there", "mount what belongs there, or make it"
	default:
		p.Why, p.Cure = fmt.Sprintf("user %d cannot write into %s: %v", uid, dir, errno), "look at the storage below it: dmesg | tail"
	}
	return p
}

// ProbeMain is the whole of the child process that tries to write into dir, and returns its exit code: 0, or the number of the error. It says a word to out when it begins.
//
// The file has no name, so that a database never finds one that it does not know, and nothing is left behind wherever this ends. Where the filesystem
// has no such files, one is made exclusively and removed.
func ProbeMain(dir string, out io.Writer) int {
	_, err := io.WriteString(out, "begun\n")
	if err == nil {
		err = writeProbe(dir)
	}
	if err == nil {
		return 0
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno > 0 && errno < unforeseen {
		return int(errno)
	}
	return unforeseen
}

func writeProbe(dir string) error {
	f, name, err := openProbe(dir)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if name != "" {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func openProbe(dir string) (f *os.File, name string, err error) {
	f, err = os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600)
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EINVAL):
		name = filepath.Join(dir, ".mooring-probe-"+strconv.Itoa(os.Getpid()))
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) { // of a child that was killed and had our number
			if err = os.Remove(name); err == nil {
				f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			}
		}
	}
	return f, name, err
}
