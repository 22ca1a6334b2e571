package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/agent"
)

// agentPackage is the guests' side of package agent.
const agentPackage = "github.com/mooring-sh/mooring/integration/lab/agent/mooring-agent"

// agent returns the program that is to run in the guests.
func (c *Cluster) agent(ctx context.Context) (string, error) {
	if c.opts.Agent != "" {
		return c.opts.Agent, nil
	}
	program := c.path(machinesDir, agent.Program)
	if err := os.MkdirAll(c.path(machinesDir), 0o700); err != nil {
		return "", fmt.Errorf("build agent: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, agentPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it must run in any guest
	if out, err := build.CombinedOutput(); err != nil {
		return "", &mooring.HintError{
			Err:  fmt.Errorf("build agent: %w: %s", err, strings.TrimSpace(string(out))),
			Hint: "name the program with Options.Agent, or run in Mooring's source",
		}
	}
	return program, nil
}
