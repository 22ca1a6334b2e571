package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// bufferSize is what a blob is read by, in bytes: hashing in small pieces costs a third of the speed.
const bufferSize = 1 << 20

// Blob returns the bytes of a blob as the registry sends them: whoever reads them hashes them. A connection that is cut, or on which nothing comes for too long,
// is replaced, and the blob goes on from where it was. If the registry then has no further byte, again and again, the error wraps [mooring.ErrCorrupt]: its
// storage ends there, whatever size it gives. The context is that of the reading, too.
func (r *Registry) Blob(ctx context.Context, repository string, d registry.Descriptor) (io.ReadCloser, error) {
	op := fmt.Sprintf("read blob %s@%s", repository, d.Digest)
	if err := errors.Join(checkRepository(repository), checkDigest(d.Digest)); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrInvalid)
	}
	b := &blob{ctx: ctx, registry: r, op: op, repository: repository, digest: d.Digest}
	b.leave = r.transport.callers.enter(ctx)
	if err := b.open(); err != nil {
		b.leave()
		return nil, err
	}
	return b, nil
}

// blob is a stream that outlives its connections.
type blob struct {
	ctx        context.Context //nolint:containedctx // io.Reader has none; it is the request's, as that of an http.Request's body
	registry   *Registry
	op         string
	repository string
	digest     registry.Digest
	leave      func()

	body   io.ReadCloser
	size   int64 // as the registry says; negative: it does not
	at     int64
	begun  int64 // where this connection began
	stalls int   // connections, one after the other, on which no byte came
	cause  error // why the last one ended
}

// open asks for the blob from where it is.
func (b *blob) open() error {
	x := &exchange{offset: b.at}
	err := b.registry.ask(b.ctx, x, func(ctx context.Context, c *reg.Reg) error {
		res, err := c.BlobGet(ctx, b.registry.at(b.repository), descriptor.Descriptor{Digest: digest.Digest(b.digest)})
		if err != nil {
			return err
		}
		// regclient's reader would hash, too, and resume by its own rules: what is below it is read.
		b.body = res.Response().Body //nolint:bodyclose // it is closed by Close, or when the next one is opened
		return nil
	})
	switch {
	case x.status == http.StatusRequestedRangeNotSatisfiable && b.at > 0:
		return fmt.Errorf("%s: ends after %d bytes: %w", b.op, b.at, mooring.ErrCorrupt)
	case err != nil || !x.ok() && x.status != http.StatusPartialContent:
		b.body = nil
		return b.registry.failed(b.ctx, b.op, x, b.registry.rightToPull(b.repository), err)
	}
	b.begun = b.at
	if b.at == 0 {
		b.size = lengthOf(x.header)
	}
	return nil
}

func lengthOf(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// Read reads from the connection that there is, or from a new one where that one was cut.
func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.body == nil {
			if err := b.resume(); err != nil {
				return 0, err
			}
		}
		n, err := b.body.Read(p)
		b.at += int64(n)
		if err == io.EOF { // of a body whose length is known, net/http says so only at its end
			return n, io.EOF
		}
		if err != nil {
			b.cause = err
			closeBody(b.body)
			b.body = nil
		}
		if n > 0 || err == nil {
			return n, nil
		}
	}
}

// resume opens the next connection.
func (b *blob) resume() error {
	if err := b.ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", b.op, context.Cause(b.ctx))
	}
	if b.at > b.begun {
		b.stalls = 0
	} else {
		b.stalls++
	}
	patience := b.registry.transport.patience
	if b.stalls >= stallsAllowed {
		return b.ended()
	}
	if err := wait(b.ctx, jitter(patience.pause(b.stalls+1))); err != nil {
		return fmt.Errorf("%s: %w", b.op, context.Cause(b.ctx))
	}
	return b.open()
}

// stallsAllowed is how many connections may end where they began before the blob is believed to end there.
const stallsAllowed = 3

// ended is the error for a blob of which no more can be had.
func (b *blob) ended() error {
	what := fmt.Sprintf("ends after %d bytes", b.at)
	if b.size >= 0 {
		what = fmt.Sprintf("ends after %d of the %d bytes that the registry promises", b.at, b.size)
	}
	if isTimeout(b.cause) {
		return fmt.Errorf("%s: no further byte after %d, on %d connections: %w: %w", b.op, b.at, stallsAllowed, b.cause, mooring.ErrUnavailable)
	}
	return fmt.Errorf("%s: %s: %w: %w", b.op, what, b.cause, mooring.ErrCorrupt)
}

// Close lets go of the connection.
func (b *blob) Close() error {
	b.leave()
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}

// begin makes a good answer a stream that begins at the exchange's offset, whether or not the registry can begin there. To regclient, which takes
// nothing but 200, it is one.
func (x *exchange) begin(res *http.Response) error {
	if res.StatusCode == http.StatusPartialContent {
		first, ok := firstByte(res.Header.Get("Content-Range"))
		if !ok || x.offset == 0 || first != x.offset {
			return fmt.Errorf("asked for what begins at byte %d, got %q: %w", x.offset, res.Header.Get("Content-Range"), mooring.ErrInvalid)
		}
		res.StatusCode = http.StatusOK
		return nil
	}
	if _, err := io.CopyN(io.Discard, res.Body, x.offset); err != nil {
		return fmt.Errorf("cut before byte %d: %w: %w", x.offset, err, mooring.ErrUnavailable)
	}
	return nil
}

// firstByte reads where a part begins (RFC 9110, 14.4): "bytes 7-41/42" at 7.
func firstByte(contentRange string) (int64, bool) {
	unit, rest, _ := strings.Cut(contentRange, " ")
	first, rest, ok := strings.Cut(rest, "-")
	if !ok || !strings.EqualFold(unit, "bytes") || !strings.Contains(rest, "/") {
		return 0, false
	}
	n, err := strconv.ParseInt(first, 10, 64)
	return n, err == nil && n >= 0
}

// Hash reads a blob and compares size and digest. It returns how many bytes were hashed; each is told to read, which may be nil, as it comes. An error
// that wraps [mooring.ErrCorrupt] says what was got instead.
func (r *Registry) Hash(ctx context.Context, repository string, d registry.Descriptor, read func(n int)) (int64, error) {
	body, err := r.Blob(ctx, repository, d)
	if err != nil {
		return 0, err
	}
	defer body.Close() //nolint:errcheck // only read
	buffer, _ := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buffer)
	sum := sha256.New()
	var total int64
	for {
		n, err := body.Read(*buffer)
		sum.Write((*buffer)[:n])
		total += int64(n)
		if read != nil && n > 0 {
			read(n)
		}
		switch {
		case err == io.EOF:
			return total, compare(repository, d, total, registry.SumDigest([sha256.Size]byte(sum.Sum(nil))))
		case err != nil:
			return total, err
		case d.Size != registry.UnknownSize && total > d.Size:
			return total, fmt.Errorf("read blob %s@%s: longer than %d bytes: %w", repository, d.Digest, d.Size, mooring.ErrCorrupt)
		}
	}
}

// compare returns an error unless the content is what the descriptor says.
func compare(repository string, d registry.Descriptor, size int64, got registry.Digest) error {
	switch {
	case got != d.Digest:
		return fmt.Errorf("read blob %s@%s: got %d bytes with the digest %s: %w", repository, d.Digest, size, got, mooring.ErrCorrupt)
	case d.Size != registry.UnknownSize && size != d.Size:
		return fmt.Errorf("read blob %s@%s: it has %d bytes, not %d: %w", repository, d.Digest, size, d.Size, mooring.ErrCorrupt)
	}
	return nil
}
