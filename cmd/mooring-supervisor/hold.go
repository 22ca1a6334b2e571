package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	watchEvery  = 500 * time.Millisecond // between two looks whether Docker wants a volume unmounted that is being read
	unheldLimit = time.Minute
)

// Why a storage is let go, or cannot be held.
var (
	errWanted    = fmt.Errorf("the volume is let go, for Docker wants it unmounted: %w", mooring.ErrUnavailable)
	errUnmounted = fmt.Errorf("it is not mounted: %w", mooring.ErrUnavailable)
)

// holders has storages held while they are read.
type holders struct {
	// view asks the plugin for a volume.
	view func(context.Context, mooring.Name) (admin.View, error)
	// every is the time between two looks at it.
	every time.Duration
	// unheld is how long a volume is read that Docker has no holder of, if that can wait: the plugin mounts after a boot what was held before, and unmounts after a while what
	// nobody holds then.
	unheld time.Duration
}

// hold is a storage that is held: its filesystem stays mounted until it is released. It is an open directory, which makes an unmount fail; the plugin tries again when it is closed.
type hold struct {
	dir    string
	btrfs  bool
	file   *os.File
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

// take holds the storage, and returns the context in which it may be read: it ends with ctx, and, with errWanted, when Docker wants the volume unmounted. A storage that is not
// mounted is [mooring.ErrUnavailable]. What can wait is let go after a while if Docker has no holder of the volume.
func (h holders) take(ctx context.Context, s supervisor.Storage, canWait bool) (context.Context, *hold, error) {
	if s.Volume == "" {
		got, err := open(s.Dir)
		if err != nil {
			return nil, nil, err
		}
		ctx, got.cancel = context.WithCancelCause(ctx)
		close(got.ended)
		return ctx, got, nil
	}
	v, err := h.view(ctx, s.Volume)
	if err != nil {
		return nil, nil, err
	}
	if v.Mountpoint == "" {
		return nil, nil, fmt.Errorf("volume %s: %w", s.Volume, errUnmounted)
	}
	got, err := open(filepath.Join(v.Mountpoint, s.Dir))
	if err != nil {
		return nil, nil, err
	}
	if err := onMount(got.file, v.Mountpoint); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("volume %s: %w", s.Volume, err), got.file.Close())
	}
	ctx, got.cancel = context.WithCancelCause(ctx)
	if !canWait {
		h.unheld = math.MaxInt64
	}
	go h.watch(ctx, got, s.Volume, len(v.Holders) > 0)
	return ctx, got, nil
}

func open(dir string) (*hold, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the registry's storage: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, errors.Join(fmt.Errorf("open the registry's storage: %w", err), f.Close())
	}
	return &hold{dir: dir, btrfs: fs.Type == unix.BTRFS_SUPER_MAGIC, file: f, ended: make(chan struct{})}, nil
}

// onMount makes sure that the open directory lies on what is mounted at the mountpoint, or at the directory above it where a volume's data is a directory: between the plugin's answer and
// now it may have been unmounted, and the empty directory below would look like a loss of everything.
func onMount(f *os.File, mountpoint string) error {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return fmt.Errorf("find out its mount: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), "mnt_id:")
	id, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		return fmt.Errorf("find out its mount: %w", err)
	}
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.ID != id, i.ID == id })
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if len(list) == 1 && (list[0].Mountpoint == mountpoint || list[0].Mountpoint == filepath.Dir(mountpoint)) {
		return nil
	}
	return errUnmounted
}

// watch ends ctx when Docker has let go of the volume. A plugin that does not answer, as in an upgrade, changes nothing.
func (h holders) watch(ctx context.Context, got *hold, name mooring.Name, held bool) {
	defer close(got.ended)
	every := time.NewTicker(h.every)
	defer every.Stop()
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		v, err := h.view(ctx, name)
		switch {
		case err != nil:
		case held && len(v.Holders) == 0, !held && len(v.Holders) == 0 && time.Since(begun) >= h.unheld, v.Mountpoint == "":
			got.cancel(errWanted)
			return
		default:
			held = held || len(v.Holders) > 0
		}
	}
}

// release lets the storage go.
func (got *hold) release() error {
	got.cancel(nil)
	<-got.ended
	return got.file.Close()
}
