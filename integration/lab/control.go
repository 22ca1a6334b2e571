package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/loop"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const controlSocket = "control.sock"

// ControlSocket returns the socket at which the lab in the directory is controlled.
func ControlSocket(dir string) string { return filepath.Join(dir, controlSocket) }

// Status is what the lab says of itself.
type Status struct {
	URL        string                   `json:"url"`
	CAFile     string                   `json:"caFile"`
	Thumbprint string                   `json:"thumbprint"`
	Admin      string                   `json:"admin"`
	VCenter    string                   `json:"vcenter"` // serving, hanging, stopped
	PID        int                      `json:"pid"`
	Plugin     *PluginStatus            `json:"plugin,omitempty"`
	Machines   []vcenter.Machine        `json:"machines"`
	Devices    map[string]string        `json:"devices"` // of this machine, by disk UUID
	Tasks      map[string]vcenter.Count `json:"tasks"`
	Sessions   []vcenter.Session        `json:"sessions"`
	Delays     map[string]time.Duration `json:"delays,omitempty"`
	Violations []loop.Violation         `json:"violations,omitempty"`
}

// PluginStatus is what the lab knows of the plugin.
type PluginStatus struct {
	PID    int    `json:"pid"` // 0 while it does not run
	Starts int    `json:"starts"`
	Socket string `json:"socket"`
	Admin  string `json:"admin"`
	Log    string `json:"log"`
}

// Order is one thing that the lab is told to do.
type Order struct {
	Verb     string        `json:"verb"` // see [Control.do]
	Method   string        `json:"method,omitempty"`
	Fault    string        `json:"fault,omitempty"`
	Times    int           `json:"times,omitempty"`
	Skip     int           `json:"skip,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
	Name     string        `json:"name,omitempty"` // of a virtual machine
}

// Control serves a lab's control socket.
type Control struct {
	lab  *Lab
	unit *Unit // nil if no plugin runs
	down context.CancelCauseFunc
	http *http.Server
	wg   sync.WaitGroup
}

// ErrDown is the cause with which a lab that is told to go down is cancelled.
var ErrDown = errors.New("the lab was told to go down")

// Serve opens the control socket. down is called, with [ErrDown], when somebody tells the lab to go down.
func (l *Lab) Serve(ctx context.Context, unit *Unit, down context.CancelCauseFunc) (*Control, error) {
	path := ControlSocket(l.dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	s, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open control socket: %w", err), s.Close())
	}
	c := &Control{lab: l, unit: unit, down: down}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.Status(), nil) })
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := json.NewDecoder(r.Body).Decode(&o)
		if err == nil {
			err = c.do(r.Context(), o)
		}
		answer(w, struct{}{}, err)
	})
	c.http = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	c.wg.Go(func() {
		if err := c.http.Serve(s); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("control socket ended", "err", err)
		}
	})
	return c, nil
}

// Close stops serving and removes the socket. Orders that are being carried out end first, within ctx.
func (c *Control) Close(ctx context.Context) error {
	err := c.http.Shutdown(ctx)
	c.wg.Wait()
	return err
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone if this fails
}

// Status describes the lab.
func (c *Control) Status() Status {
	l := c.lab
	s := Status{
		URL: l.URL(), CAFile: l.CAFile(), Thumbprint: l.Thumbprint(), Admin: l.Admin().User, VCenter: l.State(), PID: os.Getpid(),
		Machines: l.Machines(), Devices: l.Devices(), Tasks: l.Tasks(), Sessions: l.Sessions(), Delays: l.Delays(), Violations: l.Violations(),
	}
	if c.unit != nil {
		s.Plugin = &PluginStatus{
			PID: c.unit.PID(), Starts: c.unit.Starts(), Socket: c.unit.PluginSocket(), Admin: c.unit.AdminSocket(), Log: c.unit.LogFile(),
		}
	}
	return s
}

// do carries out an order: "down"; for the vCenter "stop", "start", "hang", "delay", "fail", "clear", "logout" (every session of the plugin's);
// for a virtual machine "poweroff" and "poweron"; for the plugin "kill", "restart", "hold" (stopped until "resume").
func (c *Control) do(ctx context.Context, o Order) error {
	l := c.lab
	switch o.Verb {
	case "down":
		c.down(ErrDown)
	case "stop":
		return l.StopServing()
	case "start":
		return l.StartServing()
	case "hang":
		l.Hang()
	case "delay":
		l.Delay(o.Method, o.Duration)
	case "fail":
		return l.Fail(o.Method, o.Fault, o.Times, o.Skip)
	case "clear":
		l.Clear()
		return l.StartServing()
	case "logout":
		l.KillSessions(l.Plugin().User)
	case "poweroff":
		return l.PowerOff(o.Name)
	case "poweron":
		return l.PowerOn(o.Name)
	default:
		return c.doPlugin(ctx, o.Verb)
	}
	return nil
}

func (c *Control) doPlugin(ctx context.Context, verb string) error {
	if c.unit == nil {
		return fmt.Errorf("%s: no plugin runs in this lab: %w", verb, mooring.ErrInvalid)
	}
	switch verb {
	case "kill":
		return c.unit.Kill(ctx)
	case "restart":
		return c.unit.Restart(ctx)
	case "hold":
		return c.unit.Stop(ctx)
	case "resume":
		return c.unit.Start()
	}
	return fmt.Errorf("unknown order %q: %w", verb, mooring.ErrInvalid)
}

// Client speaks to a lab through its control socket.
type Client struct{ http *http.Client }

// Dial returns a client of the lab in the directory.
func Dial(dir string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", ControlSocket(dir))
		},
	}}}
}

// Status asks the lab how it is. The error wraps [mooring.ErrUnavailable] if none is up.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// Do gives an order.
func (c *Client) Do(ctx context.Context, o Order) error {
	return c.call(ctx, http.MethodPost, "/order", o, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no lab answers: %w", errors.Join(err, mooring.ErrUnavailable))
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		return errors.Join(fmt.Errorf("%s: %w", bytes.TrimSpace(text), mooring.ErrInvalid), err)
	}
	return json.NewDecoder(res.Body).Decode(out)
}
