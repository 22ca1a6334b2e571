package remote

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Patience says how long a registry that does not answer as it should is asked again. Zero values are the defaults.
type Patience struct {
	Tries   int           // requests for one thing, the first included, if nobody says when to come back; 0: 6
	Pause   time.Duration // before the second try, and twice as long before each further one; 0: 250 ms
	Longest time.Duration // such pause; 0: 8 s
	Told    time.Duration // how long a request waits in all because the registry says so (Retry-After); 0: 10 min
	Idle    time.Duration // without a byte, on a connection on which some are awaited; 0: 1 min
}

func (p Patience) withDefaults() Patience {
	return Patience{
		Tries: orElse(p.Tries, 6), Pause: orElse(p.Pause, 250*time.Millisecond), Longest: orElse(p.Longest, 8*time.Second),
		Told: orElse(p.Told, 10*time.Minute), Idle: orElse(p.Idle, time.Minute),
	}
}

func orElse[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// attempt is how the last of several requests for one thing went.
type attempt struct {
	tries  int           // without those after which the registry said when to come back
	told   time.Duration // waited so far because it said so
	status int           // 0: no answer
	after  time.Duration // what it said, or negative
	final  bool          // no answer, and none to be expected: a certificate that nobody trusts
}

// verdict is what comes after an attempt.
type verdict struct {
	again bool
	pause time.Duration
	told  bool // the pause is the registry's: whatever else it is asked must wait as well
}

// judge decides whether a request is sent again. A registry that says 429, or when to come back, is waited for; one that fails, or is not there, is
// asked a few times. A 500 is asked once again only: distribution says so, every time, for an image's manifest that its storage has destroyed.
func (p Patience) judge(a attempt) verdict {
	asked := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
	tries := p.Tries
	switch {
	case a.final, a.status != 0 && a.status != http.StatusRequestTimeout && a.status != http.StatusTooManyRequests && a.status < 500,
		a.status == http.StatusNotImplemented, a.status == http.StatusHTTPVersionNotSupported:
		return verdict{}
	case asked && a.after >= 0:
		pause := max(a.after, p.Pause)
		return verdict{again: a.told+pause <= p.Told, pause: pause, told: true}
	case a.status == http.StatusInternalServerError:
		tries = min(tries, 2)
	}
	if a.tries >= tries {
		return verdict{}
	}
	return verdict{again: true, pause: jitter(p.pause(a.tries))}
}

// pause is how long to wait after so many tries.
func (p Patience) pause(tries int) time.Duration {
	pause := p.Pause
	for range tries - 1 {
		if pause >= p.Longest {
			break
		}
		pause *= 2
	}
	return min(pause, p.Longest)
}

// jitter keeps those that failed together from coming back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a date. Negative: there is none that can be read.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return -1
}

// wait returns after the pause, or when the context ends, with its error.
func wait(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
