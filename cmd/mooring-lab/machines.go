package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/mooring-sh/mooring/integration/lab/cluster"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// tempState is how the state directory of a run is called.
const tempState = "mooring-lab-"

// machines is a lab of QEMU machines.
type machines struct {
	cluster *cluster.Cluster
	control *control.Server
}

// openMachines brings up a lab of QEMU machines.
func openMachines(ctx context.Context, s settings, say io.Writer, log *slog.Logger, down context.CancelCauseFunc) (_ house, err error) {
	dead, err := filepath.Glob(filepath.Join(os.TempDir(), tempState+"*"))
	if err == nil {
		err = cluster.Sweep(dead)
	}
	if err != nil {
		return nil, fmt.Errorf("remove what killed labs have left: %w", err)
	}
	suites, err := s.suites()
	if err != nil {
		return nil, err
	}
	h := &machines{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close(context.WithoutCancel(ctx)))
		}
	}()
	h.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: s.state, VMs: s.vms, Hosts: s.hosts, Suites: suites, MemoryMB: s.memory, CPUs: s.cpus, TimeScale: s.scale, Busy: s.busy, Listen: s.listen,
		Agent: agentProgram(), Packages: s.packages, Log: log, Say: stepsOf(say),
	})
	if err != nil {
		return h, err
	}
	h.control, err = h.cluster.Serve(ctx, down)
	return h, err
}

// agentProgram returns this binary if it can be the guests' agent (see main), or "": then one is built.
func agentProgram() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := elf.Open(self)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return "" // it needs libraries that a guest may not have
	}
	return self
}

func (h *machines) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	var errs []error
	if h.control != nil {
		errs = append(errs, h.control.Close(ctx))
	}
	if h.cluster != nil {
		errs = append(errs, h.cluster.Close())
	}
	return errors.Join(errs...)
}

func (h *machines) env() []string {
	return slices.Concat(h.cluster.Env(), []string{stateEnv + "=" + h.cluster.Dir()}, pathEnv())
}
