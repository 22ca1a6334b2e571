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

func loadSupervisor(t *testing.T, text string) (config.Supervisor, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "supervisor.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.LoadSupervisor(file)
}

// An empty file is whole: there is no stack. A directory is enough for one.
func TestSupervisorFillsDefaults(t *testing.T) {
	c, err := loadSupervisor(t, "")
	if err != nil || c.Stack.Configured() || c.Limits.Starting != 10*time.Minute {
		t.Errorf("empty: got %+v, %v", c, err)
	}
	if c.Images.RehashEvery != 7*24*time.Hour || c.Images.ManifestDir == "" || c.Limits.Images != 10*time.Minute {
		t.Errorf("images: got %+v", c.Images)
	}
	c, err = loadSupervisor(t, "stack: {directory: /opt/harbor, files: [a.yml, b.yml]}\nlimits: {fencing: 30s}\n")
	if err != nil || !c.Stack.Configured() || len(c.Stack.Files) != 2 || c.Stack.Profile != "generic" || c.Limits.Fencing != 30*time.Second || c.Limits.Tries != 10 {
		t.Errorf("got %+v, %v", c, err)
	}
}

// What cannot be honoured is refused by name, and what is right in the file stands: a wrong limit must not leave a stack down.
func TestSupervisorRefuses(t *testing.T) {
	const stack = "stack: {directory: /opt/harbor}\n"
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":    {stack + "limit: {fencing: 1s}\n", "limit"},
		"unknown subkey": {"stack: {directory: /opt/harbor, dir: /srv}\n", "dir"},
		"wrong type":     {stack + "limits: {tries: many}\n", "tries"},
		"limit":          {stack + "limits: {starting: 0s}\n", "limits.starting 0s"},
		"relative":       {"stack: {directory: /opt/harbor, must_be_mounted: [data]}\n", `must_be_mounted "data"`},
		"rehash often":   {stack + "images: {rehash_every: 5m}\n", "images.rehash_every 5m"},
		"rehash fast":    {stack + "images: {rehash_rate: -1}\n", "images.rehash_rate -1"},
		"manifest":       {stack + "images: {manifest_dir: manifest}\n", `images.manifest_dir "manifest"`},
		"account alone":  {stack + "verify: {account: robot}\n", "verify.image"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := loadSupervisor(t, c.text)
			if !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("load: got %v, want ErrInvalid naming %s", err, c.want)
			}
			if got.Stack.Directory != "/opt/harbor" {
				t.Errorf("directory: got %q, want what the file says", got.Stack.Directory)
			}
		})
	}
	for name, c := range map[string]struct{ text, want string }{
		"relative": {"stack: {directory: harbor}\n", `stack.directory "harbor"`},
		"no stack": {"stack: {files: [a.yml]}\n", "stack.directory"},
	} {
		if _, err := loadSupervisor(t, c.text); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want ErrInvalid naming %s", name, err, c.want)
		}
	}
}

// Who is told is a list: of each kind as many as somebody wants. What is misspelt in an entry is refused as it is anywhere.
func TestSupervisorKnowsWhomToTell(t *testing.T) {
	c, err := loadSupervisor(t, `notify:
  webhooks:
  - {url: "https://chat.example/x", timeout: 5s}
  - {url_file: /etc/mooring/hook, header: Authorization, header_file: token, ca_file: /etc/ca.pem}
  commands:
  - {argv: [/usr/local/bin/tell, --to, 42], limit: 20s}
  mail_to: [ops@example.com, boss@example.com]
`)
	n := c.Notify
	if err != nil || len(n.Webhooks) != 2 || n.Webhooks[0].Timeout != 5*time.Second || n.Webhooks[1].HeaderFile != "token" ||
		len(n.Commands) != 1 || n.Commands[0].Argv[2] != "42" || n.Commands[0].Limit != 20*time.Second || len(n.MailTo) != 2 || n.Sendmail != "/usr/sbin/sendmail" {
		t.Errorf("got %+v, %v", n, err)
	}
	if _, err := loadSupervisor(t, "notify: {webhooks: [{uri: x}]}\n"); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "uri") {
		t.Errorf("misspelt: got %v, want ErrInvalid naming it", err)
	}
}

// A webhook's URL may be a secret, so that it may lie in a file of its own; and no error shows it.
func TestSecretsOfAWebhook(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"hook": "https://chat.example/hunter2\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	url, file, err := config.Webhook{URLFile: "hook", HeaderFile: "token"}.Secrets()
	if err != nil || url != "https://chat.example/hunter2" || file != filepath.Join(dir, "token") {
		t.Errorf("got %q, %q, %v", url, file, err)
	}
	for name, w := range map[string]config.Webhook{
		"both": {URL: "https://chat.example/hunter2", URLFile: "hook"}, "none there": {URLFile: "nothing"}, "empty": {URLFile: "empty"},
	} {
		if _, _, err := w.Secrets(); !errors.Is(err, mooring.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want ErrInvalid without the secret", name, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, _, err := (config.Webhook{URL: "https://x", HeaderFile: "token"}).Secrets(); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("no credentials: got %v, want ErrInvalid", err)
	}
}
