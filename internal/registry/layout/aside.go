package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Owner is whom a new file belongs to, and its mode.
type Owner struct {
	UID, GID  int
	File, Dir fs.FileMode // permissions of files and directories
}

// Owner returns that of the blobs that are there: what a registry that runs as the same user as before can read, and remove in a garbage collection.
func (s *Storage) Owner() (Owner, error) {
	root, err := s.root()
	if err != nil {
		return Owner{}, fmt.Errorf("owner: %w", err)
	}
	defer root.close()
	return root.owner()
}

// owner returns that of the directory, for what is put in it.
func (d dir) owner() (Owner, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(d.fd, &st) }); err != nil {
		return Owner{}, fmt.Errorf("owner: %w", err)
	}
	mode := fs.FileMode(st.Mode) & fs.ModePerm
	return Owner{UID: int(st.Uid), GID: int(st.Gid), Dir: mode, File: mode &^ 0o111}, nil
}

// Aside moves a blob's file away, whatever is wrong with it, to the same place under docker/registry/mooring-aside, and returns its new path. The registry then takes the blob for one that it
// never had, and accepts it anew. Nothing is ever deleted. The move is durable when Aside returns. The error wraps [mooring.ErrNotFound] if there is no file.
func (s *Storage) Aside(d registry.Digest) (string, error) {
	moved, err := s.aside(d)
	if err != nil {
		return "", fmt.Errorf("move %s aside: %w", d, err)
	}
	return filepath.Join(s.dir, asidePath, moved), nil
}

// aside returns the new path under docker/registry/mooring-aside.
func (s *Storage) aside(d registry.Digest) (string, error) {
	if err := check(d); err != nil {
		return "", err
	}
	root, err := s.root()
	if err != nil {
		return "", err
	}
	defer root.close()
	from, err := root.sub(blobDir(d))
	if err != nil {
		return "", absent(err)
	}
	defer from.close()
	if _, err := from.stat(dataName); err != nil {
		return "", absent(err)
	}
	to, err := s.asideOf(root, blobDir(d))
	if err != nil {
		return "", err
	}
	defer to.close()
	name, err := move(from, dataName, to)
	return path.Join(blobDir(d), name), err
}

// move moves a file to the first free name in another directory: the new name is durable before the old one goes.
func move(from dir, file string, to dir) (string, error) {
	name, err := freeName(file, func(name string) error { return unix.Linkat(from.fd, file, to.fd, name, 0) })
	if errors.Is(err, unix.EPERM) { // a directory has one name only
		name, err = freeName(file, func(name string) error { return unix.Renameat2(from.fd, file, to.fd, name, unix.RENAME_NOREPLACE) })
		return name, errors.Join(err, to.sync(), from.sync())
	}
	if err != nil {
		return "", err
	}
	if err := to.sync(); err != nil {
		return "", err
	}
	return name, errors.Join(unix.Unlinkat(from.fd, file, 0), from.sync())
}

// asideOf opens the directory under docker/registry/mooring-aside for what is moved away from below, and makes it if need be.
func (s *Storage) asideOf(root dir, below string) (dir, error) {
	o, err := root.owner()
	if err != nil {
		return dir{}, err
	}
	top, err := s.asideDir(root)
	if err != nil {
		return dir{}, err
	}
	defer top.close()
	return top.makeAll(below, o)
}

// asideDir opens docker/registry/mooring-aside, and makes it if need be.
func (s *Storage) asideDir(root dir) (dir, error) {
	o, err := root.owner()
	if err != nil {
		return dir{}, err
	}
	parent, err := openDir(filepath.Join(s.dir, path.Dir(asidePath)))
	if err != nil {
		return dir{}, err
	}
	defer parent.close()
	return parent.make(path.Base(asidePath), o)
}

// freeName tries name, name.1, name.2 … until there is no such file yet, and returns the one that it was.
func freeName(name string, try func(name string) error) (string, error) {
	const most = 10000
	free := name
	for i := 1; i < most; i++ {
		err := again(func() error { return try(free) })
		if !errors.Is(err, unix.EEXIST) {
			return free, err
		}
		free = name + "." + strconv.Itoa(i)
	}
	return "", fmt.Errorf("%s: %d files are there already: %w", name, most, mooring.ErrExists)
}

// makeAll opens a directory below this one, and makes what is missing of its path.
func (d dir) makeAll(below string, o Owner) (dir, error) {
	at := d
	for name := range strings.SplitSeq(below, "/") {
		next, err := at.make(name, o)
		if at != d {
			at.close()
		}
		if err != nil {
			return dir{}, err
		}
		at = next
	}
	return at, nil
}

// make opens a directory in this one. One that it makes belongs to o, and is durable.
func (d dir) make(name string, o Owner) (dir, error) {
	err := again(func() error { return unix.Mkdirat(d.fd, name, uint32(o.Dir.Perm())) })
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return dir{}, fmt.Errorf("make %s: %w", name, err)
	}
	sub, err := d.sub(name)
	if err != nil {
		return dir{}, fmt.Errorf("open %s: %w", name, err)
	}
	if !made {
		return sub, nil
	}
	if err := errors.Join(own(sub.fd, o, o.Dir), sub.sync(), d.sync()); err != nil {
		sub.close()
		return dir{}, fmt.Errorf("make %s: %w", name, err)
	}
	return sub, nil
}

// own gives an open file or directory its owner and mode. Only root can give a file away; anyone else's belongs to him.
func own(fd int, o Owner, mode fs.FileMode) error {
	if err := again(func() error { return unix.Fchown(fd, o.UID, o.GID) }); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", o.UID, o.GID, err)
	}
	return again(func() error { return unix.Fchmod(fd, uint32(mode.Perm())) })
}

func (d dir) sync() error { return again(func() error { return unix.Fsync(d.fd) }) }
