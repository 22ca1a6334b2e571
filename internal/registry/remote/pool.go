package remote

import (
	"container/heap"
	"context"
	"sync"
)

// task is a piece of a walk. It ends soon after its context does.
type task func(ctx context.Context)

// pool has tasks done by several workers, small ones first, so that what there is becomes known, then blobs, the largest first: one blob is hashed by one worker, and
// a large one that comes last leaves the others idle. Tasks add tasks; when none is left and none runs, the work is done.
type pool struct {
	mu    sync.Mutex
	more  *sync.Cond
	small []task
	large largest
	busy  int
	ended bool
}

func newPool() *pool {
	p := &pool{}
	p.more = sync.NewCond(&p.mu)
	return p
}

func (p *pool) add(tasks ...task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.small = append(p.small, tasks...)
	p.more.Broadcast()
}

func (p *pool) addLarge(size int64, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	heap.Push(&p.large, sized{size: size, task: t})
	p.more.Signal()
}

// run returns when everything is done, or the context has ended and all that had begun is over.
func (p *pool) run(ctx context.Context, workers int) {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = true
		p.more.Broadcast()
	})
	defer stop()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for t := p.next(); t != nil; t = p.next() {
				t(ctx)
				p.done()
			}
		})
	}
	all.Wait()
}

// next returns nil when there is nothing left to do.
func (p *pool) next() task {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended && len(p.small) == 0 && len(p.large) == 0 && p.busy > 0 {
		p.more.Wait()
	}
	switch {
	case p.ended:
		return nil
	case len(p.small) > 0:
		last := len(p.small) - 1
		t := p.small[last] // the newest: what a repository is made of is known before the next one is begun
		p.small[last], p.small = nil, p.small[:last]
		p.busy++
		return t
	case len(p.large) > 0:
		p.busy++
		return heap.Pop(&p.large).(sized).task //nolint:forcetypeassert // only sized ones are in it
	default:
		return nil
	}
}

func (p *pool) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy == 0 {
		p.more.Broadcast()
	}
}

type sized struct {
	size int64
	task task
}

// largest is a heap with the largest first.
type largest []sized

func (l largest) Len() int           { return len(l) }
func (l largest) Less(i, j int) bool { return l[i].size > l[j].size }
func (l largest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *largest) Push(x any)        { *l = append(*l, x.(sized)) } //nolint:forcetypeassert // only sized ones come

func (l *largest) Pop() any {
	last := len(*l) - 1
	s := (*l)[last]
	(*l)[last] = sized{}
	*l = (*l)[:last]
	return s
}
