package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	main "github.com/mooring-sh/mooring/cmd/mooring-supervisor"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
)

// systemd is the end of a notification socket.
func systemd(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	said := make(chan string, 100)
	go func() {
		buf := make([]byte, 1<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	return said
}

func settings(t *testing.T) config.Supervisor {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "supervisor.yaml")
	text := "state_dir: " + dir + "/state\nadmin_socket: " + dir + "/run/supervisor.sock\nplugin_admin_socket: " + dir + "/none.sock\ndocker_host: unix://" + dir + "/docker.sock\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadSupervisor(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func stackOf(t *testing.T, socket string) admin.Stack {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Get("http://supervisor" + admin.StackPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var st admin.Stack
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

// serve runs the service until the test has looked at it.
func serve(t *testing.T, cfg config.Supervisor, broken error, look func(said <-chan string)) {
	t.Helper()
	said := systemd(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- main.Serve(ctx, cfg, broken, slog.New(slog.DiscardHandler)) }()
	select {
	case first := <-said:
		if first != "READY=1" {
			t.Errorf("first said to systemd: %s", first)
		}
	case err := <-done:
		t.Fatalf("ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready within a minute")
	}
	look(said)
	stop()
	if err := <-done; err != nil {
		t.Errorf("end: %v", err)
	}
	limit := time.After(time.Minute)
	for {
		select {
		case what := <-said: // systemctl, which is asked what is going on, says something there, too
			if what == "STOPPING=1" {
				return
			}
		case <-limit:
			t.Error("systemd was not told of the stop")
			return
		}
	}
}

// Without a stack the supervisor is ready and idle, and says so; its loop feeds the watchdog.
func TestIdleWithoutAStack(t *testing.T) {
	cfg := settings(t)
	serve(t, cfg, nil, func(said <-chan string) {
		if got := <-said; got != "WATCHDOG=1" {
			t.Errorf("said to systemd: %s", got)
		}
		if st := stackOf(t, cfg.AdminSocket); st.Configured || len(st.Conditions) != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// A stack whose Docker is away is waited for, and a configuration with mistakes is said; neither keeps the supervisor from being ready.
func TestReadyWhateverIsWrong(t *testing.T) {
	cfg := settings(t)
	cfg.Stack.Directory = t.TempDir()
	serve(t, cfg, errors.New("unknown key misspelt"), func(<-chan string) {
		st := stackOf(t, cfg.AdminSocket)
		codes := map[string]bool{}
		for _, c := range st.Conditions {
			codes[c.Code] = true
		}
		if !st.Configured || st.Phase != "fencing" || len(st.Waits) != 1 || !strings.Contains(st.Waits[0], "docker.sock") || !codes["configuration"] {
			t.Errorf("got %+v", st)
		}
	})
	cfg.Stack.Profile = "none-such"
	serve(t, cfg, nil, func(<-chan string) {
		if st := stackOf(t, cfg.AdminSocket); st.Configured || len(st.Conditions) != 1 || !strings.Contains(st.Conditions[0].Text, "none-such") {
			t.Errorf("a profile that there is not: got %+v", st)
		}
	})
}

// This run of the kernel is read as it is told.
func TestThisBoot(t *testing.T) {
	id, booted, err := main.ThisBoot("/proc")
	if err != nil || len(id) != 36 || booted.After(time.Now()) || booted.Year() < 2000 {
		t.Errorf("got %q, %s, %v", id, booted, err)
	}
	if _, _, err := main.ThisBoot(t.TempDir()); err == nil {
		t.Error("without a kernel: got no error")
	}
}

// The journal gets a line for people, and fields by which it is found.
func TestJournalHasFields(t *testing.T) {
	var line string
	var fields map[string]string
	var priority journal.Priority
	log := slog.New(main.Journald(slog.LevelInfo, func(m string, p journal.Priority, f map[string]string) error {
		line, priority, fields = m, p, f
		return nil
	}))
	log.Debug("nothing")
	if line != "" {
		t.Errorf("below the level: got %q", line)
	}
	log.With("recovery", "r1", "service", "").Warn("act", "op", "start", "took", 2*time.Second, "err", errors.New("it says \"no\""))
	if want := `act recovery=r1 op=start took=2s err="it says \"no\""`; line != want || priority != journal.PriWarning {
		t.Errorf("got %s (%d), want %s", line, priority, want)
	}
	if fields["MOORING_RECOVERY"] != "r1" || fields["MOORING_TOOK"] != "2s" || len(fields) != 4 {
		t.Errorf("fields: got %v", fields)
	}
}
