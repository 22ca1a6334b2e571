package image

import (
	"fmt"
	"io"
	"time"
)

// talk tells how far a build has come.
type talk struct {
	out   io.Writer
	suite string
	began time.Time
}

func newTalk(out io.Writer, suite string) *talk {
	return &talk{out: out, suite: suite, began: time.Now()}
}

// step says what begins now. Nobody to hear it is no reason not to build.
func (t *talk) step(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, "image %s %4.0f s: %s\n", t.suite, time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}
