package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copySparse copies a file with its holes, in place of the one that is there: as a clone where the filesystem has such (ioctl_ficlone(2)).
func copySparse(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from) //nolint:gosec // the lab's own
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the lab's own
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = fmt.Errorf("copy disk %s: %w", from, err)
		}
	}()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	st, err := in.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := copyRange(ctx, out, in, data, at); err != nil {
			return err
		}
	}
	return out.Truncate(st.Size())
}

// copyRange copies the bytes from one offset up to another.
func copyRange(ctx context.Context, out, in *os.File, from, to int64) error {
	const step = 64 << 20 // between two looks at the context
	for ; from < to; from += step {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, f := range [...]*os.File{in, out} {
			if _, err := f.Seek(from, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(out, in, min(step, to-from)); err != nil {
			return err
		}
	}
	return nil
}
