package powercut

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// load is a registry on a disk, and those who push to it.
type load struct {
	receipts *Receipts
	registry *process
	guard    Guard // nil: nobody

	pushers   sync.WaitGroup
	end       context.CancelFunc
	transport *http.Transport
	errs      []error       // of each pusher, once it has ended
	failed    chan struct{} // closed when one of them fails
}

// push starts a registry on the disk, and the pushers.
func (p Plan) push(ctx context.Context, d *Disk, seed uint64) (*load, error) {
	registry, err := start(ctx, d.Dir)
	if err != nil {
		return nil, err
	}
	l := &load{
		receipts: &Receipts{}, registry: registry, transport: &http.Transport{MaxIdleConnsPerHost: 8 * p.Pushers},
		errs: make([]error, p.Pushers), failed: make(chan struct{}),
	}
	if p.Guard != nil {
		l.guard = p.Guard()
	}
	pushers := Pushers{Address: registry.address, Client: &http.Client{Transport: l.transport}, Receipts: l.receipts, Eager: p.Eager}
	ctx, l.end = context.WithCancel(ctx)
	var once sync.Once
	for n := range p.Pushers {
		l.pushers.Go(func() {
			if l.errs[n] = pushers.Run(ctx, NewChooser(seed, n)); l.errs[n] != nil {
				once.Do(func() { close(l.failed) })
			}
		})
	}
	return l, nil
}

// wait waits until that happens. When a pusher fails it gives up.
func (l *load) wait(ctx context.Context, happens <-chan struct{}) error {
	select {
	case <-happens:
		return nil
	case <-l.failed:
		return errors.New("a pusher has failed")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends the pushers and the registry, and returns what went wrong with them before.
func (l *load) stop() error {
	l.end()
	l.pushers.Wait()
	l.transport.CloseIdleConnections()
	l.registry.stop()
	if err := errors.Join(l.errs...); err != nil {
		return fmt.Errorf("%w: the registry says: %s", err, l.registry.output)
	}
	return nil
}
