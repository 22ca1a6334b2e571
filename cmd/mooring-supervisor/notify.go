package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/notify"
)

// newNotifier returns who is told; nil: nobody. What is wrong with one of them keeps nobody else from being told.
func newNotifier(cfg config.Notify) (supervisor.Notifier, error) {
	var errs []error
	all := new(notify.Everybody)
	add := func(t notify.Target) {
		if err := t.Check(); err != nil {
			errs = append(errs, fmt.Errorf("notify: %w", err))
			return
		}
		all.Targets = append(all.Targets, t)
	}
	for _, w := range cfg.Webhooks {
		url, header, err := w.Secrets()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		add(notify.Webhook{URL: url, Header: w.Header, SecretFile: header, CAFile: w.CAFile, Timeout: w.Timeout})
	}
	service := os.Getenv("INVOCATION_ID") != "" // systemd's word for a run of a unit
	for _, c := range cfg.Commands {
		add(notify.Command{Argv: c.Argv, Limit: c.Limit, Apart: service})
	}
	if len(cfg.MailTo) > 0 {
		add(notify.Mail{To: cfg.MailTo, From: cfg.MailFrom, Sendmail: cfg.Sendmail, Apart: service})
	}
	if len(all.Targets) == 0 {
		return nil, errors.Join(errs...)
	}
	var err error
	if all.Machine, err = os.Hostname(); err != nil {
		all.Machine = "a machine without a name"
	}
	return all, errors.Join(errs...)
}
