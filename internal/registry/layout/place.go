package layout

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Place puts a blob where it belongs, durably. It is hashed while it streams to a temporary file under docker/registry/mooring-aside, read back from the disk and hashed again, and only then gets its
// name. The file and the directories that are made for it belong to owner.
//
// The error wraps [mooring.ErrExists] if something has the name already, which is never replaced; [mooring.ErrCorrupt] if the content is not the blob, or is not what was written when it
// is read back; [mooring.ErrInUse] if another call is placing the same blob; [mooring.ErrCapacity] if the disk is full.
func (s *Storage) Place(ctx context.Context, d registry.Digest, size int64, from io.Reader, owner Owner) error {
	if err := s.place(ctx, Blob{Digest: d, Size: size}, from, owner); err != nil {
		return fmt.Errorf("place %s: %w", d, err)
	}
	return nil
}

func (s *Storage) place(ctx context.Context, b Blob, from io.Reader, owner Owner) error {
	if err := check(b.Digest); err != nil {
		return err
	}
	root, err := s.root()
	if err != nil {
		return err
	}
	defer root.close()
	if _, err := root.statAny(dataPath(b.Digest)); err == nil { // asked again when it gets its name; this saves writing it
		return fmt.Errorf("%s: %w", dataPath(b.Digest), mooring.ErrExists)
	}
	return s.withTemp(root, b.Digest.Hex(), owner, func(t temp) error {
		if err := fill(ctx, t.file, from, b); err != nil {
			return err
		}
		if err := t.check(ctx, b); err != nil {
			return err
		}
		target, err := root.makeAll(blobDir(b.Digest), owner)
		if err != nil {
			return err
		}
		defer target.close()
		// link(2) and not rename(2): it never replaces.
		err = again(func() error { return unix.Linkat(t.dir.fd, t.name, target.fd, dataName, 0) })
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", dataPath(b.Digest), mooring.ErrExists)
		}
		return errors.Join(err, target.sync())
	})
}

// fill writes the content, if it is what it should be, and syncs it.
func fill(ctx context.Context, f *os.File, from io.Reader, b Blob) error {
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(f, sum), untilDone{ctx: ctx, from: io.LimitReader(from, b.Size+1)}, make([]byte, readSize))
	if err == nil {
		err = f.Sync()
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", mooring.ErrCapacity, err)
	}
	if err != nil {
		return err
	}
	if got := registry.SumDigest([sha256.Size]byte(sum.Sum(nil))); n != b.Size || got != b.Digest {
		return fmt.Errorf("got %d bytes of %s, want %d: %w", n, got, b.Size, mooring.ErrCorrupt)
	}
	return nil
}

// check reads what was written from the disk, and compares its digest.
func (t temp) check(ctx context.Context, b Blob) error {
	_ = unix.Fadvise(int(t.file.Fd()), 0, 0, unix.FADV_DONTNEED) // where there are no direct reads, none may come from memory
	h := newHasher(t.dir, true, nil)
	defer h.close()
	got, n, err := h.read(ctx, t.name)
	if err == nil && got != b.Digest {
		err = fmt.Errorf("%d bytes of %s: %w", n, got, mooring.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return nil
}

// untilDone is a reader that ends with a context.
type untilDone struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other way to it, and the value lives as long as one call
	from io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}
