package main_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/mooring-sh/mooring"
	main "github.com/mooring-sh/mooring/cmd/mooring-plugin"
)

// G21: what systemd says is taken for what it is, and no guess is made where it says nothing.
func TestG21DockerIsOrderedAfterThePlugin(t *testing.T) {
	for properties, want := range map[string]mooring.Fact{
		"LoadState=loaded\nAfter=network-online.target mooring-plugin.service docker.socket\n": mooring.Yes,
		"After=mooring-plugin.service\nLoadState=loaded\n":                                     mooring.Yes,
		"LoadState=loaded\nAfter=network-online.target mooring-plugin.socket\n":                mooring.No,
		"LoadState=loaded\nAfter=\n":                                                           mooring.No,
		"LoadState=not-found\nAfter=\n":                                                        mooring.Unknown,
		"":                                                                                     mooring.Unknown,
	} {
		if got := main.OrderedAfter(properties); got != want {
			t.Errorf("%q: got %q, want %q", properties, got, want)
		}
	}
}

// G21: sockets of another process's, or fewer than both, are not systemd's.
func TestG21SocketsThatSystemdHolds(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		fds, pid string
		want     bool
	}{{"2", own, true}, {"1", own, false}, {"2", "1", false}, {"", "", false}} {
		env := map[string]string{"LISTEN_FDS": c.fds, "LISTEN_PID": c.pid}
		if got := main.SocketsPassed(func(key string) string { return env[key] }); got != c.want {
			t.Errorf("%v: got %t, want %t", env, got, c.want)
		}
	}
}
