package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Filesystem is how a registry's disk is formatted and mounted.
type Filesystem struct {
	Type    string // ext4, xfs, btrfs
	Options string // of mount, beside the defaults; empty: none
}

// String returns the type, and the options that are not the defaults.
func (f Filesystem) String() string {
	if f.Options == "" {
		return f.Type
	}
	return f.Type + " " + f.Options
}

// The sizes of files that are sparse: what is written in a round is far less.
const (
	shelfSize = 16 << 30
	diskSize  = 2 << 30
)

// Shelf is a filesystem that can clone a file in one step. Disks lie on it.
type Shelf struct {
	dir string
}

// NewShelf makes the filesystem in a file of its own in dir and mounts it there. It needs root.
func NewShelf(ctx context.Context, dir string) (*Shelf, error) {
	s := &Shelf{filepath.Join(dir, "shelf")}
	file := filepath.Join(dir, "shelf.xfs")
	if err := makeFile(file, shelfSize); err != nil {
		return nil, fmt.Errorf("make shelf: %w", err)
	}
	if err := run(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", file); err != nil {
		return nil, fmt.Errorf("make shelf: %w", err)
	}
	if err := mount(ctx, file, s.dir, Filesystem{Type: "xfs"}); err != nil {
		return nil, fmt.Errorf("mount shelf: %w", err)
	}
	return s, nil
}

// Close unmounts the shelf.
func (s *Shelf) Close() error { return unmount(s.dir) }

// Disk is a mounted filesystem in a file on a shelf, behind a loop device.
type Disk struct {
	Dir string // where it is mounted

	file string
	fs   Filesystem
}

// NewDisk makes and mounts a new filesystem.
func (s *Shelf) NewDisk(ctx context.Context, name string, fs Filesystem) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(s.dir, name), file: filepath.Join(s.dir, name+".disk"), fs: fs}
	if err := makeFile(d.file, diskSize); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	if err := run(ctx, "mkfs."+fs.Type, "-q", d.file); err != nil {
		return nil, errors.Join(fmt.Errorf("format disk: %w", err), os.Remove(d.file))
	}
	if err := mount(ctx, d.file, d.Dir, fs); err != nil {
		return nil, errors.Join(fmt.Errorf("mount disk: %w", err), os.Remove(d.file))
	}
	return d, nil
}

// Cut returns the disk as a power cut at this moment would leave it, not mounted yet. The disk itself goes on.
func (d *Disk) Cut(name string) (*Disk, error) {
	c := &Disk{Dir: filepath.Join(filepath.Dir(d.Dir), name), file: filepath.Join(filepath.Dir(d.Dir), name+".disk"), fs: d.fs}
	if err := cloneFile(d.file, c.file); err != nil {
		return nil, fmt.Errorf("clone disk: %w", err)
	}
	return c, nil
}

// cloneFile makes a file that shares all blocks with another. The kernel holds off every writer meanwhile, so that what is cloned is of one moment.
func cloneFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
	if err := errors.Join(err, target.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// Mount attaches a disk that was cut, and mounts it: the filesystem replays its journal.
func (d *Disk) Mount(ctx context.Context) error {
	fs := d.fs
	if fs.Type == "xfs" { // the disk that goes on is mounted under the same UUID
		fs.Options = join(fs.Options, "nouuid")
	}
	if err := mount(ctx, d.file, d.Dir, fs); err != nil {
		return fmt.Errorf("mount the disk after the cut: %w", err)
	}
	return nil
}

// Discard unmounts the disk, if it is mounted, and removes it.
func (d *Disk) Discard() error {
	err := unmount(d.Dir)
	return errors.Join(err, os.Remove(d.file))
}

func makeFile(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// mount attaches the file to a loop device, which goes when it is unmounted, and mounts that.
func mount(ctx context.Context, file, dir string, fs Filesystem) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return run(ctx, "mount", "-t", fs.Type, "-o", join("loop", fs.Options), file, dir)
}

// unmount unmounts dir and removes it. Nothing mounted there is no error.
func unmount(dir string) error {
	err := unix.Unmount(dir, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func join(options ...string) string {
	var all []byte
	for _, o := range options {
		if o != "" && len(all) > 0 {
			all = append(all, ',')
		}
		all = append(all, o...)
	}
	return string(all)
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
