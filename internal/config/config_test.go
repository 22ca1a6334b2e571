package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
)

const minimal = "vcenter: {url: https://vc/sdk, username: mooring}\n"

func load(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(file)
}

// A file with what cannot be guessed is enough; the rest has the defaults that the documentation gives.
func TestLoadFillsDefaults(t *testing.T) {
	c, err := load(t, minimal+"linger: 3s\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.Group != "default" || c.MountDir != "/var/lib/mooring/mnt" || c.BootLinger != 2*time.Minute || c.Linger != 3*time.Second {
		t.Errorf("load: got %+v", c)
	}
}

// What cannot be honoured is refused by name; a wrong key must not be taken for a default.
func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":    {minimal + "lingr: 3s\n", "lingr"},
		"unknown subkey": {"vcenter: {url: https://vc, username: u, insecure: true}\n", "insecure"},
		"wrong type":     {minimal + "linger: soon\n", "linger"},
		"no yaml":        {"a: [", "mooring.yaml"},
		"no vcenter":     {"group: a\n", "vcenter.url"},
		"folder":         {minimal + "group: a/b\n", `group "a/b"`},
		"relative":       {minimal + "state_dir: here\n", `state_dir "here"`},
		"level":          {minimal + "log_level: loud\n", `log_level "loud"`},
		"refresh":        {minimal + "refresh: 1ms\n", "refresh 1ms"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.text)
			if !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("load: got %v, want ErrInvalid naming %s", err, c.want)
			}
		})
	}
}

// A plugin with a bad configuration still answers Docker, so what is right in it must be had.
func TestLoadKeepsWhatIsRight(t *testing.T) {
	c, err := load(t, minimal+"state_dir: /srv/mooring\nlingr: 3s\nlinger: soon\n")
	if err == nil {
		t.Fatal("load: got no error")
	}
	if c.StateDir != "/srv/mooring" || c.Group != "default" {
		t.Errorf("load: got %+v, want the right keys and defaults", c)
	}
	if _, err := load(t, "a: ["); !errors.Is(err, config.ErrUnreadable) {
		t.Errorf("load of what is no YAML: got %v, want ErrUnreadable", err)
	}
	missing, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, mooring.ErrInvalid) || missing.StateDir != "/var/lib/mooring" {
		t.Errorf("load without a file: got %+v, %v", missing, err)
	}
}

func TestPasswordIsReadFromFileOrCredential(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s3cret \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "secret"), "secret"} {
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		got, err := config.VCenter{PasswordFile: file}.Password()
		if err != nil || got != "s3cret " {
			t.Errorf("password of %s: got %q, %v", file, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (config.VCenter{PasswordFile: "empty"}).Password(); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("empty password: got %v, want ErrInvalid", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := (config.VCenter{PasswordFile: "secret"}).Password(); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("password without directory: got %v, want ErrInvalid", err)
	}
}
