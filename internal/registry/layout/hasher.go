package layout

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// readSize is how much is read at a time: enough that a disk streams and hashing does not wait for system calls, and a fraction of what two seconds allow.
const readSize = 1 << 20

// hasher hashes files below a directory, one after the other.
type hasher struct {
	root   dir
	direct bool
	limit  *limiter
	sum    hash.Hash
	buf    []byte // aligned as direct reads want it
	err    error  // why there is no buffer
}

// newHasher returns one to be closed. Direct reads go to memory that starts at a page, which mmap(2) promises and the runtime does not.
func newHasher(root dir, direct bool, limit *limiter) *hasher {
	buf, err := unix.Mmap(-1, 0, readSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	return &hasher{root: root, direct: direct, limit: limit, sum: sha256.New(), buf: buf, err: err}
}

func (h *hasher) close() {
	if h.err == nil {
		_ = unix.Munmap(h.buf)
	}
}

// hash reads a blob and compares its digest.
func (h *hasher) hash(ctx context.Context, b Blob) Hashed {
	r := Hashed{Blob: b}
	if r.Err = check(b.Digest); r.Err == nil {
		r.Got, r.Read, r.Err = h.read(ctx, dataPath(b.Digest))
	}
	if r.Err == nil && r.Got != b.Digest {
		r.Err = fmt.Errorf("%d bytes of %s: %w", r.Read, r.Got, mooring.ErrCorrupt)
	}
	if r.Err != nil {
		r.Err = fmt.Errorf("rehash %s: %w", b.Digest, r.Err)
	}
	return r
}

// read reads a file below the directory, and returns the digest of what is in it.
func (h *hasher) read(ctx context.Context, below string) (got registry.Digest, read int64, err error) {
	if h.err != nil {
		return "", 0, h.err
	}
	f, err := h.open(below)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.close() }()
	h.sum.Reset()
	for read < f.size {
		if err := h.limit.wait(ctx, min(readSize, f.size-read)); err != nil {
			return "", read, err
		}
		n, err := f.read(h.buf, read)
		if err != nil {
			return "", read, err
		}
		if n == 0 { // cut off since it was opened
			break
		}
		_, _ = h.sum.Write(h.buf[:n])
		read += int64(n)
	}
	return registry.SumDigest([sha256.Size]byte(h.sum.Sum(nil))), read, nil
}

// source is a file that is read once, from its beginning to its end, and leaves the page cache as it was.
type source struct {
	file   *os.File
	fd     int
	size   int64
	direct bool
}

// open opens a file below the directory. A filesystem that has no direct reads says so here, or at the first of them.
func (h *hasher) open(below string) (*source, error) {
	f := &source{direct: h.direct}
	var err error
	if h.direct {
		f.file, err = h.root.file(below, unix.O_RDONLY|unix.O_DIRECT)
	}
	if !h.direct || errors.Is(err, unix.EINVAL) {
		f.direct = false
		f.file, err = h.root.file(below, unix.O_RDONLY)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.file.Stat()
	if err != nil {
		return nil, errors.Join(err, f.file.Close())
	}
	f.fd, f.size = int(f.file.Fd()), info.Size()
	if !f.direct {
		f.noReadahead()
	}
	return f, nil
}

func (f *source) close() error { return f.file.Close() }

// read reads what there is from an offset on, at most as much as buf takes.
func (f *source) read(buf []byte, from int64) (int, error) {
	if !f.direct {
		return f.readCached(buf, from)
	}
	n, err := pread(f.fd, buf, from)
	if !errors.Is(err, unix.EINVAL) {
		return n, err
	}
	// No direct reads after all, or not from here: after a read that ended between two blocks.
	if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, 0); err != nil {
		return 0, err
	}
	f.direct = false
	f.noReadahead()
	return f.readCached(buf, from)
}

func pread(fd int, buf []byte, from int64) (n int, err error) {
	err = again(func() error { n, err = unix.Pread(fd, buf, from); return err })
	return n, err
}
