// Package cache keeps what takes long to make: a directory for each thing that was made, named after its kind and the key of its recipe.
//
// It promises that a thing is either whole or absent: it is made in a directory beside, which is renamed into place when it is done. Makers of one kind wait
// for each other. What a maker that was killed has left, and what nobody has asked for in a long time, goes when the next thing of that kind is made.
package cache

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
	// lockPoll is how often a maker that waits for another one looks again.
	lockPoll = 200 * time.Millisecond
	// Unused is how long a thing that nobody asks for is kept.
	Unused = 14 * 24 * time.Hour
	// scratchMark is in the names of directories that are not whole yet.
	scratchMark = ".building-"
)

// Cache is a directory of things that were made.
type Cache struct {
	Dir string    // is made when it is needed
	Say io.Writer // is told when a maker has to wait
}

// Default returns the directory that is used unless something else is asked for.
func Default() string {
	if dir := os.Getenv("MOORING_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/mooring-lab"
}

// Get returns the directory of the thing of that kind. If it is not there, build fills an empty directory beside, which becomes it.
func (c Cache) Get(ctx context.Context, kind, key string, build func(ctx context.Context, scratch string) error) (string, error) {
	home := filepath.Join(c.Dir, kind+"-"+key)
	if used(home) {
		return home, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := c.lock(ctx, kind)
	if err != nil {
		return "", err
	}
	defer unlock()
	if used(home) { // the one who was waited for has built it
		return home, nil
	}
	if err := c.tidy(kind); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(c.Dir, kind+scratchMark)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(scratch, 0o755), build(ctx, scratch)); err != nil {
		return "", errors.Join(err, os.RemoveAll(scratch))
	}
	return home, os.Rename(scratch, home)
}

// used reports whether the thing is there, and notes that it is asked for.
func used(home string) bool {
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(home, now, now) // another user's cache: its owner's use counts
	return true
}

// lock keeps other makers of the kind out until it is released, or this process ends.
func (c Cache) lock(ctx context.Context, kind string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, kind+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
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
			_, _ = fmt.Fprintf(c.Say, "%s: somebody else is building it; waiting\n", kind)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another builder: %w", context.Cause(ctx)), f.Close())
		}
	}
}

// tidy removes what makers that were killed have left, and what nobody has asked for in a long time. The kind is locked.
func (c Cache) tidy(kind string) error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), kind) {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		left := strings.HasPrefix(entry.Name(), kind+scratchMark)
		old := err == nil && strings.HasPrefix(entry.Name(), kind+"-") && time.Since(info.ModTime()) > Unused
		if left || old {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.Dir, entry.Name())))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
