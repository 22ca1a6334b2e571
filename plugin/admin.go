package plugin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// About is what the status tells of the program itself.
type About struct {
	Version string
	VCenter string // the URL, without credentials
}

// AdminHandler serves the admin socket: what the command mooring shows and asks for. Volumes and status are told
// without asking vCenter or Docker.
func (d *Driver) AdminHandler(about About) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.VolumesPath, func(w http.ResponseWriter, _ *http.Request) {
		l := d.local()
		res := admin.Volumes{Volumes: []admin.View{}}
		for _, rec := range d.Ledger.All() {
			res.Volumes = append(res.Volumes, d.view(rec, l))
		}
		admin.Reply(w, res)
	})
	mux.HandleFunc(admin.VolumePattern, func(w http.ResponseWriter, r *http.Request) {
		name := mooring.Name(r.PathValue("name"))
		rec, err := d.Ledger.Find(name)
		if err != nil {
			admin.Refuse(w, &mooring.VolumeError{Op: "inspect", Name: name, Err: err})
			return
		}
		admin.Reply(w, d.view(rec, d.localOf(rec.Volume)))
	})
	mux.HandleFunc("GET "+admin.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		st := d.status()
		st.Version, st.VCenter.URL = about.Version, about.VCenter
		admin.Reply(w, st)
	})
	mux.HandleFunc("GET "+admin.DoctorPath, func(w http.ResponseWriter, r *http.Request) {
		res := d.doctor(r.Context())
		res.Version = about.Version
		admin.Reply(w, res)
	})
	mux.HandleFunc("GET "+admin.RestartsPath, d.serveRestarts)
	mux.HandleFunc(admin.ReleasePattern, d.serveRelease)
	mux.HandleFunc("POST "+admin.ResetPath, d.serveReset)
	mux.HandleFunc("POST "+admin.RebuildPath, func(w http.ResponseWriter, _ *http.Request) {
		admin.Refuse(w, fmt.Errorf("rebuild the ledger: it can be read, and is not made anew: %w", mooring.ErrExists))
	})
	return mux
}

// restartsLimit bounds what is asked of vCenter about restarts.
const restartsLimit = 10 * time.Second

func (d *Driver) serveRestarts(w http.ResponseWriter, r *http.Request) {
	since, err := time.Parse(time.RFC3339, r.URL.Query().Get("since"))
	if err != nil {
		admin.Refuse(w, fmt.Errorf("parameter since: %w: %w", err, mooring.ErrInvalid))
		return
	}
	if d.Inspector == nil {
		admin.Refuse(w, fmt.Errorf("ask vCenter for restarts: %w", mooring.ErrUnavailable))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), restartsLimit)
	defer cancel()
	list, err := d.Inspector.Restarts(ctx, since)
	if err != nil {
		admin.Refuse(w, fmt.Errorf("ask vCenter for restarts: %w", err))
		return
	}
	admin.Reply(w, admin.Restarts{Sightings: append([]mooring.Sighting{}, list...)})
}
