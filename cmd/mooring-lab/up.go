package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/cluster"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

const (
	upWait   = time.Hour // dockerd may have to be installed, or images of machines be built
	downWait = 2 * time.Minute
	upPoll   = 50 * time.Millisecond
	logName  = "lab.log" // in the state directory: what a background lab says
)

func newUp() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up in the background",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return up(cmd, s) },
	}
	s.flags(cmd, defaultState())
	return cmd
}

// up starts this binary again, as the lab itself, and waits until it answers or has ended.
func up(cmd *cobra.Command, s settings) error {
	if err := errors.Join(s.check(cmd), needRoot()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), upWait)
	defer cancel()
	client := control.Dial(s.state)
	if st, err := client.Status(ctx); err == nil {
		return fmt.Errorf("a lab is up in %s already (pid %d): %w", s.state, st.PID, mooring.ErrInUse)
	}
	if err := os.MkdirAll(s.state, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	name := filepath.Join(s.state, logName)
	out, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = out.Close() }()
	log, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	args := append([]string{"serve"}, sameFlags(cmd.Flags())...)
	args = append(args, "--state="+s.state)
	child := exec.Command(self, args...) //nolint:noctx // it lives on
	child.Stdout, child.Stderr = out, out
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start lab: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- exitStatus(child.Wait()) }()
	shown := newProgress(cmd.ErrOrStderr())
	err = awaitUp(ctx, shown, client, ended, log)
	if ctx.Err() != nil {
		err = errors.Join(err, end(child.Process, ended))
	}
	shown.close()
	if err != nil {
		return err
	}
	return printUp(cmd, s.state)
}

// sameFlags returns the flags that were given, as arguments.
func sameFlags(flags *pflag.FlagSet) []string {
	var args []string
	flags.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok { // whose String is for people
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
			return
		}
		args = append(args, "--"+f.Name+"="+f.Value.String())
	})
	return args
}

// end tells the process to end, unless it has, and waits for that.
func end(p *os.Process, ended <-chan error) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end lab: %w", err)
	}
	timer := time.NewTimer(downWait)
	defer timer.Stop()
	select {
	case err := <-ended:
		if errors.As(err, new(statusError)) { // that it was told to end
			return nil
		}
		return err
	case <-timer.C:
		return fmt.Errorf("the lab (pid %d) does not end: %w", p.Pid, mooring.ErrUnavailable)
	}
}

// awaitUp shows what the lab logs and polls its control socket, which it opens last. A lab that ends before has said why, and its exit status is ours.
func awaitUp(ctx context.Context, shown *progress, client *control.Client, ended <-chan error, log *os.File) error {
	lines := &lineWriter{line: shown.relay}
	tick := time.NewTicker(upPoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := io.Copy(lines, log); err != nil {
				return fmt.Errorf("read what the lab logs: %w", err)
			}
			if _, err := client.Status(ctx); err == nil {
				return nil
			}
		case status := <-ended:
			_, err := io.Copy(lines, log)
			return cmp.Or(status, err, error(statusError(1)))
		case <-ctx.Done():
			return fmt.Errorf("wait for the lab, see %s: %w", log.Name(), ctx.Err())
		}
	}
}

// printUp says how to use the lab, in lines that a shell can evaluate.
func printUp(cmd *cobra.Command, state string) error {
	st, err := control.Dial(state).Status(cmd.Context())
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(state, "admin.password"))
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	var b strings.Builder
	for _, v := range [...][2]string{
		{"GOVC_URL", st.URL},
		{"GOVC_USERNAME", st.Admin},
		{"GOVC_PASSWORD", strings.TrimSpace(string(password))},
		{"GOVC_TLS_CA_CERTS", st.CAFile},
		{stateEnv, state},
	} {
		fmt.Fprintf(&b, "export %s='%s'\n", v[0], v[1])
	}
	if st.Plugin != nil {
		fmt.Fprintf(&b, "export MOORING_ADMIN_SOCKET='%s'\n", st.Plugin.Admin)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "mooring-lab: up (pid %d). For govc and mooring: eval \"$(mooring-lab up)\", or the lines above.\n", st.PID)
	return err
}

// newServe is what up starts.
func newServe() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "serve", Short: "Bring a lab up in the foreground", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(cmd); err != nil {
				return err
			}
			ctx, down := context.WithCancelCause(cmd.Context())
			defer down(nil)
			said := newProgress(cmd.ErrOrStderr())
			h, err := open(ctx, s, said, down)
			said.close()
			if err != nil {
				return err
			}
			<-ctx.Done()
			if err := h.close(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			return cluster.RemoveConsoles(s.state)
		},
	}
	s.flags(cmd, defaultState())
	return cmd
}

func newDown() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "down", Short: "Take a background lab down", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), downWait)
			defer cancel()
			client := control.Dial(state)
			st, err := client.Status(ctx)
			if err != nil {
				return fmt.Errorf("no lab is up in %s: %w", state, mooring.ErrNotFound)
			}
			log, err := os.Open(filepath.Join(state, logName))
			if err == nil {
				defer func() { _ = log.Close() }()
				_, err = log.Seek(0, io.SeekEnd)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) { // serve has none
				return fmt.Errorf("read what the lab logs: %w", err)
			}
			if err := client.Do(ctx, control.Order{Verb: "down"}); err != nil {
				return err
			}
			return awaitEnd(ctx, st.PID, log)
		},
	}
	stateFlag(cmd, &state)
	return cmd
}

// awaitEnd waits until the process has ended, and prints what it says until then.
func awaitEnd(ctx context.Context, pid int, log *os.File) error {
	tick := time.NewTicker(upPoll)
	defer tick.Stop()
	for {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			if log == nil {
				return nil
			}
			_, err := io.Copy(os.Stderr, log)
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the lab (pid %d): %w", pid, ctx.Err())
		}
	}
}
