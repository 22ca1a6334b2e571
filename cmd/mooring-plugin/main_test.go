package main_test

import (
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

// Before a power-off the disks are detached, because whoever deletes the machine deletes what is attached to it. After a reboot they are
// wanted again at once, and an upgrade is neither.
func TestOnlyAPowerOffDetaches(t *testing.T) {
	for jobs, want := range map[string]bool{
		"  812 mooring-plugin.service stop running\n  800 poweroff.target start waiting\n  801 shutdown.target start waiting\n": true,
		"  800 halt.target start waiting\n":                                               true,
		"  800 reboot.target start waiting\n  801 systemd-reboot.service start waiting\n": false,
		"  812 mooring-plugin.service restart running\n":                                  false,
		"  813 poweroff.target stop waiting\n":                                            false,
		"":                                                                                false,
	} {
		if got := main.GoingDown(jobs); got != want {
			t.Errorf("%q: got %t, want %t", jobs, got, want)
		}
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
