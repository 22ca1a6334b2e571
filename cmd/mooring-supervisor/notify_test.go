package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	main "github.com/mooring-sh/mooring/cmd/mooring-supervisor"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
)

// One who cannot be told, because the configuration is wrong about him, keeps nobody else from being told. What is wrong is said, without secrets.
func TestWhoCanBeToldIsTold(t *testing.T) {
	t.Setenv("INVOCATION_ID", "")
	file := filepath.Join(t.TempDir(), "told")
	n, err := main.NewNotifier(config.Notify{
		Webhooks: []config.Webhook{{URL: "http://chat.example/hunter2"}, {URLFile: "/nonexistent/hook"}},
		Commands: []config.Command{{Argv: []string{"tell"}}, {Argv: []string{"/bin/sh", "-c", "cat >" + file}}},
		MailTo:   []string{"nobody at home"},
	})
	for _, want := range []string{"the webhook at chat.example", "/nonexistent/hook", "the command tell", "nobody at home"} {
		if !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want ErrInvalid with %q, and no secret", err, want)
		}
	}
	if n == nil {
		t.Fatal("nobody is told, want the one who can be")
	}
	if err := n.Notify(t.Context(), admin.Recovery{ID: "x"}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"id":"x"`) {
		t.Errorf("told: %s, %v, want the report", text, err)
	}
	if n, err := main.NewNotifier(config.Notify{Sendmail: "/usr/sbin/sendmail"}); n != nil || err != nil {
		t.Errorf("nobody named: got %v, %v", n, err)
	}
}
