package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sbin is where Debian keeps what an ordinary user's PATH lacks.
const sbin = "/usr/local/sbin:/usr/sbin:/sbin"

// searched is where commands are looked for.
func searched() string { return os.Getenv("PATH") + ":" + sbin }

// find returns the file of the command in one of the directories, which are separated as in PATH.
func find(command, dirs string) (string, error) {
	for _, dir := range filepath.SplitList(dirs) {
		if path, err := exec.LookPath(filepath.Join(dir, command)); err == nil && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", command, exec.ErrNotFound)
}

// apart runs the command in mount and process namespaces of its own: what it mounts and what it starts ends with it, also when it is killed. The shell
// between is the namespace's init, which reaps what the command leaves.
func (b builder) apart(ctx context.Context, argv ...string) error {
	return b.run(ctx, append([]string{
		"unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"sh", "-c", `"$@"; exit $?`, "sh",
	}, argv...)...)
}

// run runs the command and says now and then what it is at. The error carries the end of what the command said.
func (b builder) run(ctx context.Context, argv ...string) error {
	path, err := find(argv[0], searched())
	if err != nil {
		return err
	}
	said := &listener{talk: b.talk}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+searched(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = said, said
	// It dies with this program, however that dies. The kernel ties a child to the thread that made it: so that one stays.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Whatever holds the pipes writes below the directory that is removed next: so it is waited for, and not long, as it was killed.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("run %s: %w: %s", argv[0], err, said.tail())
	}
	return nil
}

const (
	// talkEvery is how often a command's progress is shown.
	talkEvery = 5 * time.Second
	// tailSize is how much of what a failed command said goes into the error, in bytes.
	tailSize = 1500
)

// listener keeps the end of what a command says, and passes a line on every few seconds.
type listener struct {
	talk *talk

	mu   sync.Mutex
	said []byte
	last time.Time
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.IsZero() {
		l.last = time.Now()
	}
	l.said = append(l.said, p...)
	if len(l.said) > 2*tailSize {
		l.said = append([]byte(nil), l.said[len(l.said)-tailSize:]...)
	}
	if line, _, whole := bytes.Cut(p, []byte("\n")); whole && time.Since(l.last) > talkEvery {
		l.last = time.Now()
		l.talk.step("  %s", bytes.TrimSpace(line))
	}
	return len(p), nil
}

func (l *listener) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.said))
}

var _ io.Writer = (*listener)(nil)
