package harborlike_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/harborlike"
)

func read(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProjectHasTheNamesThatItIsGiven(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		project harborlike.Project
		want    []string
	}{
		"Harbor's and the story's": {harborlike.Project{}, []string{
			"- 80:8080", "/data/redis:/var/lib/redis", "/var/log/harbor/:/var/log/docker", "name: vsanvol1", "name: vsanvol2", "name: vsanvol3",
		}},
		"given": {harborlike.Project{Port: 8081, Data: "/srv/d", Logs: "/srv/l", Registry: "r", Database: "d", JobLogs: "j"}, []string{
			"- 8081:8080", "/srv/d/redis:/var/lib/redis", "/srv/l/:/var/log/docker", "name: r\n", "name: d\n", "name: j\n",
		}},
	} {
		dir := filepath.Join(t.TempDir(), "harbor")
		for range 2 { // over what is there
			if err := harborlike.Write(dir, tt.project); err != nil {
				t.Fatal(err)
			}
		}
		text := read(t, dir, harborlike.ComposeFile)
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the compose file has no %q", name, want)
			}
		}
	}
}

// What Harbor has trouble with after an unclean restart comes from what is in this file, and from what is not.
func TestProjectIsBuiltLikeHarbors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := harborlike.Write(dir, harborlike.Project{}); err != nil {
		t.Fatal(err)
	}
	text := read(t, dir, harborlike.ComposeFile)
	for want, times := range map[string]int{
		"    container_name: ": 9, "    restart: always\n": 9, "    cap_drop:\n      - ALL\n": 9, `syslog-address: "tcp://localhost:1514"`: 8,
		"registry:/storage\n": 2, "external: true": 3, "healthcheck": 0, "condition:": 0, "version:": 0, "user:": 0,
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%q is there %d times; want %d", want, got, times)
		}
	}
	for name := range harborlike.Images() {
		if !strings.Contains(text, "image: "+name+"\n") {
			t.Errorf("no service has the image %s", name)
		}
	}
}

func TestScriptsCanBeRunAndAreShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := harborlike.Write(dir, harborlike.Project{}); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{harborlike.Prepare, harborlike.StaleUpstream} {
		script = filepath.Join(dir, script)
		if info, err := os.Stat(script); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v; want mode 0755", script, info.Mode(), err)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("sh -n %s: %v: %s", script, err, out)
		}
		if text := read(t, script); strings.Contains(text, "{{.Data}}") || strings.Contains(text, "<no value>") {
			t.Errorf("%s is not filled in:\n%s", script, text)
		}
	}
	if text := read(t, dir, harborlike.StaleUpstream); !strings.Contains(text, `'{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'`) {
		t.Error("the trap does not ask Docker for an address")
	}
}
