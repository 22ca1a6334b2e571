package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// markVersion is the version of a formatted volume's layout: the mark, and the directory data beside it.
const markVersion = 1

// Opened is a volume that is mounted.
type Opened struct {
	Dir  string // what Docker gets
	Root bool   // Dir is the root of the filesystem, not the directory data in it: an adopted volume
}

// inside is what the root of a mounted filesystem shows.
type inside struct {
	marked bool
	data   bool
}

// lookInside reads the mark of the filesystem mounted at dir. Who has had the root of an adopted volume may have put anything
// there, so links are not followed.
func lookInside(dir string) (inside, error) {
	var in inside
	mark := filepath.Join(dir, mooring.MarkFile)
	fi, err := os.Lstat(mark)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return in, nil
	case err != nil:
		return in, err
	case !fi.Mode().IsRegular():
		return in, fmt.Errorf("%s is not a plain file: %w", mark, mooring.ErrCorrupt)
	}
	b, err := os.ReadFile(mark)
	if err != nil {
		return in, err
	}
	version, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return in, fmt.Errorf("%s holds %q, not a format version: %w", mark, b, mooring.ErrCorrupt)
	}
	if version != markVersion {
		return in, fmt.Errorf("%s: the volume is of format %d, and this Mooring knows only %d: %w", mark, version, markVersion, mooring.ErrInvalid)
	}
	in.marked = true
	fi, err = os.Lstat(filepath.Join(dir, mooring.DataDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in, err
	}
	in.data = err == nil && fi.IsDir()
	return in, nil
}

// handOut says what Docker gets of the filesystem mounted at dir. It is pure. Made says that Mooring made this filesystem and
// finished: it has the UUID that was chosen for it.
func handOut(dir string, in inside, made bool) (Opened, error) {
	switch {
	case in.marked && in.data:
		return Opened{Dir: filepath.Join(dir, mooring.DataDir)}, nil
	case in.marked:
		return Opened{}, fmt.Errorf("its filesystem has the mark %s but no directory %q, in which its data was; nothing was made anew; restore it from a backup: %w",
			mooring.MarkFile, mooring.DataDir, mooring.ErrCorrupt)
	case made:
		return Opened{}, fmt.Errorf("its filesystem was made by Mooring and has lost its mark %s; restore it from a backup: %w",
			mooring.MarkFile, mooring.ErrCorrupt)
	default:
		return Opened{Dir: dir, Root: true}, nil
	}
}

// leaveMark makes the directory data and then the mark in the new filesystem mounted at dir, durably.
func leaveMark(dir string) error {
	if err := os.Mkdir(filepath.Join(dir, mooring.DataDir), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(dir, mooring.DataDir), 0o755); err != nil { // whatever the umask
		return err
	}
	if err := durable.SyncDirectory(filepath.Join(dir, mooring.DataDir)); err != nil {
		return err
	}
	mark := strconv.Itoa(markVersion) + "\n"
	if err := durable.WriteFile(filepath.Join(dir, mooring.MarkFile), []byte(mark), 0o644); err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(root.Fd()))
	return errors.Join(err, root.Close())
}
