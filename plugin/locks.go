package plugin

import (
	"context"
	"sync"

	"github.com/mooring-sh/mooring"
)

// names gives out one lock for each volume name. A slow operation on a volume holds that volume's name and nothing else.
// The zero value is ready.
type names struct {
	mu    sync.Mutex
	locks map[mooring.Name]*nameLock
}

type nameLock struct {
	held  chan struct{} // holds one token while the name is locked
	users int           // those who hold it or wait for it, guarded by names.mu
}

// lock waits for the name until ctx ends, then returns the context's error. The name is free after unlock is called.
func (n *names) lock(ctx context.Context, name mooring.Name) (unlock func(), err error) {
	l := n.join(name)
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; n.leave(name, l) }, nil
	case <-ctx.Done():
		n.leave(name, l)
		return nil, ctx.Err()
	}
}

// try takes the name if it is free.
func (n *names) try(name mooring.Name) (unlock func(), ok bool) {
	l := n.join(name)
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; n.leave(name, l) }, true
	default:
		n.leave(name, l)
		return nil, false
	}
}

func (n *names) join(name mooring.Name) *nameLock {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.locks == nil {
		n.locks = make(map[mooring.Name]*nameLock)
	}
	l := n.locks[name]
	if l == nil {
		l = &nameLock{held: make(chan struct{}, 1)}
		n.locks[name] = l
	}
	l.users++
	return l
}

func (n *names) leave(name mooring.Name, l *nameLock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(n.locks, name)
	}
}
