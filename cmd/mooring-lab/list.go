package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// listing returns a command that asks the lab for something and shows it, as a table or as JSON.
func listing[T any](use, short string, state *string, get func(*control.Client, context.Context) (T, error), table func(io.Writer, T)) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("output %q: allowed are table and json: %w", format, mooring.ErrInvalid)
			}
			v, err := get(control.Dial(*state), cmd.Context())
			if err != nil {
				return fmt.Errorf("ask the lab in %s: %w", *state, err)
			}
			if format == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(v)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			table(w, v)
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	return cmd
}

func newStatus() *cobra.Command {
	var state string
	cmd := listing("status", "Show virtual machines, disks, and who has what", &state, (*control.Client).Status, printStatus)
	stateFlag(cmd, &state)
	return cmd
}

func printStatus(w io.Writer, st control.Status) {
	_, _ = fmt.Fprintf(w, "vCenter\t%s\t%s\n", st.URL, st.VCenter)
	if st.Plugin != nil {
		_, _ = fmt.Fprintf(w, "plugin\tpid %d\tstarted %d times\n", st.Plugin.PID, st.Plugin.Starts)
	}
	_, _ = fmt.Fprintf(w, "\nVM\tHOST\tPOWER\tDISK\tSIZE\tPLACE\tDEVICE\tBACKING\n")
	for _, m := range st.Machines {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Host, power(m.PoweredOn))
		for _, d := range m.Disks {
			dev := ""
			if m.Name == lab.ThisVM {
				dev = st.Devices[d.UUID]
			}
			_, _ = fmt.Fprintf(w, "\t\t\t%s\t%s\t%d:%d\t%s\t%s\n", d.Label, mooring.Size(d.Capacity), d.Controller, d.Unit, dev, d.Backing)
		}
	}
	for _, v := range st.Violations {
		_, _ = fmt.Fprintf(w, "\nviolation\tdisk %s was detached while mounted\t%s\n", v.UUID, strings.Join(v.Mounts, ", "))
	}
}

func power(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// machine is a line of vm ls.
type machine struct {
	vcenter.Machine

	Guest *control.Guest `json:"guest,omitempty"` // nil: this machine, or nobody
}

// listMachines puts together what vCenter and what the lab know of each machine.
func listMachines(c *control.Client, ctx context.Context) ([]machine, error) { //nolint:revive // as the client's own methods
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	var out []machine
	for _, m := range st.Machines {
		one := machine{Machine: m}
		if g, ok := st.Guests[m.Name]; ok {
			one.Guest = &g
		}
		out = append(out, one)
	}
	return out, nil
}

func printMachines(w io.Writer, list []machine) {
	_, _ = fmt.Fprintf(w, "VM\tHOST\tPOWER\tGUEST\tDEBIAN\tADDRESS\tDISKS\tCUT OFF FROM\n")
	for _, m := range list {
		g := control.Guest{}
		if m.Guest != nil {
			g = *m.Guest
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
			m.Name, m.Host, power(m.PoweredOn), guestState(g, time.Now()), g.Suite, g.Address, len(m.Disks), strings.Join(g.Cut, ", "))
	}
}

// silence is for how long a guest may give no sign of life. It gives one each second.
const silence = 10 * time.Second

// guestState says in a word what goes on in a guest.
func guestState(g control.Guest, now time.Time) string {
	switch {
	case g.Suite == "": // this machine, or nobody
		return ""
	case g.Frozen:
		return "frozen"
	case !g.Running:
		return "off"
	case g.Boot == "":
		return "booting"
	case now.Sub(g.Heartbeat) > silence:
		return "silent"
	}
	return "up"
}

func printHosts(w io.Writer, hosts []vcenter.Host) {
	_, _ = fmt.Fprintf(w, "HOST\tSTATE\tPOWER\tVMS\n")
	for _, h := range hosts {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, h.State, h.Power, strings.Join(h.VMs, ", "))
	}
}

func printDisks(w io.Writer, disks []vcenter.Stored) {
	_, _ = fmt.Fprintf(w, "VM\tPOWER\tDISK\tSIZE\tUSED\tUUID\tBACKING\n")
	for _, d := range disks {
		vm, on := "-", "-"
		if d.VM != "" {
			vm, on = d.VM, power(d.PoweredOn)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", vm, on, d.Label, mooring.Size(d.Capacity), mebibytes(d.Used), d.UUID, d.Backing)
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%dmb", n>>20) }

func printEvents(w io.Writer, events []vcenter.Event) {
	_, _ = fmt.Fprintf(w, "TIME\tEVENT\tVM\tHOST\tTEXT\n")
	for _, e := range events {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Time.Format("15:04:05.000"), e.Type, e.VM, e.Host, e.Text)
	}
}
