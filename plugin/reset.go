package plugin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Resetter restarts the virtual machine that we run in.
type Resetter interface {
	// Reset restarts the machine at once, as a press on its reset button does: nothing in it is asked. A machine of another instance UUID is
	// refused with [mooring.ErrInvalid]. Whoever is told of success is about to end.
	Reset(ctx context.Context, instance string) error
}

// Reset restarts this machine for a drill. It is refused where the ledger would not answer well for the volumes afterwards, or where it is not beyond doubt which
// machine would be restarted.
func (d *Driver) Reset(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shortLimit)
	defer cancel()
	err := d.mayReset()
	if err == nil {
		d.Log.Warn("this machine is about to be reset, because somebody asked for it", "op", "reset")
		err = d.heard(d.Resetter.Reset(ctx, d.Ledger.VM().Instance))
	}
	if err != nil {
		err = fmt.Errorf("reset this machine: %w", err)
		d.Log.Warn("request", "op", "reset", "err", err)
	}
	return err
}

// mayReset says why the machine must not be reset.
func (d *Driver) mayReset() error {
	for _, code := range [...]conditionCode{condBehind, condMoved, condUnclear} {
		if d.conditions.has(code, "") {
			return &mooring.HintError{Err: fmt.Errorf("%s: %w", kindOf(code).title, mooring.ErrInvalid), Hint: "mooring status"}
		}
	}
	if d.Ledger.VM().Instance == "" {
		return &mooring.HintError{
			Err:  fmt.Errorf("vCenter has not said yet which virtual machine this is: %w", mooring.ErrUnavailable),
			Hint: "mooring status",
		}
	}
	return nil
}

// serveReset answers the admin socket.
func (d *Driver) serveReset(w http.ResponseWriter, r *http.Request) {
	if err := d.Reset(r.Context()); err != nil {
		admin.Refuse(w, err)
		return
	}
	admin.Reply(w, struct{}{})
}
