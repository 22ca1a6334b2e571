package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
)

// keys returns the configuration's keys, as the file spells them: "vcenter.url".
func keys(c reflect.Type, above string) []string {
	var all []string
	for field := range c.Fields() {
		key := above + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			all = append(all, keys(field.Type, key+".")...)
		} else {
			all = append(all, key)
		}
	}
	return all
}

// The file that is installed is the reference: every key, with its default, and a comment above it. What it lacks is what nobody can
// guess, the vCenter and the account there.
func TestInstalledConfigurationHasEveryKeyWithItsDefault(t *testing.T) {
	installed, err := config.Load("mooring.yaml")
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.Contains(line, "vcenter.url is empty") && !strings.Contains(line, "vcenter.username is empty") {
			t.Errorf("load: got %q, want nothing but that the vCenter and its account are not named", line)
		}
	}
	defaults, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, mooring.ErrInvalid) || installed != defaults {
		t.Errorf("load: got %+v, want the defaults %+v", installed, defaults)
	}
	describesEveryKey(t, "mooring.yaml", keys(reflect.TypeFor[config.Config](), ""))
}

// The same holds of the supervisor's file, which is whole as it is: no stack.
func TestInstalledConfigurationOfTheSupervisorHasEveryKeyWithItsDefault(t *testing.T) {
	installed, err := config.LoadSupervisor("supervisor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := config.LoadSupervisor(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, mooring.ErrInvalid) || !reflect.DeepEqual(installed, defaults) {
		t.Errorf("load: got %+v, want the defaults %+v", installed, defaults)
	}
	describesEveryKey(t, "supervisor.yaml", keys(reflect.TypeFor[config.Supervisor](), ""))
}

// describesEveryKey wants each key with a value and a comment in the file, and in its page of the manual.
func describesEveryKey(t *testing.T, file string, keys []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../docs/man/" + file + ".5")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		_, last, nested := strings.Cut(key, ".")
		indent := "  "
		if !nested {
			last, indent = key, ""
		}
		if !regexp.MustCompile(`(?m)^` + indent + `# .*\n` + indent + last + `: \S`).Match(text) {
			t.Errorf("%s: no key %s with a value and a comment above it", file, key)
		}
		if !strings.Contains(string(manual), "\n.B "+key+"\n") {
			t.Errorf("%s(5): no key %s", file, key)
		}
	}
}

// With an account and an address, the file is whole.
func TestInstalledConfigurationLoads(t *testing.T) {
	text, err := os.ReadFile("mooring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer(`url: ""`, "url: https://vcenter/sdk", `username: ""`, "username: mooring").Replace(string(text))
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	if err := os.WriteFile(file, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(file); err != nil || c.VCenter.URL != "https://vcenter/sdk" {
		t.Errorf("load: got %+v, %v", c, err)
	}
}
