// Package control is how a lab is watched and told what to do while it is up: a directory that one lab at a time owns, and a socket
// in it that speaks HTTP. The lab of this machine (package lab) and the lab of QEMU machines (package cluster) share it; what only one
// of them has comes through [House].
//
// It promises that an order which was answered has been carried out, that an error crosses the socket with its text, hint and sentinel,
// and that a command run in a machine ends when whoever asked for it goes away.
//
// It never brings a lab up or takes one down: an order to go down only tells the owner.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/loop"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
	"github.com/mooring-sh/mooring/internal/admin"
)

const socketName = "control.sock"

// Socket returns the socket at which the lab in the directory is controlled.
func Socket(dir string) string { return filepath.Join(dir, socketName) }

// ErrDown is the cause with which a lab that is told to go down is cancelled.
var ErrDown = errors.New("the lab was told to go down")

// The kinds of guests that a lab can have.
const (
	Local = "local" // this machine
	QEMU  = "qemu"  // QEMU machines
)

// Status is what a lab says of itself.
type Status struct {
	Guest      string                   `json:"guest"` // [Local] or [QEMU]
	URL        string                   `json:"url"`
	CAFile     string                   `json:"caFile"`
	Thumbprint string                   `json:"thumbprint"`
	Admin      string                   `json:"admin"`
	VCenter    string                   `json:"vcenter"` // serving, hanging, stopped
	PID        int                      `json:"pid"`
	Machines   []vcenter.Machine        `json:"machines"`
	Tasks      map[string]vcenter.Count `json:"tasks"`
	Sessions   []vcenter.Session        `json:"sessions"`
	Delays     map[string]time.Duration `json:"delays,omitempty"`

	// Of the lab of this machine.
	Plugin     *Plugin           `json:"plugin,omitempty"`
	Devices    map[string]string `json:"devices,omitempty"` // by disk UUID
	Violations []loop.Violation  `json:"violations,omitempty"`

	// Of the lab of QEMU machines.
	Guests map[string]Guest `json:"guests,omitempty"` // by virtual machine
}

// Plugin is what the lab of this machine knows of its plugin.
type Plugin struct {
	PID    int    `json:"pid"` // 0 while it does not run
	Starts int    `json:"starts"`
	Socket string `json:"socket"`
	Admin  string `json:"admin"`
	Log    string `json:"log"`
}

// Guest is what the lab of QEMU machines knows of the inside of one.
type Guest struct {
	Suite     string    `json:"suite"`
	Address   string    `json:"address"` // among the machines
	Running   bool      `json:"running"`
	Frozen    bool      `json:"frozen"`
	Boot      string    `json:"boot,omitempty"`     // boot ID; empty until its agent answers
	Heartbeat time.Time `json:"heartbeat,omitzero"` // when the last came
	Cut       []string  `json:"cut,omitempty"`      // networks whose cable is pulled
	Console   string    `json:"console,omitempty"`  // the file with what it printed
	PoweredOn time.Time `json:"poweredOn,omitzero"` // when its power came on last
}

// Order is one thing that a lab is told to do.
type Order struct {
	// Verb is "down"; "vcenter-" and stop, start, hang, delay, fail, clear or logout (every session of the plugin's); "vm-" and poweroff,
	// poweron or reset; "host-" and kill, isolate, start, enter or exit (maintenance); or what the [House] knows.
	Verb     string        `json:"verb"`
	Name     string        `json:"name,omitempty"` // of a virtual machine or a host
	Method   string        `json:"method,omitempty"`
	Fault    string        `json:"fault,omitempty"`
	Times    int           `json:"times,omitempty"`
	Skip     int           `json:"skip,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
	Network  string        `json:"network,omitempty"` // vcenter, guests, all
}

// House is what one kind of lab has beside its vCenter.
type House interface {
	// Describe adds to the status what only this kind of lab has.
	Describe(s *Status)
	// Do carries out an order that is not vCenter's. One that it does not know is [Unknown].
	Do(ctx context.Context, o Order) error
	// Exec runs a command in a machine and returns its exit status.
	Exec(ctx context.Context, vm string, c Command) (int, error)
}

// Unknown is the answer to an order that the lab does not know, or that nothing in it can carry out.
func Unknown(o Order) error { return fmt.Errorf("unknown order %q: %w", o.Verb, mooring.ErrInvalid) }

// NeedsMachines is the answer of a lab without QEMU machines to an order that is for one.
func NeedsMachines(what string) error {
	return &mooring.HintError{
		Err:  fmt.Errorf("%s: the guest of this lab is this machine: %w", what, mooring.ErrInvalid),
		Hint: "a lab that is brought up with --guest qemu has machines",
	}
}

// Server serves a lab's control socket.
type Server struct {
	vc    *vcenter.VCenter
	house House
	down  context.CancelCauseFunc
	http  *http.Server
	wg    sync.WaitGroup // what serves, and the commands that run in machines
	stop  context.CancelFunc
	ended <-chan struct{} // closed by stop
}

// Serve opens the control socket in dir. down is called, with [ErrDown], when somebody tells the lab to go down.
func Serve(ctx context.Context, dir string, vc *vcenter.VCenter, house House, log *slog.Logger, down context.CancelCauseFunc) (*Server, error) {
	path := Socket(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open control socket: %w", err), l.Close())
	}
	s := &Server{vc: vc, house: house, down: down}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.ended = stop, life.Done()
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket ended", "err", err)
		}
	})
	return s, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Status(), nil) })
	mux.HandleFunc("GET /hosts", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.vc.Hosts(), nil) })
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.vc.Events(), nil) })
	mux.HandleFunc("GET /disks", func(w http.ResponseWriter, _ *http.Request) {
		disks, err := s.vc.Disks()
		answer(w, disks, err)
	})
	mux.HandleFunc("GET /exec", s.serveExec)
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := json.NewDecoder(r.Body).Decode(&o)
		if err == nil {
			err = s.do(r.Context(), o)
		}
		answer(w, struct{}{}, err)
	})
	return mux
}

// Close stops serving and removes the socket. Orders that are being carried out end first, within ctx; commands in machines are ended.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	s.wg.Wait()
	return err
}

func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		v, status = admin.ProblemOf(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone if this fails
}

// Status describes the lab.
func (s *Server) Status() Status {
	vc := s.vc
	out := Status{
		URL: vc.URL(), CAFile: vc.CAFile(), Thumbprint: vc.Thumbprint(), Admin: vc.Admin().User, VCenter: vc.State(), PID: os.Getpid(),
		Machines: vc.Machines(), Tasks: vc.Tasks(), Sessions: vc.Sessions(), Delays: vc.Delays(),
	}
	s.house.Describe(&out)
	return out
}
