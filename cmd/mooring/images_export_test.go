package main

import (
	"io"
	"time"

	"github.com/mooring-sh/mooring/supervisor/images"
)

// NewImagesProgress is newImagesProgress, for a terminal of that width, or for none if it is 0, with a clock that tick moves.
func NewImagesProgress(w io.Writer, width int) (show func(images.Progress), tick func(time.Duration)) {
	now := time.Unix(1_700_000_000, 0)
	p := newImagesProgress(w)
	p.width, p.began, p.now = width, now, func() time.Time { return now }
	return p.show, func(d time.Duration) { now = now.Add(d) }
}
