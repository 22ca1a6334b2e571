package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/cmd/internal/daemons"
	"github.com/mooring-sh/mooring/cmd/internal/version"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/plugin"
)

const (
	answerLimit = 20 * time.Second // for requests under way when the service stops
	drainLimit  = 30 * time.Second // for the detach before a power-off
	logoutLimit = 5 * time.Second
	extendEvery = 10 * time.Second
)

// service is the running plugin: its parts, and how they are taken down.
type service struct {
	cfg     config.Config
	broken  error // what is wrong with the configuration
	log     *slog.Logger
	vcenter vcenter
	guest   *guest.Guest
	engine  *docker.Engine
	boot    mooring.BootID
	vm      string
	passed  bool // systemd holds the sockets
}

func newService(cfg config.Config, broken error, log *slog.Logger) (*service, error) {
	g := guest.New(guest.Config{MountDir: cfg.MountDir, Log: log})
	boot, err := g.BootID()
	if err != nil {
		return nil, err
	}
	engine, err := docker.New(cfg.DockerHost)
	if err != nil {
		return nil, err
	}
	vm := cfg.VM
	if vm == "" {
		if vm, err = g.BIOSUUID(); err != nil && broken == nil {
			broken = fmt.Errorf("identify this virtual machine, or set vm in the configuration: %w", err)
		}
	}
	return &service{
		passed: socketsPassed(os.Getenv),
		cfg:    cfg, broken: broken, log: log, guest: g, engine: engine, boot: boot, vm: vm,
		vcenter: newVCenter(cfg, vm, broken, log),
	}, nil
}

// serve runs until ctx ends. A ledger that nobody can read is served by silence, which is what dockerd takes for "don't know".
func (s *service) serve(ctx context.Context) error {
	socks, err := sockets(ctx, s.cfg)
	if err != nil {
		return err
	}
	if misplaced(s.broken, s.cfg.StateDir) {
		return s.serveNothing(ctx, socks, plugin.Lost{Cause: s.broken, Cure: "correct the configuration file, then: systemctl restart mooring-plugin"})
	}
	led, err := ledger.Open(s.cfg.StateDir)
	if errors.Is(err, mooring.ErrCorrupt) {
		return s.serveNothing(ctx, socks, plugin.Lost{Cause: err, Cure: "mooring ledger rebuild", Rebuild: s.rebuild})
	}
	if err != nil {
		return err
	}
	d := s.driver(led)
	if err := s.start(ctx, d); err != nil && ctx.Err() == nil {
		return errors.Join(err, led.Close())
	}
	servers := []*http.Server{plugin.NewServer(d.Handler()), plugin.NewServer(d.AdminHandler(s.about()))}
	err = s.untilStopped(ctx, servers, socks, d.Run, listing(socks[0]), status(socks[1]))
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if s.leaving(draining) {
		err = errors.Join(err, d.Drain(draining))
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutLimit)
	defer cancel()
	return errors.Join(err, s.vcenter.Close(leaving), s.engine.Close(), led.Close())
}

// start reconciles, and asks systemd for more time as long as that goes on: a filesystem check may take minutes.
func (s *service) start(ctx context.Context, d *plugin.Driver) error {
	done := make(chan error, 1)
	go func() { done <- d.Start(ctx) }()
	tick := time.NewTicker(extendEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			daemons.Notify(s.log, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (3*extendEvery).Microseconds()))
		}
	}
}

// misplaced says whether the ledger perhaps lies where a configuration that cannot be read says: an empty one in the default place would tell
// dockerd that its volumes are gone.
func misplaced(broken error, stateDir string) bool {
	return errors.Is(broken, config.ErrUnreadable) && !ledger.Exists(stateDir)
}

// serveNothing leaves Docker without an answer until the service is stopped or the ledger is rebuilt; either way it returns, and systemd
// starts the service again.
func (s *service) serveNothing(ctx context.Context, socks [2]net.Listener, lost plugin.Lost) error {
	s.log.Error("no request is answered", "err", lost.Cause)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if rebuild := lost.Rebuild; rebuild != nil {
		lost.Rebuild = func(ctx context.Context) (int, error) {
			n, err := rebuild(ctx)
			if err == nil {
				defer stop()
			}
			return n, err
		}
	}
	servers := []*http.Server{plugin.NewServer(plugin.Unanswered(s.log)), plugin.NewServer(plugin.LostHandler(s.about(), lost))}
	return s.untilStopped(ctx, servers, socks, func(ctx context.Context) { <-ctx.Done() }, status(socks[1]))
}

// rebuild makes the ledger anew.
func (s *service) rebuild(ctx context.Context) (int, error) {
	recs, err := plugin.Survey(ctx, s.vcenter, s.guest, s.boot)
	if err != nil {
		return 0, err
	}
	return len(recs), ledger.Rebuild(s.cfg.StateDir, recs)
}

func (s *service) about() plugin.About {
	return plugin.About{Version: version.String(), VCenter: s.cfg.VCenter.URL}
}

func (s *service) driver(led *ledger.Ledger) *plugin.Driver {
	moved := led.VM().BIOS != "" && s.vm != "" && !strings.EqualFold(led.VM().BIOS, s.vm)
	return plugin.New(plugin.Parts{
		Disks: s.vcenter, Sidecars: s.vcenter, Attacher: s.vcenter, Releaser: s.vcenter, Resetter: s.vcenter,
		Guest: s.guest, Devices: s.guest, Containers: s.engine, Ledger: led, Alive: plugin.Alive, Warnings: s.vcenter.Warnings,
		Inspector: s.vcenter, Around: s.around, Log: s.log,
	}, plugin.Settings{
		Boot: s.boot, BIOS: strings.ToLower(s.vm), Linger: s.cfg.Linger, BootLinger: s.cfg.BootLinger, Refresh: s.cfg.Refresh,
		Moved: moved, Behind: led.Behind(),
	})
}

// untilStopped serves and runs until ctx ends or a server fails, then answers what is under way. The probes are what must be answered meanwhile.
func (s *service) untilStopped(ctx context.Context, servers []*http.Server, socks [2]net.Listener, loop func(context.Context), probes ...probe) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		go func() { failed <- srv.Serve(socks[i]) }()
	}
	var loops sync.WaitGroup
	loops.Go(func() { loop(ctx) })
	daemons.Notify(s.log, daemon.SdNotifyReady)
	loops.Go(func() { watch(ctx, probes, s.log) })
	running := len(servers)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	daemons.Notify(s.log, daemon.SdNotifyStopping)
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer stop()
	for _, srv := range servers {
		err = errors.Join(err, srv.Shutdown(closing))
	}
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	cancel()
	loops.Wait()
	return err
}

// leaving says whether systemd is taking the machine or the plugin away for good. A reboot does not: the disks are wanted again at once.
func (s *service) leaving(ctx context.Context) bool {
	jobs, err := daemons.Jobs(ctx)
	if err != nil {
		s.log.Debug("ask systemd what it is doing", "err", err)
		return false
	}
	return leaving(jobs)
}
