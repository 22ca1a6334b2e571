package daemons_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/cmd/internal/daemons"
)

// A shutdown in order is told from a restart of the service, and from a shutdown that is over or was called off.
func TestShuttingDown(t *testing.T) {
	for jobs, want := range map[string]bool{
		"  800 poweroff.target start waiting\n  801 shutdown.target start waiting\n": true,
		"  800 reboot.target start waiting\n  801 shutdown.target start waiting\n":   true,
		"  812 mooring-supervisor.service restart running\n":                         false,
		"  801 shutdown.target stop waiting\n":                                       false,
		"":                                                                           false,
	} {
		if got := daemons.ShuttingDown(daemons.ParseJobs(jobs)); got != want {
			t.Errorf("%q: got %t, want %t", jobs, got, want)
		}
	}
}

// A socket is root's alone; it takes the place of a dead one, and not of a live one.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/admin.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // dead
		t.Fatal(err)
	}
	l, err := daemons.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if _, err := daemons.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "served already") {
		t.Errorf("a second one: got %v, want that the socket is served already", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
