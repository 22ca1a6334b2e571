package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mooring-sh/mooring/cmd/internal/daemons"
	"github.com/mooring-sh/mooring/internal/admin"
)

// probe is a question that the plugin asks itself.
type probe struct {
	socket, method, path string
}

// listing is what Docker asks; it leads through the listener, the locks, the ledger and what the kernel says of mounts.
func listing(docker net.Listener) probe {
	return probe{socket: docker.Addr().String(), method: http.MethodPost, path: "/VolumeDriver.List"}
}

// status is what administrators ask.
func status(administrators net.Listener) probe {
	return probe{socket: administrators.Addr().String(), method: http.MethodGet, path: admin.StatusPath}
}

// watch feeds systemd's watchdog, if there is one, until ctx ends. A clock that only ticks would feed it for a plugin that hangs: so the plugin first
// asks itself, over its own sockets. What waits for vCenter is in the way of no probe. While there is no answer nothing is fed, and systemd, which was
// told how long to bear that, starts the plugin again.
func watch(ctx context.Context, probes []probe, log *slog.Logger) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("read the watchdog's limit", "err", err)
	}
	if limit <= 0 {
		return
	}
	const tries = 3 // one may be late
	every := limit / tries
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := askAll(ctx, probes, every); err == nil {
			daemons.Notify(log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			log.Error("the plugin does not answer itself", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func askAll(ctx context.Context, probes []probe, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, p := range probes {
		if err := p.ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask waits for an answer. An error page is one, too.
func (p probe) ask(ctx context.Context) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, p.method, "http://mooring-plugin"+p.path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
