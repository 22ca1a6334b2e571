//go:build machines

package qemu_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const bios = "4c2b178d-8e1a-4000-8000-0123456789ab"

// The first steps of everything else.
func TestMachineBootsAndAnswers(t *testing.T) {
	m := machine(t, newTiny(t), nil)
	start := time.Now()
	if err := m.PowerOn(t.Context(), vcenter.Hardware{Host: "esx1", Controllers: []int{0}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	boot, err := m.AwaitBoot(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("boot %s after %v", boot, time.Since(start))
	out, err := m.Shell(ctx, "cat /sys/class/dmi/id/product_uuid; cat /proc/modules; ls /dev; lspci")
	t.Log(out, err)
}

// machine returns a machine that is off, and off again when the test ends.
func machine(t *testing.T, g tiny, change func(*qemu.Config)) *qemu.Machine {
	t.Helper()
	cfg := qemu.Config{
		Name: "docker1", Dir: t.TempDir(), BIOS: bios, Kernel: g.kernel, Initrd: g.initrd, Agent: g.agent,
		Append: "quiet mooring.ip=10.77.0.1", MemoryMB: 512, VCenter: true,
	}
	if change != nil {
		change(&cfg)
	}
	m, err := qemu.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.PowerOff(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console: %s", tail(t, m.ConsoleFile()))
			t.Logf("qemu: %s", tail(t, filepath.Join(cfg.Dir, "qemu.log")))
		}
	})
	return m
}

func tail(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}
