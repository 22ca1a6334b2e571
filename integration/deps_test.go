package integration_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A simulator in a product binary would be dead weight at best, and at worst a vCenter that accepts anything. What a binary
// links is what `go list -deps` says, whatever the sources promise.
func TestProductBinariesLinkNoSimulator(t *testing.T) {
	products := mains(t)
	for _, name := range []string{"mooring", "mooring-plugin", "mooring-supervisor"} {
		if !slices.Contains(products, name) {
			t.Errorf("cmd/%s is not among the binaries %v", name, products)
		}
	}
	for _, name := range products {
		if name == "mooring-lab" {
			continue // the lab is the simulator
		}
		for _, dep := range goList(t, "-deps", "./cmd/"+name) {
			for _, banned := range bannedIn(name) {
				if dep == banned || strings.HasPrefix(dep, banned+"/") {
					t.Errorf("bin/%s links %s", name, dep)
				}
			}
		}
	}
}

// bannedIn returns the packages, each with all below it, that the binary must not link.
func bannedIn(binary string) []string {
	banned := []string{"github.com/vmware/govmomi/simulator", module + "/integration", "testing"}
	if binary == "mooring-supervisor" {
		banned = append(banned, "github.com/vmware/govmomi", module+"/esx") // it decides; the plugin alone changes hardware
	}
	return banned
}

// Whoever verifies a registry from a laptop fetches one file, for any Linux, that no vSphere client makes twice as long.
func TestTheCommandForLaptopsIsSmallAndStatic(t *testing.T) {
	const limit = 20_000_000 // bytes
	file := filepath.Join(t.TempDir(), "mooring")
	build := exec.CommandContext(t.Context(), "make", "-s", "laptop", "LAPTOP="+file)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= limit {
		t.Errorf("%d bytes, want fewer than %d", info.Size(), limit)
	}
	t.Logf("%d bytes", info.Size())
	program, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close() //nolint:errcheck // only read
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q, %v; want nothing", libraries, err)
	}
	verify := exec.CommandContext(t.Context(), file, "images", "verify", t.TempDir())
	verify.Env = []string{}
	if out, err := verify.CombinedOutput(); !strings.Contains(string(out), "docker/registry/v2") {
		t.Errorf("%v: %v\n%s", verify.Args, err, out)
	}
}

func mains(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, line := range goList(t, "-f", "{{.Name}} {{.ImportPath}}", "./cmd/...") {
		if name, importPath, _ := strings.Cut(line, " "); name == "main" {
			names = append(names, path.Base(importPath))
		}
	}
	return names
}

// goList runs `go list` in the project's root and returns the lines of its output.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
