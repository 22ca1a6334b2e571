package plugin

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// Survey returns the records that a new ledger begins with, when no generation of the old one can be read: every volume in the group's
// folder, and what is mounted, held by nobody knows whom until Docker's API says otherwise. It needs vCenter.
func Survey(ctx context.Context, disks Disks, devices Devices, boot mooring.BootID) ([]ledger.Record, error) {
	mounted, err := devices.Mounted()
	if err != nil {
		return nil, err
	}
	listed, err := disks.Names(ctx)
	if err != nil {
		return nil, err
	}
	var recs []ledger.Record
	for _, name := range listed {
		vol, err := disks.Find(ctx, name)
		if errors.Is(err, mooring.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		rec := ledger.Record{Volume: vol, Own: true}
		if m, ok := mounted[name]; ok && m.Disk == vol.Disk {
			rec.Root = rootHandedOut(m)
			rec.Holders = hold(nil, unknownHolder, boot, ledger.Instance{})
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// rootHandedOut says whether Docker was given the root of what is mounted: it was where the mark is missing.
func rootHandedOut(m guest.Mount) bool {
	_, err := os.Lstat(filepath.Join(m.Dir, mooring.MarkFile))
	return errors.Is(err, fs.ErrNotExist)
}

// Lost is why the driver has no ledger, and what a person can do about it.
type Lost struct {
	Cause error
	Cure  string
	// Rebuild writes a new ledger and returns the number of volumes in it; nil where that is not the cure.
	Rebuild func(context.Context) (int, error)
}

// LostHandler serves the admin socket while there is no ledger to answer from.
func LostHandler(about About, lost Lost) http.Handler {
	var conds conditions
	conds.set(condLost, "", lost.Cause.Error()+". Docker's requests are left without an answer, so that Docker keeps what it knows", lost.Cure)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		admin.Reply(w, admin.Status{Version: about.Version, VCenter: admin.VCenter{URL: about.VCenter}, Conditions: conds.all()})
	})
	if lost.Rebuild != nil {
		mux.HandleFunc("POST "+admin.RebuildPath, func(w http.ResponseWriter, r *http.Request) {
			n, err := lost.Rebuild(r.Context())
			if err != nil {
				admin.Refuse(w, err)
				return
			}
			admin.Reply(w, admin.Rebuilt{Volumes: n})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		admin.Refuse(w, &mooring.HintError{Err: lost.Cause, Hint: lost.Cure})
	})
	return mux
}
