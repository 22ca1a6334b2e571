package agent

import (
	"context"
	"io"
)

// Ahead is how many bytes of one stream may be under way.
const Ahead = ahead

// Wire returns a frame as it goes over the wire.
func Wire(session uint64, k uint8, job uint32, payload []byte) []byte {
	return appendFrame(nil, frame{session: session, kind: kind(k), job: job, payload: payload})
}

// Frame is a frame that [Frames] found.
type Frame struct {
	Session uint64
	Kind    uint8
	Job     uint32
	Payload string
}

// Frames returns the frames of a stream that ends.
func Frames(r io.Reader) []Frame {
	var list []Frame
	for frames := newFrameReader(r); ; {
		f, err := frames.next()
		if err != nil {
			return list
		}
		list = append(list, Frame{f.session, uint8(f.kind), f.job, string(f.payload)})
	}
}

// Lines serves the socket for lines until the returned function is called.
func Lines(ctx context.Context, path string) (texts <-chan string, end func(), err error) {
	s, err := listenLines(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	return s.texts, s.close, nil
}

// FindPort is how the agent finds its port.
func FindPort(sys, dev string) (string, error) { return findPort(sys, dev) }
