// Package durable replaces files so that a crash at any moment leaves the old content or the new one, whole.
//
// It promises that the new content is on stable storage, under its name, when [WriteFile] has returned nil: the file is
// synced before it gets its name, and the directory after. It never changes a file in place, never leaves a file with half
// of its content under the final name, and never serialises writers: each durable file has one writer, its owner.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Step names one step of [WriteFile]; its text is what errors call it.
type Step string

// The steps of [WriteFile], in their order. Up to and including Sync the old content has the name; from Rename on the new one has it.
const (
	Create  Step = "create"
	Write   Step = "write"
	Sync    Step = "sync"
	Rename  Step = "rename"
	SyncDir Step = "sync directory"
)

// Hook is called after each step has been done. Its error stops the writer on the spot, as a kill would: nothing is
// cleaned up. It is for tests; product code gives none.
type Hook func(done Step) error

// WriteFile replaces the file at path, or makes it, with data and exactly the permissions perm. The new content is written
// to [TempFile] beside it, so the directory must exist and have room for both. What a killed writer left there is removed
// first. An error names the step that failed and wraps its cause; it means that the old content stays, except after
// [Rename], when either may be found after a crash of the machine.
func WriteFile(path string, data []byte, perm fs.FileMode, hook ...Hook) error {
	w := writer{path: path, temp: TempFile(path), hooks: hook}
	if err := w.write(data, perm); err != nil {
		return err
	}
	if err := w.step(Rename, os.Rename(w.temp, path)); err != nil {
		return err
	}
	return w.step(SyncDir, SyncDirectory(filepath.Dir(path)))
}

// TempFile returns the name under which the new content of the file at path is written. It is the same each time, so that
// what a killed writer left is found and removed.
func TempFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// SyncDirectory makes what was created, renamed or removed in the directory durable.
func SyncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writer is one replacement under way.
type writer struct {
	path, temp string
	hooks      []Hook
}

// write makes the temporary file, with data synced in it.
func (w writer) write(data []byte, perm fs.FileMode) (err error) {
	if err := os.Remove(w.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return w.failed(Create, err)
	}
	// O_EXCL: a second writer of the same file is a bug, and fails here instead of mixing its bytes with ours.
	f, err := os.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return w.failed(Create, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = w.step(Sync, cerr)
		}
	}()
	// The umask took bits off the mode that OpenFile was given.
	if err := w.step(Create, f.Chmod(perm)); err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := w.step(Write, err); err != nil {
		return err
	}
	return w.step(Sync, f.Sync())
}

// step ends a step: err is what it returned. A step that failed is undone as far as the old content needs it; after one
// that was done the hooks are asked.
func (w writer) step(s Step, err error) error {
	if err != nil {
		if s != SyncDir {
			err = errors.Join(err, os.Remove(w.temp))
		}
		return w.failed(s, err)
	}
	for _, h := range w.hooks {
		if err := h(s); err != nil {
			return w.failed(s, err)
		}
	}
	return nil
}

func (w writer) failed(s Step, err error) error {
	return fmt.Errorf("replace %s: %s: %w", w.path, s, err)
}
