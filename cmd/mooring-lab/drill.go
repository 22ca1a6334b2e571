package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	drillPoll    = time.Second
	drillTimeout = 20 * time.Minute // machines boot slowly where they are emulated
	execLimit    = 30 * time.Second // for the guest to answer a question
)

func newDrill() *cobra.Command {
	var state string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drill NAME", Short: "Kill the host of a virtual machine, and show how the stack in it came back",
		Long: `Cuts the power of the host that the virtual machine NAME is on. Every machine there dies, and HA restarts them on other hosts. Then waits until NAME
has booted and its supervisor has settled, or failed, and prints the report from inside: mooring recovery show last. The host stays dead.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &mooring.HintError{Err: fmt.Errorf("drill wants the name of a virtual machine: %w", mooring.ErrInvalid), Hint: "mooring-lab drill docker1"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("the drill was not over within %s: %w", timeout, mooring.ErrUnavailable))
			defer cancel()
			said := newProgress(cmd.ErrOrStderr())
			d := &drill{client: control.Dial(state), vm: args[0], say: said.begin}
			err := d.run(ctx)
			said.close()
			if err != nil {
				return err
			}
			if err := d.show(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "mooring-lab: %s is dead: mooring-lab host start %s\n", d.host, d.host)
			return err
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().DurationVar(&timeout, "timeout", drillTimeout, "how long all of it may take")
	return cmd
}

// drill is a failover on purpose.
type drill struct {
	client *control.Client
	vm     string
	say    func(step string)

	host   string // the one that was killed
	before string // the boot that ended with it
}

// run kills the host and waits until the machine has come back and its stack has settled, or has failed.
func (d *drill) run(ctx context.Context) error {
	m, g, err := d.look(ctx)
	if err != nil {
		return err
	}
	if !m.PoweredOn || g.Boot == "" {
		return fmt.Errorf("%s is not up: %w", d.vm, mooring.ErrInvalid)
	}
	// Without a supervisor nothing would be learnt from it.
	if _, err := d.report(ctx); err != nil {
		return fmt.Errorf("ask %s for its last recovery before anything is killed: %w", d.vm, err)
	}
	d.host, d.before = m.Host, g.Boot
	d.say("killing " + d.host + ", the host of " + d.vm)
	if err := d.client.Do(ctx, control.Order{Verb: "host-kill", Name: d.host}); err != nil {
		return err
	}
	d.say("waiting for HA to restart " + d.vm)
	err = d.until(ctx, func() bool { return m.Host != d.host && m.PoweredOn }, func() (err error) { m, g, err = d.look(ctx); return err })
	if err != nil {
		return err
	}
	d.say("waiting for " + d.vm + " to boot on " + m.Host)
	err = d.until(ctx, func() bool { return g.Boot != "" && g.Boot != d.before }, func() (err error) { m, g, err = d.look(ctx); return err })
	if err != nil {
		return err
	}
	var rep admin.Recovery
	phase := ""
	d.say("waiting for the supervisor")
	return d.until(ctx, func() bool { return string(rep.Boot) == g.Boot && !rep.Ended.IsZero() }, func() error {
		// That it does not answer yet, while the machine starts, is nothing to speak of.
		if r, err := d.report(ctx); err == nil && string(r.Boot) == g.Boot {
			rep = r
		}
		if rep.Phase != phase {
			phase = rep.Phase
			d.say("recovering: " + phase)
		}
		return nil
	})
}

// until asks again and again until what is waited for holds.
func (d *drill) until(ctx context.Context, holds func() bool, ask func() error) error {
	tick := time.NewTicker(drillPoll)
	defer tick.Stop()
	for {
		if err := ask(); err != nil && ctx.Err() == nil {
			return err
		}
		if holds() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look returns what vCenter and what the lab know of the machine.
func (d *drill) look(ctx context.Context) (vcenter.Machine, control.Guest, error) {
	st, err := d.client.Status(ctx)
	if err != nil {
		return vcenter.Machine{}, control.Guest{}, err
	}
	if st.Guest != control.QEMU {
		return vcenter.Machine{}, control.Guest{}, control.NeedsMachines("drill")
	}
	i := slices.IndexFunc(st.Machines, func(m vcenter.Machine) bool { return m.Name == d.vm })
	if i < 0 {
		return vcenter.Machine{}, control.Guest{}, fmt.Errorf("no virtual machine %q: %w", d.vm, mooring.ErrNotFound)
	}
	return st.Machines[i], st.Guests[d.vm], nil
}

// report asks the supervisor in the machine for the last recovery.
func (d *drill) report(ctx context.Context) (admin.Recovery, error) {
	ctx, cancel := context.WithTimeout(ctx, execLimit)
	defer cancel()
	var out, complaints bytes.Buffer
	exit, err := d.client.Exec(ctx, d.vm, control.Command{
		Args: []string{"mooring", "recovery", "show", admin.LastRecovery, "-o", "json"}, Stdout: &out, Stderr: &complaints,
	})
	var rep admin.Recovery
	switch {
	case err != nil:
		return rep, err
	case exit != 0:
		return rep, errors.New(string(bytes.TrimSpace(complaints.Bytes())))
	}
	return rep, json.Unmarshal(out.Bytes(), &rep)
}

// show prints the report, as it is drawn inside.
func (d *drill) show(ctx context.Context, stdout, stderr io.Writer) error {
	exit, err := d.client.Exec(ctx, d.vm, control.Command{Args: []string{"mooring", "recovery", "show", admin.LastRecovery}, Stdout: stdout, Stderr: stderr})
	if err == nil && exit != 0 {
		return statusError(exit)
	}
	return err
}
