package layout

import (
	"context"
	"sync"
	"time"
)

// limiter spreads reads over time. Nil is no limit.
type limiter struct {
	perSecond int64

	mu   sync.Mutex
	free time.Time // when all that was let through so far has had its time
}

func newLimiter(perSecond int64) *limiter {
	if perSecond <= 0 {
		return nil
	}
	return &limiter{perSecond: perSecond}
}

// wait returns when n more bytes may be read, or with ctx's cause. Time that nobody used is not saved up.
func (l *limiter) wait(ctx context.Context, n int64) error {
	if err := context.Cause(ctx); err != nil || l == nil {
		return err
	}
	t := time.NewTimer(l.reserve(n))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *limiter) reserve(n int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	d := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	return d
}
