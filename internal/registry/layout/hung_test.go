package layout_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// gate holds up every read of a file until it is opened, as a disk does that does not answer (fanotify(7), permission events).
type gate struct {
	tb testing.TB
	fd int
}

func newGate(tb testing.TB, path string) *gate {
	tb.Helper()
	layouttest.NeedRoot(tb) // needs root
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if errors.Is(err, unix.ENOSYS) {
		tb.Skip("needs fanotify")
	}
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Close(fd) })
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_ACCESS_PERM, unix.AT_FDCWD, path)
	if errors.Is(err, unix.EINVAL) {
		tb.Skip("needs fanotify's permission events")
	}
	must(tb, err)
	return &gate{tb: tb, fd: fd}
}

// held waits for a read, and returns what lets it go on.
func (g *gate) held() (release func()) {
	buf := make([]byte, 4096)
	n, err := unix.Read(g.fd, buf)
	if err != nil || n < unix.FAN_EVENT_METADATA_LEN {
		g.tb.Errorf("fanotify: got %d bytes and %v", n, err)
		return func() {}
	}
	file := buf[16:20] // fanotify_event_metadata.fd
	return func() {
		answer := binary.NativeEndian.AppendUint32(bytes.Clone(file), unix.FAN_ALLOW)
		_, err := unix.Write(g.fd, answer)
		must(g.tb, errors.Join(err, unix.Close(int(binary.NativeEndian.Uint32(file)))))
	}
}

// A disk that does not answer cannot be made to. Whoever wants to unmount is told in time that the file is still open; when the disk answers at last, it is closed.
func TestRehashReturnsThoughTheDiskDoesNotAnswer(t *testing.T) {
	r := layouttest.New(t)
	blob := r.Blob([]byte("content"))
	s := open(t, r)
	g := newGate(t, r.Data(blob.Digest))
	ctx, cancel := context.WithCancelCause(t.Context())
	var release func()
	done := make(chan struct{})
	go func() {
		defer close(done)
		release = g.held()
		cancel(errEnough)
	}()
	err := s.Rehash(ctx, []layout.Blob{{Digest: blob.Digest, Size: blob.Size}}, layout.Pace{Idle: true}, func(h layout.Hashed) { t.Errorf("got %+v, want no result", h) })
	if !errors.Is(err, errEnough) || !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("got %v, want the context's cause and one that wraps ErrInUse", err)
	}
	<-done
	if got := openBelow(t, r.Data(blob.Digest)); len(got) == 0 {
		t.Error("the file is closed, so nothing held it up")
	}
	w := newWatch(t)
	w.add(r.Data(blob.Digest), unix.IN_CLOSE_NOWRITE)
	release()
	w.next() // fanotify's own descriptor tells nobody of its end
	if got := openBelow(t, r.Data(blob.Digest)); len(got) != 0 {
		t.Errorf("left open: %v", got)
	}
}
