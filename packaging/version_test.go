package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	main "github.com/mooring-sh/mooring/packaging"
)

func TestVersions(t *testing.T) {
	when := time.Date(2026, 11, 21, 18, 2, 3, 0, time.UTC)
	for _, c := range []struct {
		tag, since string
		dirty      bool
		want       string
	}{
		{"", "", false, "0.0.0~git20261121180203.abc"},
		{"", "", true, "0.0.0~git20261121180203.abc+dirty"},
		{"v1.2.3", "0", false, "1.2.3"},
		{"v1.2.3", "0", true, "1.2.3+0.dirty"},
		{"v1.2.3", "7", false, "1.2.3+7.abc"},
		{"v1.2.3", "7", true, "1.2.3+7.abc.dirty"},
		{"v1.2.3-rc.1", "0", false, "1.2.3~rc.1"},
		{"v1.2.3-rc.1-b", "2", false, "1.2.3~rc.1.b+2.abc"},
	} {
		if got := main.Version(c.tag, c.since, "abc", when, c.dirty); got != c.want {
			t.Errorf("%+v: got %s, want %s", c, got, c.want)
		}
	}
}

// An upgrade is what the package managers take for one: both must find each version here higher than the one before it.
func TestVersionsSort(t *testing.T) {
	when := time.Date(2026, 11, 21, 18, 2, 3, 0, time.UTC)
	rising := []string{
		main.Version("", "", "fff", when, false),
		main.Version("", "", "fff", when, true),
		main.Version("", "", "000", when.Add(time.Second), false),
		main.Version("v1.2.3-rc.1", "0", "fff", when, false),
		main.Version("v1.2.3-rc.1", "9", "fff", when, false),
		main.Version("v1.2.3-rc.1", "10", "000", when, false),
		main.Version("v1.2.3-rc.2", "0", "000", when, false),
		main.Version("v1.2.3", "0", "fff", when, false),
		main.Version("v1.2.3", "0", "fff", when, true),
		main.Version("v1.2.3", "2", "000", when, false),
		main.Version("v1.2.4", "0", "000", when, false),
	}
	for i := 1; i < len(rising); i++ {
		lower, higher := rising[i-1], rising[i]
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", lower, "lt", higher).Run(); err != nil {
			t.Errorf("dpkg: %s is not lower than %s: %v", lower, higher, err)
		}
		needs(t, "rpm")
		out, err := exec.CommandContext(t.Context(), "rpm", "--eval", "%{lua: print(rpm.vercmp('"+lower+"', '"+higher+"'))}").Output()
		if err != nil || strings.TrimSpace(string(out)) != "-1" {
			t.Errorf("rpm: %s against %s: got %s, %v, want -1", lower, higher, out, err)
		}
	}
}

// A clean clone without a release gives a version, too.
func TestVersionComesFromGit(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-11-21T20:02:03+02:00", "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustStartWith := func(want string) {
		t.Helper()
		got, when, err := main.Look(t.Context(), dir)
		if err != nil || !strings.HasPrefix(got, want) || when != time.Date(2026, 11, 21, 18, 2, 3, 0, time.UTC) {
			t.Errorf("got %s of %s, %v, want %s...", got, when, err, want)
		}
	}
	if _, _, err := main.Look(t.Context(), dir); err == nil {
		t.Error("no repository: got no error")
	}
	git("init", "-q")
	write("1")
	git("add", "file")
	git("commit", "-qm", "1")
	mustStartWith("0.0.0~git20261121180203.")
	git("tag", "v1.0.0-rc.1")
	mustStartWith("1.0.0~rc.1")
	write("2")
	mustStartWith("1.0.0~rc.1+0.dirty")
	git("commit", "-qam", "2")
	mustStartWith("1.0.0~rc.1+1.")
}

func TestChangesAreFolded(t *testing.T) {
	long := strings.Repeat("word ", 30) + strings.Repeat("x", 100)
	got := main.Fold("  * ", "    ", long)
	for i, line := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
		if want := map[bool]string{true: "  * ", false: "    "}[i == 0]; !strings.HasPrefix(line, want) {
			t.Errorf("line %d: got %q, want it to begin with %q", i, line, want)
		}
		if len(line) > 80 && !strings.Contains(line, "xxx") || strings.HasSuffix(line, " ") {
			t.Errorf("line %d: got %q, want at most 80 characters and no space at its end", i, line)
		}
	}
	if strings.Join(strings.Fields(got), " ") != "* "+long {
		t.Errorf("got %q, want the words of %q", got, long)
	}
}

// needs skips the test on a machine that lacks the program; .ci/setup installs it.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: make setup", p)
		}
	}
}
