// Package supervisor brings a compose stack back after its machine was restarted, in order, proves that it answers, and says so.
//
// [Step] decides: a pure function of what was recorded of the recovery and of what is seen now, without clock and without I/O. [Supervisor] is
// the loop around it: observe, step, write the journal, act, once a second or when Docker tells of something.
//
// It promises that a service is never started by it while the disk of a volume that it needs is fenced, taken or damaged, or while a directory
// that it needs is not mounted or cannot be written; that what a person stopped stays stopped; that the entry service, the stack's door, is started
// last; that every phase has an end; and that a supervisor that is killed at any point goes on where it was. It changes no hardware and breaks no
// lock: the plugin restores volumes by itself, and is only asked how far it is.
//
// How Docker, the plugin and vCenter are reached is not known here: [Stack], [Volumes] and [Witness] are handed in.
package supervisor

import (
	"context"
	"time"

	"github.com/mooring-sh/mooring"
)

// Stack is the one compose project that is looked after. The methods may be called at the same time. Those that change something run to their
// end or to that of ctx, and do nothing where what they are asked for is so already: after a crash they are called again.
type Stack interface {
	// Observe looks at the project and its containers, and returns before ctx ends whatever Docker does: what could not be had is said in the
	// state's Docker and Project, and is not an error. While the project cannot be read, services of which the containers' labels tell are still listed.
	Observe(ctx context.Context) StackState
	// Changed gets a value when Docker told of something that may change what Observe returns. More than one waiting value means no more than one.
	Changed() <-chan struct{}
	// Start starts the service's containers, and makes those that are missing; nothing that the service depends on is touched.
	Start(ctx context.Context, service ServiceName) error
	// Restart stops and starts the service's containers.
	Restart(ctx context.Context, service ServiceName) error
	// Reload has the entry service read its configuration and resolve its upstreams again, without breaking a connection. A service that
	// has no way to do that is an error.
	Reload(ctx context.Context, service ServiceName) error
	// Flush empties the cache that the service holds, and nothing else that it holds. A service that has no way to do that is [mooring.ErrInvalid].
	Flush(ctx context.Context, service ServiceName) error
	// Ask puts the stack's question through its published port, as a user's client would. A stack without a question answers right.
	Ask(ctx context.Context) Answer
}

// Volumes tells how the plugin's volumes are doing.
type Volumes interface {
	// Observe returns every volume that the plugin knows, without waiting for vCenter. A plugin that does not answer, or is not installed, is said in
	// the reach.
	Observe(ctx context.Context) ([]Volume, Reach)
}

// Witness tells what others saw of this machine's restarts. Its word is evidence for the report; no decision waits for it or hangs on it.
type Witness interface {
	// Restarts returns what vCenter wrote since then about restarts of this machine and failures of hosts, the oldest first.
	Restarts(ctx context.Context, since time.Time) ([]mooring.Sighting, error)
}
