package agent

import (
	"context"
	"io"
	"sync"
)

// window is how many bytes of one stream the other half is ready to take.
type window struct {
	mu    sync.Mutex
	free  int
	freed chan struct{} // closed, and made anew, when free grows
}

func newWindow() *window { return &window{free: ahead, freed: make(chan struct{})} }

// take waits until n bytes may be sent. n is at most [chunk].
func (w *window) take(ctx context.Context, n int) error {
	for {
		w.mu.Lock()
		if w.free >= n {
			w.free -= n
			w.mu.Unlock()
			return nil
		}
		freed := w.freed
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-freed:
		}
	}
}

// give tells that the other half has taken n bytes.
func (w *window) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
	close(w.freed)
	w.freed = make(chan struct{})
}

// queue holds items between a goroutine that must not wait and one that may. What bounds it is the windows of those that fill it.
type queue[T any] struct {
	mu     sync.Mutex
	urgent []T
	items  []T
	filled chan struct{} // holds one token when there may be items
}

func newQueue[T any]() *queue[T] { return &queue[T]{filled: make(chan struct{}, 1)} }

// put appends an item, after the others that are as urgent.
func (q *queue[T]) put(item T, urgent bool) {
	q.mu.Lock()
	if urgent {
		q.urgent = append(q.urgent, item)
	} else {
		q.items = append(q.items, item)
	}
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// clear forgets what is queued.
func (q *queue[T]) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.urgent, q.items = nil, nil
}

// next waits for an item. ok is false when ctx has ended.
func (q *queue[T]) next(ctx context.Context) (item T, ok bool) {
	for {
		q.mu.Lock()
		from := &q.urgent
		if len(*from) == 0 {
			from = &q.items
		}
		if len(*from) > 0 {
			item = (*from)[0]
			(*from)[0] = *new(T) // so that its bytes can go
			*from = (*from)[1:]
			q.mu.Unlock()
			return item, true
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return item, false
		case <-q.filled:
		}
	}
}

// send writes the frames that are queued, until the context ends or a write fails.
func send(ctx context.Context, w io.Writer, frames *queue[frame]) error {
	var wire []byte
	for {
		f, ok := frames.next(ctx)
		if !ok {
			return context.Cause(ctx)
		}
		wire = appendFrame(wire[:0], f)
		if _, err := w.Write(wire); err != nil {
			return err
		}
	}
}
