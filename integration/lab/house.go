package lab

import (
	"context"
	"fmt"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// house is the lab as its control socket sees it.
type house struct {
	*Lab

	unit *Unit // nil if no plugin runs
}

// Serve opens the control socket. down is called, with [control.ErrDown], when somebody tells the lab to go down.
func (l *Lab) Serve(ctx context.Context, unit *Unit, down context.CancelCauseFunc) (*control.Server, error) {
	return control.Serve(ctx, l.dir, l.VCenter, house{l, unit}, l.log, down)
}

// Describe adds the plugin and the guest "this machine" to the status.
func (h house) Describe(s *control.Status) {
	s.Guest, s.Devices, s.Violations = control.Local, h.Devices(), h.Violations()
	if h.unit != nil {
		s.Plugin = &control.Plugin{
			PID: h.unit.PID(), Starts: h.unit.Starts(), Socket: h.unit.PluginSocket(), Admin: h.unit.AdminSocket(), Log: h.unit.LogFile(),
		}
	}
}

// Do carries out an order for the plugin: "plugin-kill", "plugin-restart", "plugin-stop" (its sockets stay), "plugin-start".
func (h house) Do(ctx context.Context, o control.Order) error {
	switch o.Verb {
	case "plugin-kill", "plugin-restart", "plugin-stop", "plugin-start":
	case "vm-kill", "vm-freeze", "vm-thaw", "vm-cut", "vm-join":
		return control.NeedsMachines(o.Verb)
	default:
		return control.Unknown(o)
	}
	if h.unit == nil {
		return fmt.Errorf("%s: no plugin runs in this lab: %w", o.Verb, mooring.ErrInvalid)
	}
	switch o.Verb {
	case "plugin-kill":
		return h.unit.Kill(ctx)
	case "plugin-restart":
		return h.unit.Restart(ctx)
	case "plugin-stop":
		return h.unit.Stop(ctx)
	}
	return h.unit.Start()
}

// Exec is refused: this machine has its own shell.
func (h house) Exec(context.Context, string, control.Command) (int, error) {
	return 0, control.NeedsMachines("exec")
}
