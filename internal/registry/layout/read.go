package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Read returns a blob of at most limit bytes, such as an image's manifest, whose digest was compared. The error wraps [mooring.ErrCorrupt] if the content has another digest or
// there is more of it, [mooring.ErrNotFound] if there is no file, or what the filesystem said.
func (s *Storage) Read(ctx context.Context, d registry.Digest, limit int64) ([]byte, error) {
	content, err := s.read(ctx, d, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d, err)
	}
	return content, nil
}

func (s *Storage) read(ctx context.Context, d registry.Digest, limit int64) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	f, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("more than %d bytes: %w", limit, mooring.ErrCorrupt)
	}
	if got := registry.DigestOf(content); got != d {
		return nil, fmt.Errorf("%d bytes of %s: %w", len(content), got, mooring.ErrCorrupt)
	}
	return content, nil
}

// Blob returns what Scan says about one blob, as it is now. The error wraps [mooring.ErrNotFound] if there is no file.
func (s *Storage) Blob(d registry.Digest) (Blob, error) {
	b := Blob{Digest: d, Size: -1}
	err := check(d)
	if err == nil {
		b, err = s.stat(d)
	}
	if err != nil {
		return b, fmt.Errorf("stat %s: %w", d, absent(err))
	}
	return b, nil
}

func (s *Storage) stat(d registry.Digest) (Blob, error) {
	root, err := s.root()
	if err != nil {
		return Blob{Digest: d, Size: -1}, err
	}
	defer root.close()
	return root.blob(d)
}

// open opens a blob's file for reading.
func (s *Storage) open(d registry.Digest) (*os.File, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	defer root.close()
	return root.file(dataPath(d), unix.O_RDONLY)
}

// file opens a regular file below the directory.
func (d dir) file(path string, flags int) (*os.File, error) {
	fd, err := d.open(path, flags, 0)
	if err != nil {
		return nil, absent(err)
	}
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if !isRegular(&st) {
		return nil, errors.Join(fmt.Errorf("%s: %w: %w", path, mooring.ErrCorrupt, errNotRegular), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// absent marks an error that says that there is no such file.
func absent(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w", mooring.ErrNotFound, err)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %w: %w", mooring.ErrCorrupt, errNotRegular, err)
	default:
		return err
	}
}
