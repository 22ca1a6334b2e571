package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Releaser removes what keeps a volume from being taken over from a machine that no longer runs.
type Releaser interface {
	// Release removes vol's disk from the configuration of the powered-off machine of that name, and reports whether it was there. No file is touched. A machine
	// that may still write is refused with [mooring.ErrInUse] or [mooring.ErrFenced] and a hint.
	Release(ctx context.Context, vol mooring.Volume, from string) (released bool, err error)
}

// Release removes another machine's claim on the volume, as [Releaser] says, and nothing else: the volume is not attached here before a container wants it.
func (d *Driver) Release(ctx context.Context, name mooring.Name, from string) (released bool, err error) {
	begun := time.Now()
	err = d.finish(ctx, name, func(ctx context.Context, _ func() bool) error {
		ctx, cancel := context.WithTimeout(ctx, longLimit)
		defer cancel()
		vol, err := d.known(ctx, name)
		if err != nil {
			return d.heard(err)
		}
		d.progress.set(name, "releasing the disk from "+from, -1)
		released, err = d.Releaser.Release(ctx, vol, from)
		return d.heard(err)
	})
	if err != nil {
		err = &mooring.VolumeError{Op: "release", Name: name, Err: err}
		d.Log.Warn("request", "op", "release", "volume", name, "vm", from, "took", time.Since(begun), "err", err)
		return false, err
	}
	if released {
		d.conditions.clear(condTaken, name)
	}
	d.Log.Info("request", "op", "release", "volume", name, "vm", from, "released", released, "took", time.Since(begun))
	return released, nil
}

// known returns the volume as the ledger has it, or as it lies on the datastore: the machine that takes a volume over may never have had it.
func (d *Driver) known(ctx context.Context, name mooring.Name) (mooring.Volume, error) {
	rec, err := d.Ledger.Find(name)
	if err == nil {
		return d.whole(ctx, rec)
	}
	if !errors.Is(err, mooring.ErrNotFound) {
		return mooring.Volume{}, err
	}
	vol, err := d.Disks.Find(ctx, name)
	if errors.Is(err, mooring.ErrNotFound) {
		return vol, &mooring.HintError{Err: fmt.Errorf("no such volume: %w", mooring.ErrNotFound), Hint: "mooring volume ls"}
	}
	return vol, err
}

// serveRelease answers the admin socket.
func (d *Driver) serveRelease(w http.ResponseWriter, r *http.Request) {
	var req admin.Release
	name, err := mooring.ParseName(r.PathValue("name"))
	if err == nil {
		if err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil || req.From == "" {
			err = fmt.Errorf("release %s: want the name of the virtual machine that has its disk: %w", name, mooring.ErrInvalid)
		}
	}
	var released bool
	if err == nil {
		released, err = d.Release(r.Context(), name, req.From)
	}
	if err != nil {
		admin.Refuse(w, err)
		return
	}
	admin.Reply(w, admin.Released{Volume: name, From: req.From, Released: released})
}
