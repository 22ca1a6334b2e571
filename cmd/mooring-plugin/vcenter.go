package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/plugin"
)

// vcenter is all that the driver needs of vSphere.
type vcenter interface {
	plugin.Disks
	plugin.Sidecars
	plugin.Attacher
	plugin.Releaser
	plugin.Resetter
	plugin.Inspector
	Warnings() []plugin.Warning
	Close(ctx context.Context) error
}

func newVCenter(cfg config.Config, vm string, broken error, log *slog.Logger) vcenter {
	if broken != nil {
		return unusable{broken}
	}
	password, err := cfg.VCenter.Password()
	if err != nil {
		return unusable{err}
	}
	session, err := esx.NewSession(esx.Account{
		URL: cfg.VCenter.URL, Username: cfg.VCenter.Username, Password: esx.Secret(password),
		CAFile: cfg.VCenter.CAFile, Thumbprint: cfg.VCenter.Thumbprint,
	}, log)
	if err != nil {
		return unusable{err}
	}
	host := esx.NewHost(session, esx.Where{VM: vm, Datastore: cfg.Datastore, Group: cfg.Group}, log)
	return connected{host, session}
}

// connected is vCenter as the configuration names it.
type connected struct {
	*esx.Host
	session *esx.Session
}

// Warnings returns what vCenter refused and was done without.
func (c connected) Warnings() []plugin.Warning {
	var ws []plugin.Warning
	for _, w := range c.Host.Conditions() {
		ws = append(ws, plugin.Warning{Name: w.Volume, Text: w.What, Cure: w.Cure})
	}
	return ws
}

// Close ends what is under way and logs out.
func (c connected) Close(ctx context.Context) error {
	return errors.Join(c.Host.Close(ctx), c.session.Close(ctx))
}

// unusable stands in for a vCenter that the configuration does not lead to: everything that needs it says why.
type unusable struct{ why error }

// Create says why vCenter cannot be used.
func (u unusable) Create(context.Context, mooring.Spec, mooring.Given) (mooring.Volume, error) {
	return mooring.Volume{}, u.why
}

// Find says why vCenter cannot be used.
func (u unusable) Find(context.Context, mooring.Name) (mooring.Volume, error) {
	return mooring.Volume{}, u.why
}

// Names says why vCenter cannot be used.
func (u unusable) Names(context.Context) ([]mooring.Name, error) { return nil, u.why }

// Delete says why vCenter cannot be used.
func (u unusable) Delete(context.Context, mooring.Volume) error { return u.why }

// SetFormat says why vCenter cannot be used.
func (u unusable) SetFormat(context.Context, mooring.Volume, mooring.Format) error { return u.why }

// Attach says why vCenter cannot be used.
func (u unusable) Attach(context.Context, mooring.Volume) error { return u.why }

// Reattach says why vCenter cannot be used.
func (u unusable) Reattach(context.Context, mooring.Volume) error { return u.why }

// Detach says why vCenter cannot be used.
func (u unusable) Detach(context.Context, ...mooring.Volume) error { return u.why }

// Release says why vCenter cannot be used.
func (u unusable) Release(context.Context, mooring.Volume, string) (bool, error) {
	return false, u.why
}

// Reset says why vCenter cannot be used.
func (u unusable) Reset(context.Context, string) error { return u.why }

// Inspect says why vCenter cannot be used.
func (u unusable) Inspect(context.Context) (mooring.Inspection, error) {
	return mooring.Inspection{}, u.why
}

// Restarts says why vCenter cannot be used.
func (u unusable) Restarts(context.Context, time.Time) ([]mooring.Sighting, error) {
	return nil, u.why
}

// Machine says why vCenter cannot be used.
func (u unusable) Machine(context.Context) (mooring.Machine, error) {
	return mooring.Machine{}, fmt.Errorf("%w: %w", u.why, mooring.ErrUnavailable)
}

// Warnings has none: nothing is done at all.
func (u unusable) Warnings() []plugin.Warning { return nil }

// Close has nothing to close.
func (u unusable) Close(context.Context) error { return nil }
