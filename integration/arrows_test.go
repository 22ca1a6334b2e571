package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/mooring-sh/mooring"

// arrow is an import of one package by the file in another, which the lint refuses or lets through.
type arrow struct {
	file, imports string
	refused       bool
}

// arrows has a planted violation for each depguard rule, and beside it what the rule must let through: a glob that matches
// nothing looks just like a clean tree. The importing packages lie one level below the houses, so that no two form a cycle.
func arrows() []arrow {
	return []arrow{
		{"mooring.go", "golang.org/x/sys", true},
		{"mooring_test.go", "golang.org/x/sys", false},
		{"policies/a/a.go", "golang.org/x/sys", true},
		{"policies/b/b.go", module, false},
		{"plugin/a/a.go", module + "/esx", true},
		{"plugin/b/b.go", module + "/policies", true},
		{"plugin/c/c.go", module + "/supervisor", true},
		{"plugin/d/d.go", module + "/internal/ledger", false},
		{"esx/a/a.go", module + "/plugin", true},
		{"esx/b/b.go", module + "/policies", true},
		{"esx/c/c.go", "github.com/vmware/govmomi", false},
		{"supervisor/a/a.go", module + "/esx", true},
		{"supervisor/b/b.go", module + "/plugin", true},
		{"supervisor/c/c.go", module + "/policies", true},
		{"internal/a/a.go", module + "/esx", true},
		{"internal/b/b.go", module + "/plugin", true},
		{"internal/c/c.go", "github.com/vmware/govmomi/simulator", true},
		{"internal/d/d.go", module + "/integration/lab", true},
		{"internal/e/e.go", "github.com/spf13/viper", true},
		{"internal/f/f.go", "github.com/regclient/regclient", true},
		{"internal/registry/remote/a/a.go", "github.com/regclient/regclient", false},
		{"internal/g/g.go", module + "/internal/registry/remote/remotetest", true},
		{"internal/g/g_test.go", module + "/internal/registry/remote/remotetest", false},
		{"plugin/e/e_test.go", module + "/integration/lab", true},
		{"cmd/mooring/a.go", "github.com/vmware/govmomi", true},
		{"cmd/mooring/b.go", "github.com/spf13/viper", true},
		{"cmd/mooring/c.go", module + "/esx", false},
		{"cmd/mooring/d.go", "log", true},
		{"cmd/mooring/e.go", "log/slog", false},
		{"internal/config/a.go", "github.com/spf13/viper", false},
		{"cmd/mooring-lab/a.go", module + "/integration/lab", false},
		{"integration/a/a.go", "github.com/vmware/govmomi", false},
		{"integration/b/b.go", module + "/plugin", false},
	}
}

// The arrows of docs/ARCHITECTURE.md hold only as long as the lint sees them.
func TestLintRefusesEveryForbiddenArrow(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir)
	refused := depguard(t, dir)
	for _, a := range arrows() {
		if refused[a.file+" "+a.imports] != a.refused {
			t.Errorf("%s imports %s: refused %v, want %v", a.file, a.imports, !a.refused, a.refused)
		}
	}
}

// plant writes a module of the project's name with the project's lint, the packages that are imported, and the arrows.
func plant(t *testing.T, dir string) {
	t.Helper()
	lint, err := os.ReadFile("../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		".golangci.yml": string(lint),
		"go.mod":        "module " + module + "\n\ngo 1.26.0\n",
	}
	for _, house := range []string{"plugin", "esx", "policies", "supervisor", "internal/ledger", "internal/registry/remote/remotetest", "integration/lab"} {
		files[house+"/house.go"] = "package " + filepath.Base(house) + "\n"
	}
	for _, other := range []string{"github.com/vmware/govmomi", "github.com/spf13/viper", "github.com/regclient/regclient", "golang.org/x/sys"} {
		stub := "stub/" + filepath.Base(other)
		files["go.mod"] += "\nrequire " + other + " v0.0.0\nreplace " + other + " => ./" + stub + "\n"
		files[stub+"/go.mod"] = "module " + other + "\n"
		files[stub+"/stub.go"] = "package stub\n"
	}
	files["stub/govmomi/simulator/stub.go"] = "package simulator\n"
	for _, a := range arrows() {
		files[a.file] = "package " + packageOf(a.file) + "\n\nimport _ \"" + a.imports + "\"\n"
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func packageOf(file string) string {
	switch folder := filepath.Dir(file); {
	case file == "mooring_test.go":
		return "mooring_test"
	case folder == ".":
		return "mooring"
	case filepath.Dir(folder) == "cmd":
		return "main"
	default:
		return filepath.Base(folder)
	}
}

// depguard runs that linter alone over the module in dir and returns what it refused, as "file import".
func depguard(t *testing.T, dir string) map[string]bool {
	t.Helper()
	which := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=tools.mod", "golangci-lint")
	which.Dir = ".."
	out, err := which.Output()
	if err != nil {
		t.Fatalf("%v: %v", which.Args, err)
	}
	lint := exec.CommandContext(t.Context(), strings.TrimSpace(string(out)), "run", "--enable-only", "depguard",
		"--issues-exit-code", "0", "--allow-parallel-runners", "--show-stats=false", "--output.json.path", "stdout")
	lint.Dir = dir
	lint.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err = lint.Output(); err != nil {
		t.Fatalf("%v: %v\n%s", lint.Args, err, out)
	}
	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct{ Filename string }
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %v\n%s", lint.Args, err, out)
	}
	refused := make(map[string]bool)
	for _, issue := range report.Issues {
		if issue.FromLinter != "depguard" {
			t.Fatalf("%s: %s: %s", issue.Pos.Filename, issue.FromLinter, issue.Text)
		}
		_, rest, _ := strings.Cut(issue.Text, "'")
		imported, _, _ := strings.Cut(rest, "'")
		refused[issue.Pos.Filename+" "+imported] = true
	}
	return refused
}
