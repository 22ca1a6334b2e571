package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring"
)

// do carries out an order, see [Order].
func (s *Server) do(ctx context.Context, o Order) error {
	verb := o.Verb
	switch {
	case verb == "down":
		s.down(ErrDown)
		return nil
	case strings.HasPrefix(verb, "vm-"):
		return s.doMachine(ctx, o)
	case strings.HasPrefix(verb, "host-"):
		return s.doHost(o)
	case strings.HasPrefix(verb, "vcenter-"):
		return s.doVCenter(o)
	}
	return s.house.Do(ctx, o)
}

func (s *Server) doVCenter(o Order) error {
	vc := s.vc
	switch o.Verb {
	case "vcenter-stop":
		return vc.StopServing()
	case "vcenter-start":
		return vc.StartServing()
	case "vcenter-hang":
		vc.Hang()
	case "vcenter-delay":
		vc.Delay(o.Method, o.Duration)
	case "vcenter-fail":
		if err := vc.Fail(o.Method, o.Fault, o.Times, o.Skip); err != nil {
			return fmt.Errorf("%w: %w", err, mooring.ErrInvalid)
		}
	case "vcenter-clear":
		vc.Clear()
		return vc.StartServing()
	case "vcenter-logout":
		vc.KillSessions(vc.Plugin().User)
	default:
		return Unknown(o)
	}
	return nil
}

func (s *Server) doMachine(ctx context.Context, o Order) error {
	var names []string
	for _, m := range s.vc.Machines() {
		names = append(names, m.Name)
	}
	if err := known("virtual machine", o.Name, names); err != nil {
		return err
	}
	switch o.Verb {
	case "vm-poweroff":
		return s.vc.PowerOff(o.Name)
	case "vm-poweron":
		return s.vc.PowerOn(o.Name)
	case "vm-reset":
		return s.vc.Reset(o.Name)
	}
	return s.house.Do(ctx, o)
}

func (s *Server) doHost(o Order) error {
	var names []string
	for _, h := range s.vc.Hosts() {
		names = append(names, h.Name)
	}
	if err := known("host", o.Name, names); err != nil {
		return err
	}
	switch o.Verb {
	case "host-kill":
		return s.vc.KillHost(o.Name)
	case "host-isolate":
		return s.vc.IsolateHost(o.Name)
	case "host-start":
		return s.vc.StartHost(o.Name)
	case "host-enter":
		return s.vc.EnterMaintenance(o.Name)
	case "host-exit":
		return s.vc.ExitMaintenance(o.Name)
	}
	return Unknown(o)
}

// known refuses a name that is none of those there are.
func known(what, name string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("no %s %q, there are %s: %w", what, name, strings.Join(names, ", "), mooring.ErrNotFound)
}
