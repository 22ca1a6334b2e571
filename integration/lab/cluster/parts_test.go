package cluster_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/cluster"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/internal/config"
)

// The disk of a machine is a few GB of which a few hundred MB are written: a copy that fills the holes takes minutes and the disk.
func TestCopiesKeepTheirHoles(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	for name, data := range map[string]map[int64][]byte{
		"data between holes":   {4096: bytes.Repeat([]byte("a"), 70000), size / 2: []byte("middle")},
		"data up to the end":   {0: []byte("begin"), size - 3: []byte("end")},
		"a hole and no data":   {},
		"larger than one step": {1 << 20: bytes.Repeat([]byte("b"), 65<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
			if err := errors.Join(os.WriteFile(from, nil, 0o600), os.Truncate(from, size), os.WriteFile(to, []byte("an older disk"), 0o600)); err != nil {
				t.Fatal(err)
			}
			written := writeAt(t, from, data)
			if err := cluster.CopySparse(t.Context(), from, to); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(to)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			st, err := f.Stat()
			if err != nil || st.Size() != size {
				t.Fatalf("got %d bytes, %v, want %d", st.Size(), err, size)
			}
			if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > 2*written+1<<20 {
				t.Errorf("the copy takes %d bytes of the disk, for %d that were written", used, written)
			}
			for at, want := range data {
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, want) {
					t.Errorf("at %d: got %v and other bytes than were written", at, err)
				}
			}
		})
	}
}

// writeAt writes the pieces and returns how many bytes they are.
func writeAt(t *testing.T, file string, data map[int64][]byte) (n int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at, b := range data {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		n += int64(len(b))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// What the lab writes into its guests is a configuration that the plugin takes as it is.
func TestGuestsGetAConfigurationThatThePluginTakes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	if err := os.WriteFile(file, []byte(cluster.ConfigFile("https://vcenter.lab:1234/sdk", "mooring@vsphere.local", "/etc/mooring/ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := config.VCenter{URL: "https://vcenter.lab:1234/sdk", Username: "mooring@vsphere.local", PasswordFile: "vcenter-password", CAFile: "/etc/mooring/ca.pem"}
	if c.VCenter != want {
		t.Errorf("got %+v, want %+v", c.VCenter, want)
	}
}

// A killed lab of machines is swept; one of this machine may have mounts in its directory, and is let alone.
func TestSweepLetsLabsOfThisMachineBe(t *testing.T) {
	t.Parallel()
	machines, local := t.TempDir(), t.TempDir()
	for dir, sub := range map[string]string{machines: "vms", local: "mnt"} {
		lock, err := control.Claim(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(lock.Close(), os.MkdirAll(filepath.Join(dir, sub), 0o700), os.MkdirAll(filepath.Join(dir, control.Datastores), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.Sweep([]string{machines, local}); err != nil {
		t.Fatal(err)
	}
	for dir, there := range map[string]bool{machines: false, local: true} {
		if _, err := os.Stat(filepath.Join(dir, control.Datastores)); (err == nil) != there {
			t.Errorf("%s: got %v, want its datastores there: %v", dir, err, there)
		}
	}
}
