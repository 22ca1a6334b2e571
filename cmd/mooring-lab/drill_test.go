package main_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// inside is the inside of a machine that boots when it has been restarted, slowly: each question finds it one step further.
type inside struct {
	vc *vcenter.VCenter

	mu    sync.Mutex
	first string // host
	steps int    // since it was restarted elsewhere
	ends  string // the phase in which its recovery ends
}

func (h *inside) host() string {
	for _, m := range h.vc.Machines() {
		if m.Name == "docker1" {
			return m.Host
		}
	}
	return ""
}

func (h *inside) Describe(s *control.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := control.Guest{Boot: "boot-1"}
	if h.host() != h.first {
		if h.steps++; h.steps < 3 {
			g.Boot = ""
		} else {
			g.Boot = "boot-2"
		}
	}
	s.Guest, s.Guests = control.QEMU, map[string]control.Guest{"docker1": g, "docker2": {}}
}

func (*inside) Do(_ context.Context, o control.Order) error { return control.Unknown(o) }

func (h *inside) Exec(_ context.Context, _ string, c control.Command) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c.Stdout, format, args...) }
	command := strings.Join(c.Args, " ")
	switch {
	case h.ends == "":
		_, _ = fmt.Fprintln(c.Stderr, "mooring: ask the supervisor: unavailable")
		return 75, nil
	case command == "mooring recovery show last":
		say("Recovery of boot-2: %s\n", h.ends)
		return 0, nil
	case command != "mooring recovery show last -o json":
		return 1, nil
	case h.host() == h.first:
		say(`{"boot": "boot-1", "phase": "settled", "ended": "2030-01-02T03:00:00Z"}`)
		return 0, nil
	}
	switch h.steps++; {
	case h.steps < 6:
		return 0, mooring.ErrUnavailable // the machine starts
	case h.steps < 8:
		say(`{"boot": "boot-1", "phase": "settled", "ended": "2030-01-02T03:00:00Z"}`) // what the disk has of the last
	case h.steps < 10:
		say(`{"boot": "boot-2", "phase": "starting"}`)
	default:
		say(`{"boot": "boot-2", "phase": %q, "ended": "2030-01-02T03:02:06Z"}`, h.ends)
	}
	return 0, nil
}

// drillLab is a lab with a real vCenter of the simulated kind, its hosts and HA, and machines that are told about.
func drillLab(t *testing.T, ends string) string {
	t.Helper()
	dir := state(t)
	vc, err := vcenter.Start(t.Context(), vcenter.Options{Dir: dir, TimeScale: 100, VMs: []vcenter.VM{
		{Name: "docker1", BIOS: "42110000-0000-4000-8000-0000000000d1", Instance: "50110000-0000-4000-8000-0000000000d1"},
		{Name: "docker2", BIOS: "42110000-0000-4000-8000-0000000000d2", Instance: "50110000-0000-4000-8000-0000000000d2"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vc.Close(); err != nil {
			t.Errorf("close vCenter: %v", err)
		}
	})
	h := &inside{vc: vc, ends: ends}
	h.first = h.host()
	server, err := control.Serve(t.Context(), dir, vc, h, slog.New(slog.DiscardHandler), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close the control socket: %v", err)
		}
	})
	return dir
}

// The host is killed, HA restarts the machine, and what is printed is the report on the boot that came of it, not on the one before.
func TestDrillPrintsTheReportFromInside(t *testing.T) {
	t.Parallel()
	dir := drillLab(t, "failed")
	status, out, errs := run(t, "drill", "docker1", "--state", dir)
	if status != 0 || out != "Recovery of boot-2: failed\n" {
		t.Errorf("got status %d, %q, %s, want the report", status, out, errs)
	}
	var steps []string
	for line := range strings.Lines(errs) {
		_, step, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "mooring-lab: "), " ")
		steps = append(steps, step)
	}
	want := []string{
		"killing esx1.lab, the host of docker1", "waiting for HA to restart docker1", "waiting for docker1 to boot on ", "waiting for the supervisor",
		"recovering: starting", "recovering: failed", "is dead: mooring-lab host start esx1.lab",
	}
	for i, step := range want {
		if i >= len(steps) || !strings.HasPrefix(steps[i], step) {
			t.Fatalf("steps: got %q, want %q", steps, want)
		}
	}
	hosts, err := control.Dial(dir).Hosts(t.Context())
	if err != nil || len(hosts) != 3 || hosts[0].Name != "esx1.lab" || hosts[0].State == "connected" {
		t.Errorf("hosts: got %+v, %v, want esx1.lab dead", hosts, err)
	}
}

// Nothing is killed where nothing could be learnt, and a drill has an end.
func TestDrillThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := drillLab(t, "")
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"drill", "docker1"}, 1, "before anything is killed: mooring: ask the supervisor: unavailable"},
		{[]string{"drill", "docker2"}, 2, "docker2 is not up"},
		{[]string{"drill", "nobody"}, 10, `no virtual machine "nobody"`},
		{[]string{"drill"}, 2, "hint: mooring-lab drill docker1"},
	} {
		if status, out, errs := run(t, append(c.args, "--state", dir)...); status != c.status || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%v: got status %d, %q, want %d and %q", c.args, status, errs, c.status, c.says)
		}
	}
	hosts, err := control.Dial(dir).Hosts(t.Context())
	for _, h := range hosts {
		if h.State != "connected" {
			t.Errorf("%s is %s, want no host killed", h.Name, h.State)
		}
	}
	if err != nil {
		t.Error(err)
	}
	if status, _, errs := run(t, "drill", "docker1", "--state", drillLab(t, "settled"), "--timeout", "1ns"); status != 75 || !strings.Contains(errs, "the drill was not over within 1ns") {
		t.Errorf("out of time: got status %d, %q", status, errs)
	}
}
