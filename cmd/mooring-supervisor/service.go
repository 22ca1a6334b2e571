package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mooring-sh/mooring/cmd/internal/daemons"
	"github.com/mooring-sh/mooring/cmd/internal/version"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	headerLimit = 10 * time.Second
	answerLimit = 5 * time.Second // for requests under way when the service stops
	jobsLimit   = 5 * time.Second
)

// service is the running supervisor: its parts, and how they are taken down.
type service struct {
	cfg     config.Supervisor
	log     *slog.Logger
	sup     *supervisor.Supervisor
	project project
	journal *supervisor.Journal
	images  *registryImages // nil: there is no stack
}

// newService wires the parts together. Nothing but a second supervisor keeps it from running: where its state cannot be kept it works without, and where
// the stack cannot be had it is idle, and says so.
func newService(cfg config.Supervisor, broken error, log *slog.Logger) (*service, error) {
	boot, booted, err := thisBoot("/proc")
	if err != nil {
		return nil, err
	}
	p, unusable := newProject(cfg, log)
	if unusable != nil {
		log.Error("there is no stack", "err", unusable)
	}
	journal, err := supervisor.OpenJournal(cfg.StateDir)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	notifier, untold := newNotifier(cfg.Notify)
	if untold != nil {
		log.Error("not everybody can be told", "err", untold)
	}
	wrong := wrongConfiguration(errors.Join(broken, unusable, untold))
	driver := newPlugin(cfg.PluginAdminSocket)
	s := &service{cfg: cfg, log: log, project: p, journal: journal}
	parts := supervisor.Parts{
		Stack: p.stack, Volumes: driver, Witness: driver, Notifier: notifier, Journal: journal, Log: log,
		Reports:  supervisor.Reports{Dir: filepath.Join(cfg.StateDir, "recoveries"), Keep: cfg.KeepReports},
		Warnings: func() []admin.Condition { return append(wrong, p.warnings()...) },
	}
	if p.own != nil {
		s.images = newRegistryImages(cfg.Images, driver, p.own, log)
		parts.Images = s.images
	}
	s.sup = supervisor.New(parts, supervisor.Settings{Boot: boot, Booted: booted, Version: version.String(), Limits: limits(cfg)})
	return s, nil
}

func limits(cfg config.Supervisor) supervisor.Limits {
	l := cfg.Limits
	return supervisor.Limits{
		Fencing: l.Fencing, Attaching: l.Attaching, Starting: l.Starting, Verifying: l.Verifying, Images: l.Images, Rehash: cfg.Images.RehashEvery, Tries: l.Tries,
	}
}

// close lets everything go that is not of one run.
func (s *service) close() error {
	err := errors.Join(s.project.close(), s.journal.Close())
	if s.images != nil {
		err = errors.Join(err, s.images.close())
	}
	return err
}

// wrongConfiguration returns the condition that err is.
func wrongConfiguration(err error) []admin.Condition {
	if err == nil {
		return nil
	}
	return []admin.Condition{{
		Code: "configuration", Severity: admin.Failing, Title: "the supervisor's configuration is wrong", Text: err.Error(),
		Cure: "correct " + config.SupervisorFile + ", then: systemctl restart mooring-supervisor",
	}}
}

// serve runs until ctx ends. systemd hears that it is ready when the loop runs, not when the stack does: an upgrade of the package would wait for that.
func (s *service) serve(ctx context.Context) error {
	sock, err := daemons.Listen(ctx, s.cfg.AdminSocket)
	if err != nil {
		return errors.Join(err, s.close())
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{Handler: s.sup.Handler(), ReadHeaderTimeout: headerLimit}
	failed := make(chan error, 1)
	var work sync.WaitGroup
	work.Go(func() {
		if err := server.Serve(sock); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve %s: %w", s.cfg.AdminSocket, err)
			stop()
		}
	})
	work.Go(func() { s.project.run(running) })
	ready := false
	s.sup.Run(running, func() {
		if !ready {
			ready = true
			daemons.Notify(s.log, daemon.SdNotifyReady)
		}
		daemons.Notify(s.log, daemon.SdNotifyWatchdog)
	})
	daemons.Notify(s.log, daemon.SdNotifyStopping)
	return errors.Join(s.finish(ctx, server), s.close(), wait(&work, failed))
}

// finish ends what is served, and leaves the mark of a shutdown in order where this is one.
func (s *service) finish(ctx context.Context, server *http.Server) error {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	err := server.Shutdown(closing)
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobsLimit)
	defer cancel()
	jobs, jobsErr := daemons.Jobs(asking)
	if jobsErr != nil {
		s.log.Debug("ask systemd what it is doing", "err", jobsErr)
	}
	if daemons.ShuttingDown(jobs) {
		s.log.Info("the machine is shut down in order")
		err = errors.Join(err, s.sup.MarkShutdown())
	}
	return err
}

// wait waits for all work to end and returns what failed.
func wait(work *sync.WaitGroup, failed chan error) error {
	work.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
