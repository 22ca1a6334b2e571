package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/volume"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// dockerd gives up on Create and Mount after two minutes and on the rest after one; the driver gives up first, so that its error
// reaches the user.
const (
	longLimit  = 110 * time.Second
	shortLimit = 50 * time.Second
)

const (
	contentType  = "application/vnd.docker.plugins.v1.2+json"
	maxBody      = 1 << 20
	verbActivate = "/Plugin.Activate"
)

// request is what any verb of the protocol may carry.
type request struct {
	Name string
	ID   string
	Opts map[string]string
}

// verb is one call of the protocol. What it returns is the answer's JSON.
type verb struct {
	op    string
	limit time.Duration
	named bool // the request names a volume
	do    func(ctx context.Context, name mooring.Name, r request, from ledger.Instance) (any, error)
}

// Handler serves Docker's volume-driver protocol. It answers nothing for a driver without a ledger, see [Unanswered].
//
// The types of go-plugins-helpers are used, and its handler is not: it passes on neither the context nor the peer (docs/adr/0003).
func (d *Driver) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+verbActivate, func(w http.ResponseWriter, r *http.Request) {
		from := peer(r.Context())
		d.Seen(r.Context(), from)
		d.Log.Info("request", "op", "activate", "dockerd", from.PID)
		answer(w, map[string][]string{"Implements": {"VolumeDriver"}})
	})
	for path, v := range d.verbs() {
		mux.HandleFunc("POST /VolumeDriver."+path, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, v) })
	}
	return mux
}

func (d *Driver) verbs() map[string]verb {
	type (
		ctx  = context.Context
		name = mooring.Name
		inst = ledger.Instance
	)
	return map[string]verb{
		"Capabilities": {op: "capabilities", limit: shortLimit, do: func(ctx, name, request, inst) (any, error) {
			return volume.CapabilitiesResponse{Capabilities: volume.Capability{Scope: "global"}}, nil
		}},
		"List": {op: "list", limit: shortLimit, do: func(ctx, name, request, inst) (any, error) {
			return d.listResponse(), nil
		}},
		"Create": {op: "create", limit: longLimit, named: true, do: func(c ctx, _ name, r request, _ inst) (any, error) {
			spec, given, err := ParseOptions(r.Name, r.Opts)
			if err != nil {
				return nil, err
			}
			return struct{}{}, d.Create(c, spec, given)
		}},
		"Get": {op: "get", limit: shortLimit, named: true, do: func(c ctx, n name, _ request, _ inst) (any, error) {
			rec, err := d.Get(c, n)
			if err != nil {
				return nil, err
			}
			return volume.GetResponse{Volume: d.dockerVolume(rec)}, nil
		}},
		"Path": {op: "path", limit: shortLimit, named: true, do: func(c ctx, n name, _ request, _ inst) (any, error) {
			rec, err := d.Get(c, n)
			if err != nil {
				return nil, err
			}
			return volume.PathResponse{Mountpoint: d.Mountpoint(rec)}, nil
		}},
		"Remove": {op: "remove", limit: shortLimit, named: true, do: func(c ctx, n name, _ request, _ inst) (any, error) {
			return struct{}{}, d.Remove(c, n)
		}},
		"Mount": {op: "mount", limit: longLimit, named: true, do: func(c ctx, n name, r request, from inst) (any, error) {
			dir, err := d.Mount(c, n, mooring.MountID(r.ID), from)
			return volume.MountResponse{Mountpoint: dir}, err
		}},
		"Unmount": {op: "unmount", limit: shortLimit, named: true, do: func(c ctx, n name, r request, _ inst) (any, error) {
			return struct{}{}, d.Unmount(c, n, mooring.MountID(r.ID))
		}},
	}
}

// serve is the boundary: it bounds the request, logs it once, and turns an error into the text that dockerd shows.
func (d *Driver) serve(w http.ResponseWriter, r *http.Request, v verb) {
	begun := time.Now()
	from := peer(r.Context())
	d.Seen(r.Context(), from)
	ctx, cancel := context.WithTimeout(r.Context(), v.limit)
	defer cancel()
	req, err := decode(r.Body)
	var result any
	if err == nil && v.named && req.Name == "" {
		err = fmt.Errorf("volume name is empty: %w", mooring.ErrInvalid)
		if r.ContentLength == 0 { // dockerd repeats a request whose connection broke without its body
			d.doubt(everything)
		}
		if r.ContentLength == 0 && v.op == "get" {
			// It knows which volume it asked for, and would take this error for that volume's being gone.
			err = fmt.Errorf("%w: %w", ErrDontKnow, err)
		}
	}
	if err == nil {
		result, err = v.do(ctx, mooring.Name(req.Name), req, from)
	}
	level := slog.LevelInfo
	if v.op == "get" || v.op == "list" || v.op == "capabilities" || v.op == "path" {
		level = slog.LevelDebug
	}
	attrs := []any{"op", v.op, "volume", req.Name, "holder", req.ID, "took", time.Since(begun)}
	if err != nil {
		if req.Name != "" {
			err = &mooring.VolumeError{Op: v.op, Name: mooring.Name(req.Name), Err: err}
		}
		d.Log.Log(ctx, slog.LevelWarn, "request", append(attrs, "err", err)...)
		if errors.Is(err, ErrDontKnow) {
			hangUp(w)
			return
		}
		answer(w, volume.NewErrorResponse(errorText(err)))
		return
	}
	d.Log.Log(ctx, level, "request", attrs...)
	answer(w, result)
}

func decode(body io.Reader) (request, error) {
	var req request
	err := json.NewDecoder(io.LimitReader(body, maxBody)).Decode(&req)
	if err != nil && !errors.Is(err, io.EOF) { // List and Capabilities come without a body
		return req, fmt.Errorf("request: %w: %w", err, mooring.ErrInvalid)
	}
	return req, nil
}

func answer(w http.ResponseWriter, result any) {
	w.Header().Set("Content-Type", contentType)
	_ = json.NewEncoder(w).Encode(result) // who asked is gone; what was done stands, and is asked for again
}

// errorText is the error with its hint: dockerd shows one string.
func errorText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if hint, ok := errors.AsType[*mooring.HintError](err); ok {
		text += " (hint: " + hint.Hint + ")"
	}
	return text
}

// Unanswered closes every connection without an answer, but those that activate the driver. It serves while no generation of the ledger can be read:
// a broken connection is the one reply after which dockerd keeps what it knows of its volumes.
func Unanswered(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == verbActivate {
			answer(w, map[string][]string{"Implements": {"VolumeDriver"}})
			return
		}
		log.Error("request left without an answer: the ledger is unreadable", "op", r.URL.Path)
		hangUp(w)
	})
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = conn.Close() // that it breaks is what it is for
}
