package plugin

import (
	"context"
	"encoding/json"
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
		reply(w, res)
	})
	mux.HandleFunc(admin.VolumePattern, func(w http.ResponseWriter, r *http.Request) {
		name := mooring.Name(r.PathValue("name"))
		rec, err := d.Ledger.Find(name)
		if err != nil {
			refuse(w, &mooring.VolumeError{Op: "inspect", Name: name, Err: err})
			return
		}
		reply(w, d.view(rec, d.local()))
	})
	mux.HandleFunc("GET "+admin.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		st := d.status()
		st.Version, st.VCenter.URL = about.Version, about.VCenter
		reply(w, st)
	})
	mux.HandleFunc("GET "+admin.DoctorPath, func(w http.ResponseWriter, r *http.Request) {
		res := d.doctor(r.Context())
		res.Version = about.Version
		reply(w, res)
	})
	mux.HandleFunc("GET "+admin.RestartsPath, d.serveRestarts)
	mux.HandleFunc(admin.ReleasePattern, d.serveRelease)
	mux.HandleFunc("POST "+admin.ResetPath, d.serveReset)
	mux.HandleFunc("POST "+admin.RebuildPath, func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, fmt.Errorf("rebuild the ledger: it can be read, and is not made anew: %w", mooring.ErrExists))
	})
	return mux
}

// restartsLimit bounds what is asked of vCenter about restarts.
const restartsLimit = 10 * time.Second

func (d *Driver) serveRestarts(w http.ResponseWriter, r *http.Request) {
	since, err := time.Parse(time.RFC3339, r.URL.Query().Get("since"))
	if err != nil {
		refuse(w, fmt.Errorf("parameter since: %w: %w", err, mooring.ErrInvalid))
		return
	}
	if d.Inspector == nil {
		refuse(w, fmt.Errorf("ask vCenter for restarts: %w", mooring.ErrUnavailable))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), restartsLimit)
	defer cancel()
	list, err := d.Inspector.Restarts(ctx, since)
	if err != nil {
		refuse(w, fmt.Errorf("ask vCenter for restarts: %w", err))
		return
	}
	reply(w, admin.Restarts{Sightings: append([]mooring.Sighting{}, list...)})
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // who asked is gone
}

func refuse(w http.ResponseWriter, err error) {
	p, status := admin.ProblemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // who asked is gone
}
