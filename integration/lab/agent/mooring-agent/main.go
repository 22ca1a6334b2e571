// Command mooring-agent is what the lab runs in its guests: it answers on a virtio-serial port, see package agent.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/mooring-sh/mooring/integration/lab/agent"
)

func main() {
	if err := agent.Serve(context.Background(), agent.Guest{Report: os.Stderr}); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", agent.Program, err)
		os.Exit(1)
	}
}
