package agent_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/integration/lab/agent"
)

// A guest is reset in the middle of a frame, and its next agent writes into the same pipe: whatever was cut off, the frames after it are found, and what
// was cut off is none.
func TestFramesAreFoundAfterAnyCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []agent.Frame
		for range rapid.IntRange(1, 5).Draw(t, "boots") {
			payload := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 1, 254, 255, 'x'}), 0, 1500).Draw(t, "cut payload")
			cut := agent.Wire(7, 3, 9, payload)
			stream = append(stream, cut[:rapid.IntRange(0, len(cut)-1).Draw(t, "cut")]...)
			if len(stream) > 1 && len(cut) > 1 && bytes.Equal(stream[len(stream)-min(len(stream), len(cut)-1):], cut[:len(cut)-1]) {
				want = append(want, agent.Frame{Session: 7, Kind: 3, Job: 9, Payload: string(payload)}) // only the last zero was cut off
			}
			f := agent.Frame{
				Session: rapid.Uint64().Draw(t, "session"), Kind: rapid.Uint8().Draw(t, "kind"), Job: rapid.Uint32().Draw(t, "job"),
				Payload: string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'y'}), 0, 1500).Draw(t, "payload")),
			}
			stream = append(stream, agent.Wire(f.Session, f.Kind, f.Job, []byte(f.Payload))...)
			want = append(want, f)
		}
		if got := agent.Frames(bytes.NewReader(stream)); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// The largest frames have lengths at which stuffing adds a byte or not.
func TestFramesOfEveryLength(t *testing.T) {
	for _, fill := range []byte{0, 'x'} {
		for _, n := range []int{0, 1, 236, 237, 238, 239, 240, 241, 253, 254, 255, 508, 32<<10 - 1, 32 << 10} {
			payload := bytes.Repeat([]byte{fill}, n)
			wire := agent.Wire(1, 2, 3, payload)
			if inner := wire[1 : len(wire)-1]; bytes.IndexByte(inner, 0) >= 0 {
				t.Errorf("%d bytes of %d: a zero inside the frame", n, fill)
			}
			got := agent.Frames(bytes.NewReader(wire))
			if len(got) != 1 || got[0].Payload != string(payload) {
				t.Errorf("%d bytes of %d: got %d frames, want the one that was written", n, fill, len(got))
			}
		}
	}
}

// A frame that a bit flipped in, is none.
func TestDamagedFrameIsNone(t *testing.T) {
	wire := agent.Wire(1, 2, 3, []byte("payload"))
	for i := range wire {
		damaged := slices.Clone(wire)
		damaged[i] ^= 0x10
		for _, f := range agent.Frames(bytes.NewReader(damaged)) {
			if i != 0 { // instead of the first zero, a byte that belongs to nothing
				t.Errorf("byte %d damaged: got %+v, want nothing", i, f)
			}
		}
	}
}
