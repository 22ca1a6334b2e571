package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	main "github.com/mooring-sh/mooring/cmd/mooring-plugin"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// G1, G13: a configuration file that is no YAML does not say where the ledger lies. An empty one in the default place would make
// dockerd forget its volumes, so that no request is answered; where a ledger is, it is used.
func TestG13UnreadableConfigurationMakesNoEmptyLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	if err := os.WriteFile(file, []byte("a: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	_, unreadable := config.Load(file)
	_, absent := config.Load(file + ".none")
	empty, used := t.TempDir(), t.TempDir()
	led, err := ledger.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	if err := led.Close(); err != nil {
		t.Fatal(err)
	}
	if !main.Misplaced(unreadable, empty) {
		t.Error("a new ledger would be made though the old one may lie elsewhere")
	}
	if main.Misplaced(unreadable, used) || main.Misplaced(absent, empty) || main.Misplaced(nil, empty) {
		t.Error("requests are left without an answer though the ledger's place is known")
	}
}

// G5: before a power-off the disks are detached, because whoever deletes the machine deletes what is attached to it; and when the sockets go
// with the service, because then nobody is left who would do it later. After a reboot the disks are wanted again at once, and an upgrade is none of these.
func TestG5OnlyWhoLeavesDetaches(t *testing.T) {
	const plugin, socket, shutdown = "mooring-plugin.service", "mooring-plugin.socket", "shutdown.target"
	for _, c := range []struct {
		jobs map[string]string
		want bool
	}{
		{map[string]string{plugin: "stop", "poweroff.target": "start", shutdown: "start"}, true},
		{map[string]string{"halt.target": "start", shutdown: "start"}, true},
		{map[string]string{"reboot.target": "start", shutdown: "start", socket: "stop"}, false},
		{map[string]string{plugin: "stop", socket: "stop"}, true},
		{map[string]string{plugin: "stop"}, false},
		{map[string]string{plugin: "restart"}, false},
		{map[string]string{"poweroff.target": "stop"}, false},
		{nil, false},
	} {
		if got := main.Leaving(c.jobs); got != c.want {
			t.Errorf("%v: got %t, want %t", c.jobs, got, c.want)
		}
	}
}

// One socket unit passes both sockets, in any order and all under one name: Docker's must never be answered as an administrator's. One
// that systemd did not pass is made.
func TestPassedSocketsAreToldApartByTheirPaths(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	docker, administrators := listen("vmdk.sock"), listen("elsewhere.sock")
	cfg := config.Config{PluginSocket: filepath.Join(dir, "own/vmdk.sock"), AdminSocket: filepath.Join(dir, "own/admin.sock")}
	for _, passed := range [][]net.Listener{{docker, administrators}, {administrators, nil, docker}} {
		got, err := main.Assign(t.Context(), cfg, passed)
		if err != nil || got != [2]net.Listener{docker, administrators} {
			t.Errorf("both passed: got %v, %v, want Docker's and then the administrators'", got, err)
		}
	}
	got, err := main.Assign(t.Context(), cfg, []net.Listener{docker})
	if err != nil || got[0] != docker || got[1].Addr().String() != cfg.AdminSocket {
		t.Fatalf("Docker's passed: got %v, %v, want one made for administrators", got, err)
	}
	if err := got[1].Close(); err != nil {
		t.Error(err)
	}
	if _, err := main.Assign(t.Context(), cfg, []net.Listener{administrators, administrators}); err == nil {
		t.Error("two sockets for administrators: got no error, though nobody would answer at one of them")
	}
}

// Run by hand, the plugin makes its own sockets, which only root may open; it takes the place of a dead one, and not of a live one.
func TestOwnSockets(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{PluginSocket: filepath.Join(dir, "a/vmdk.sock"), AdminSocket: filepath.Join(dir, "b/admin.sock")}
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.PluginSocket, nil, 0o600); err != nil { // dead
		t.Fatal(err)
	}
	socks, err := main.Sockets(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{cfg.PluginSocket, cfg.AdminSocket} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || socks[i].Addr().String() != path {
			t.Errorf("%s: got %v, %v, want mode 0600", path, info, err)
		}
	}
	if _, err := main.Sockets(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "served already") {
		t.Errorf("a second plugin: got %v, want that the socket is served already", err)
	}
	for _, s := range socks {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
