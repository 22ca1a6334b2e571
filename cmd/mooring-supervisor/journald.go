package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// journald writes to systemd's journal: a line that people can read, and each attribute as a field beside it, MOORING_SERVICE=core, by which it is found
// (journalctl MOORING_RECOVERY=...).
type journald struct {
	least slog.Level
	attrs []slog.Attr
	send  func(message string, priority journal.Priority, fields map[string]string) error
}

// Enabled implements [slog.Handler].
func (j *journald) Enabled(_ context.Context, level slog.Level) bool { return level >= j.least }

// Handle implements [slog.Handler].
func (j *journald) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(j.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	var line strings.Builder
	line.WriteString(r.Message)
	fields := make(map[string]string)
	for _, a := range attrs {
		value := fmt.Sprint(a.Value.Resolve().Any())
		if value == "" {
			continue
		}
		fields["MOORING_"+strings.ToUpper(a.Key)] = value
		if strings.ContainsAny(value, " \"\n=") {
			value = strconv.Quote(value)
		}
		line.WriteString(" " + a.Key + "=" + value)
	}
	return j.send(line.String(), priority(r.Level), fields)
}

// WithAttrs implements [slog.Handler].
func (j *journald) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *j
	with.attrs = append(slices.Clone(j.attrs), attrs...)
	return &with
}

// WithGroup implements [slog.Handler]: the journal's fields know no groups.
func (j *journald) WithGroup(string) slog.Handler { return j }

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}
