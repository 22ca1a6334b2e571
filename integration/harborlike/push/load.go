package push

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// pause is how long a pusher waits after a push that failed.
const pause = 500 * time.Millisecond

// Load is several pushers that push one image after another, each to a repository of its own.
type Load struct {
	Prefix    string // of the repositories: the pusher's number is appended; "library/load-"
	Pushers   int    // at once; 1
	Images    int    // of each pusher; 0: until the context ends
	Tags      int    // that each repository has, moved on again and again; 0: a new one for each image
	Layers    int    // 1
	LayerSize int    // in bytes
	Seed      uint64
	Rate      int // bytes that each pusher sends in a second; 0: as many as are taken
}

// image returns the pusher's nth image.
func (l Load) image(pusher, n int) Image {
	tag := n
	if l.Tags > 0 {
		tag = n % l.Tags
	}
	seed := fnv.New64a()
	_, _ = fmt.Fprint(seed, l.Seed, " ", pusher, " ", n) // a hash takes anything
	return Image{
		Repository: fmt.Sprintf("%s%d", l.Prefix, pusher), Tag: fmt.Sprintf("v%d", tag), Layers: l.Layers, LayerSize: l.LayerSize, Seed: seed.Sum64(),
		Rate: l.Rate,
	}
}

// Run pushes until all is pushed or the context ends, which is no error. It calls note and failed one at a time. After a push that failed, the pusher goes
// on with its next image if failed returns nil, else everything ends with that error.
func (r Registry) Run(ctx context.Context, l Load, note func(Record) error, failed func(error) error) error {
	if l.Prefix == "" {
		l.Prefix = "library/load-"
	}
	l.Pushers, l.Layers = max(l.Pushers, 1), max(l.Layers, 1)
	inner, end := context.WithCancel(ctx)
	defer end()
	events := make(chan any) // a Record or an error
	var pushers sync.WaitGroup
	for pusher := range l.Pushers {
		pushers.Go(func() { r.pushOn(inner, l, pusher, events) })
	}
	go func() {
		pushers.Wait()
		close(events)
	}()
	var first error
	for event := range events {
		var err error
		switch event := event.(type) {
		case Record:
			err = note(event)
		case error:
			err = failed(event)
		}
		if err != nil && first == nil {
			first = err
			end()
		}
	}
	return first
}

// pushOn is one pusher. What is acknowledged is told even when the context has ended meanwhile.
func (r Registry) pushOn(ctx context.Context, l Load, pusher int, events chan<- any) {
	note := func(record Record) error {
		events <- record
		return nil
	}
	for n := 0; ctx.Err() == nil && (l.Images == 0 || n < l.Images); n++ {
		err := r.Push(ctx, l.image(pusher, n), note)
		if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			continue
		}
		events <- err
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}
