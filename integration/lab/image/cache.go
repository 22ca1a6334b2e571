package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockPoll is how often a builder that waits for another one looks again.
	lockPoll = 200 * time.Millisecond
	// unused is how long an image that nobody asks for is kept.
	unused = 14 * 24 * time.Hour
	// scratchMark is in the names of directories that are no images yet.
	scratchMark = ".building-"
)

// cache is a directory with a directory for each image, named after suite and key.
type cache struct {
	dir string
	say io.Writer
}

// get returns the image's directory. If it is not there, build fills an empty directory beside, which becomes it.
func (c cache) get(ctx context.Context, suite, key string, build func(ctx context.Context, scratch string) error) (string, error) {
	home := filepath.Join(c.dir, suite+"-"+key)
	if used(home) {
		return home, nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := c.lock(ctx, suite)
	if err != nil {
		return "", err
	}
	defer unlock()
	if used(home) { // the one who was waited for has built it
		return home, nil
	}
	if err := c.tidy(suite); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(c.dir, suite+scratchMark)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(scratch, 0o755), build(ctx, scratch)); err != nil {
		return "", errors.Join(err, os.RemoveAll(scratch))
	}
	return home, os.Rename(scratch, home)
}

// used reports whether the image is there, and notes that it is asked for.
func used(home string) bool {
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(home, now, now) // another user's cache: its owner's use counts
	return true
}

// lock keeps other builders of the suite out until it is released, or this process ends.
func (c cache) lock(ctx context.Context, suite string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, suite+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if !said {
			_, _ = fmt.Fprintf(c.say, "image %s: somebody else is building it; waiting\n", suite)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another builder: %w", context.Cause(ctx)), f.Close())
		}
	}
}

// tidy removes what builders that were killed have left, and images that nobody has asked for in a long time. The suite is locked.
func (c cache) tidy(suite string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), suite) {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		left := strings.HasPrefix(entry.Name(), suite+scratchMark)
		old := err == nil && strings.HasPrefix(entry.Name(), suite+"-") && time.Since(info.ModTime()) > unused
		if left || old {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.dir, entry.Name())))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
