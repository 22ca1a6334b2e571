package push

import (
	"context"
	"io"
	"time"
)

// sips is in how many parts what is sent in a second is sent.
const sips = 10

// slow is content that is read at a rate, as a client sends it whose line is thin: so that a push is under way for as long as somebody needs it to be.
type slow struct {
	ctx  context.Context //nolint:containedctx // of the request that reads it
	left []byte
	rate int // bytes in a second
}

// Read implements [io.Reader].
func (s *slow) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	wait := time.NewTimer(time.Second / sips)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
	n := copy(p[:min(len(p), max(s.rate/sips, 1))], s.left)
	s.left = s.left[n:]
	return n, nil
}
