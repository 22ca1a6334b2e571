package qemu

import (
	"context"
	"io"
	"os"
)

// Connect returns the machine's end of a port of the network.
func (n *Network) Connect() (*os.File, error) { return n.connect() }

// Monitor is the host's half of QEMU's machine protocol.
type Monitor struct{ q *monitor }

// NewMonitor talks over conn.
func NewMonitor(conn io.ReadWriteCloser, onEvent func(name string)) Monitor {
	return Monitor{newMonitor(conn, func(e event) { onEvent(e.Name) })}
}

// Do gives a command.
func (m Monitor) Do(ctx context.Context, command string) error { return m.q.do(ctx, command, nil) }
