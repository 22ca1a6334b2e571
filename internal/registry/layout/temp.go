package layout

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// temp is a file that is being written, in docker/registry/mooring-aside.
type temp struct {
	dir  dir
	name string
	file *os.File
}

// withTemp has use fill a new file, whose name it may link or rename away, and takes what is left of it away. Its name says what it is for, so that nobody else does the same at the same time.
func (s *Storage) withTemp(root dir, name string, o Owner, use func(temp) error) error {
	d, err := s.asideDir(root)
	if err != nil {
		return err
	}
	defer d.close()
	t := temp{dir: d, name: name + ".part"}
	if err := t.create(o); err != nil {
		return fmt.Errorf("create %s: %w", t.name, err)
	}
	err = use(t)
	// The name goes before the lock, which is the descriptor's.
	if gone := unix.Unlinkat(d.fd, t.name, 0); !errors.Is(gone, unix.ENOENT) {
		err = errors.Join(err, gone)
	}
	return errors.Join(err, d.sync(), t.file.Close())
}

// create makes the file, locked. One that is there and that nobody has locked was left by a writer that was killed. It only loses its name: a blob may have the same file by now.
func (t *temp) create(o Owner) error {
	err := t.createNew()
	if errors.Is(err, unix.EEXIST) {
		if err := t.forget(); err != nil {
			return err
		}
		err = t.createNew()
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("somebody else did: %w", mooring.ErrInUse)
	}
	if err != nil {
		return err
	}
	if err := own(int(t.file.Fd()), o, o.File); err != nil {
		return errors.Join(err, unix.Unlinkat(t.dir.fd, t.name, 0), t.file.Close())
	}
	return nil
}

// write writes the whole content and syncs it.
func (t temp) write(content string) error {
	if _, err := t.file.WriteString(content); err != nil {
		return err
	}
	return t.file.Sync()
}

func (t *temp) createNew() error {
	fd, err := t.dir.open(t.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.file = os.NewFile(uintptr(fd), t.name)
	if err := lock(fd); err != nil {
		return errors.Join(err, t.file.Close())
	}
	return nil
}

func (t *temp) forget() error {
	fd, err := t.dir.open(t.name, unix.O_RDONLY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := lock(fd); err != nil {
		return err
	}
	return unix.Unlinkat(t.dir.fd, t.name, 0)
}

func lock(fd int) error {
	err := again(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("somebody else is writing it: %w", mooring.ErrInUse)
	}
	return err
}
