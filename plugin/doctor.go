package plugin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// doctorLimit bounds what the doctor asks of vCenter, systemd and Docker.
const doctorLimit = 40 * time.Second

// Inspector asks vCenter for what matters to volumes beyond their disks.
type Inspector interface {
	// Inspect returns what vCenter says of the machine; what the account may not read is unknown.
	Inspect(ctx context.Context) (mooring.Inspection, error)
	// Restarts returns what vCenter wrote since then about ends and beginnings of the machine, and about failures of its hosts, the oldest first.
	Restarts(ctx context.Context, since time.Time) ([]mooring.Sighting, error)
}

// Surroundings is what the machine that the plugin runs on says, outside of its volumes.
type Surroundings struct {
	SystemdSocket mooring.Fact // systemd holds the sockets, so that they exist while the plugin is restarted
	DockerAfter   mooring.Fact // docker.service is ordered after the plugin
	LiveRestore   mooring.Fact // of dockerd
	Writable      []string     // mount directories on which nothing is mounted and into which anybody may write
	WritableOK    mooring.Fact // Unknown: they could not be looked at
}

// observed is all that the doctor's checks are made from.
type observed struct {
	Inspection  mooring.Inspection
	Unreachable error // why there is no inspection
	Ledger      ledger.Identity
	Moved       bool // the ledger was written by another machine
	Behind      bool
	Attached    []mooring.Name // the volumes whose disks the machine has now
	Around      Surroundings
}

// doctor looks at everything once.
func (d *Driver) doctor(ctx context.Context) admin.Doctor {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	o := observed{Ledger: d.Ledger.VM(), Behind: d.behind.Load(), Moved: d.conditions.has(condMoved, "")}
	if d.Around != nil {
		o.Around = d.Around(ctx, d.Alive(d.current()))
	}
	present, err := d.Devices.Present()
	if err != nil {
		d.Log.Error("read devices", "err", err)
	}
	for _, rec := range d.Ledger.All() {
		if rec.Volume.Disk != "" && slices.Contains(present, rec.Volume.Disk) {
			o.Attached = append(o.Attached, rec.Volume.Name)
		}
	}
	o.Unreachable = errors.New("nobody here asks vCenter")
	if d.Inspector != nil {
		o.Inspection, o.Unreachable = d.Inspector.Inspect(ctx)
	}
	return admin.Doctor{VM: o.Inspection.Machine.Name, Checks: examine(o)}
}

func (c *conditions) has(code conditionCode, name mooring.Name) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.now[conditionKey{code, name}]
	return ok
}
