package integration_test

import (
	"os/exec"
	"path"
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
