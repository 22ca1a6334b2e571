package layout

import (
	"context"
	"sync"
)

// job is a piece of a walk. It may push more of them.
type job func(ctx context.Context, w *walker)

// queue is what is left to walk. The newest comes first: then it stays short, whatever the tree's shape.
type queue struct {
	mu      sync.Mutex
	ready   sync.Cond
	jobs    []job
	running int
}

func newQueue() *queue {
	q := &queue{}
	q.ready.L = &q.mu
	return q
}

func (q *queue) push(jobs ...job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, jobs...)
	for range jobs {
		q.ready.Signal()
	}
}

// next waits for a job; none when all are done and none can come any more. Who got one calls done afterwards.
func (q *queue) next() (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && q.running > 0 {
		q.ready.Wait()
	}
	if len(q.jobs) == 0 {
		return nil, false
	}
	last := len(q.jobs) - 1
	j := q.jobs[last]
	q.jobs[last] = nil
	q.jobs = q.jobs[:last]
	q.running++
	return j, true
}

func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if q.running == 0 && len(q.jobs) == 0 {
		q.ready.Broadcast()
	}
}
