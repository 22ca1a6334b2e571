package main_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	main "github.com/mooring-sh/mooring/cmd/mooring-plugin"
)

// A plugin that hangs must be started again, and one that is only waiting must not: the watchdog is fed as long as both sockets answer, and
// by nothing else.
func TestWatchdogIsFedByAnswers(t *testing.T) {
	dir := t.TempDir()
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = systemd.Close() }()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((300*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))

	var hangs [2]sync.Mutex // held: the socket of that number does not answer
	var socks [2]net.Listener
	for i, name := range []string{"vmdk.sock", "admin.sock"} {
		if socks[i], err = net.Listen("unix", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			hangs[i].Lock()
			defer hangs[i].Unlock()
			w.WriteHeader(http.StatusServiceUnavailable) // as while the ledger is lost: an answer all the same
		})}
		go func() { _ = srv.Serve(socks[i]) }()
		defer func() { _ = srv.Close() }()
	}
	unanswered := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { main.Watch(ctx, socks, slog.New(slog.NewTextHandler(lines(unanswered), nil))) })

	fed := func() { // within a time that is long enough on a slow machine
		t.Helper()
		b := make([]byte, 100)
		if err := systemd.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := systemd.Read(b)
		if err != nil || string(b[:n]) != "WATCHDOG=1" {
			t.Fatalf("systemd heard %q, %v, want WATCHDOG=1", b[:n], err)
		}
	}
	for i := range socks {
		fed()
		for len(unanswered) > 0 { // of the socket before
			<-unanswered
		}
		hangs[i].Lock()
		<-unanswered // from here on nothing is fed
		if err := systemd.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 100); err == nil; { // what was fed before
			_, err = systemd.Read(b)
		}
		if text := <-unanswered; !strings.Contains(text, "deadline exceeded") {
			t.Errorf("log: got %s, want that the deadline was exceeded", text)
		}
		if err := systemd.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := systemd.Read(make([]byte, 100)); err == nil {
			t.Errorf("socket %d does not answer, and systemd heard %d bytes", i, n)
		}
		err = nil
		hangs[i].Unlock()
	}
	fed()
	stop()
	watching.Wait()
}

// Without a watchdog nothing is asked, and nobody waits.
func TestNoWatchdogNoQuestions(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	main.Watch(t.Context(), [2]net.Listener{fakeListener{}, fakeListener{}}, slog.New(slog.DiscardHandler))
}

// fakeListener is a listener that nobody may dial.
type fakeListener struct{ net.Listener }

func (fakeListener) Addr() net.Addr { return &net.UnixAddr{Name: "/nonexistent", Net: "unix"} }

// lines sends each line that is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		l <- string(line)
	}
	return len(p), nil
}
