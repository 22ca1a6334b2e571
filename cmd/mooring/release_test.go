package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/internal/admin"
)

// G16: another machine is changed only if whoever sits at the terminal says so. That the plugin is asked shows in that there is none.
func TestG16ReleaseAsksBeforeItChangesAnotherMachine(t *testing.T) {
	const question = "Remove the disk of volume db from the configuration of docker1? [y/N] "
	for typed, c := range map[string]struct {
		exit int
		says string
	}{
		"y\n": {75, "ask the plugin"}, "YES\n": {75, "ask the plugin"}, "n\n": {1, "nothing was changed"}, "\n": {1, "nothing was changed"},
	} {
		controller, terminal := openTerminal(t)
		if _, err := controller.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		cmd := exec.CommandContext(t.Context(), "mooring", "volume", "release", "db", "--from", "docker1")
		cmd.Env = append(os.Environ(), admin.SocketEnv+"="+filepath.Join(t.TempDir(), "none.sock"))
		cmd.Stdin, cmd.Stderr = terminal, &stderr
		err := cmd.Run()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != c.exit || !strings.Contains(stderr.String(), question) || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: got %v, %q, want exit status %d with %q", typed, err, stderr.String(), c.exit, c.says)
		}
	}
}
