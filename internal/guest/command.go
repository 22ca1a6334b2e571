package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
)

// command is a program to run to its end.
type command struct {
	name string
	args []string
	fd3  *os.File // what the program has as file descriptor 3; nil for none
}

// result is how a program ended. A code is not an error here: for most of these programs it is an answer.
type result struct {
	name string
	out  string // standard output and error, as they came
	code int
}

// failure returns the result as an error that wraps nothing: the callers know what it means.
func (r result) failure() error {
	said := strings.FieldsFunc(r.out, func(c rune) bool { return c == '\n' || c == '\r' })
	return fmt.Errorf("%s: exit status %d: %s", r.name, r.code, strings.Join(said, " "))
}

// run runs the program to its end: it outlives ctx, because half an mkfs or fsck is worse than none. The error wraps
// [mooring.ErrUnavailable] when the program is not installed; a program that was killed is an error too.
func (g *Guest) run(ctx context.Context, c command) (result, error) {
	path, err := lookPath(c.name)
	if err != nil {
		return result{}, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, c.args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &out, &out
	if c.fd3 != nil {
		cmd.ExtraFiles = []*os.File{c.fd3}
	}
	start := time.Now()
	err = cmd.Run()
	r := result{name: c.name, out: out.String(), code: cmd.ProcessState.ExitCode()}
	g.cfg.Log.Debug("command", "name", c.name, "args", c.args, "code", r.code, "took", time.Since(start), "err", err)
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
		return result{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return r, nil
}

// lookPath finds a program also where a service's or a user's PATH does not lead.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	from := map[string]string{"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "mkfs.xfs": "xfsprogs", "xfs_repair": "xfsprogs", "blkid": "util-linux"}
	return "", fmt.Errorf("%s is not installed (package %s): %w", name, from[name], mooring.ErrUnavailable)
}
