package images_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

func pace() layout.Pace { return layout.Pace{Workers: 2} }

// A bit that turned long ago, in a blob that nobody has touched since, is found by tier 3, and remembered: by the next verification, and by another process.
func TestRehashFindsOldDamageAndItIsRemembered(t *testing.T) {
	s := newStock(t)
	records := t.TempDir()
	setup := images.Setup{Storage: s.Dir, Records: records, Commit: time.Nanosecond}
	p := newProver(t, setup)
	s.Flip(s.Data(s.other.Layers[1].Digest), 2)
	refresh(t, p)
	if v := verify(t, p); v.Damaged() {
		t.Fatalf("tier 2 hashed what was not written since: %+v", v)
	}
	v, err := p.Rehash(t.Context(), pace(), nil)
	want := []string{"blob-damaged team/other:v1"}
	if err != nil || !slices.Equal(said(v), want) {
		t.Fatalf("got %q, %v, want %q", said(v), err, want)
	}
	if got := said(refresh(t, p)); len(got) > 0 {
		t.Errorf("nothing has changed, and a refresh says %q", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = newProver(t, setup)
	if got := said(verify(t, p)); !slices.Equal(got, want) {
		t.Errorf("another process got %q, want %q", got, want)
	}
	// Put right, it is right again.
	s.Flip(s.Data(s.other.Layers[1].Digest), 2)
	if v := verify(t, p); v.Damaged() {
		t.Errorf("got %+v", v)
	}
}

// A round of tier 3 that is stopped anywhere, again and again, goes on where it was: each blob is hashed once, and the round ends.
func TestRehashThatIsStoppedGoesOnWhereItWas(t *testing.T) {
	s := layouttest.New(t)
	const many = 60
	for _, img := range s.Fill(layouttest.Scale{Repositories: 3, Images: many / 4, Layers: 2, LayerSize: 5000, Seed: 1}) {
		_ = img
	}
	rapid.Check(t, func(rt *rapid.T) {
		records := t.TempDir()
		hashed := make(map[registry.Digest]int)
		for rounds := 0; ; rounds++ {
			p, err := images.NewProver(images.Setup{Storage: s.Dir, Records: records, LookOnly: true, Checkpoint: time.Nanosecond})
			if err != nil {
				rt.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			left := rapid.IntRange(0, 30).Draw(rt, "blobs until it is stopped")
			p.Hashed(func(h layout.Hashed) {
				hashed[h.Blob.Digest]++
				if left--; left < 0 {
					cancel(errKilled)
				}
			})
			_, err = p.Rehash(ctx, layout.Pace{Workers: 1}, nil)
			cancel(nil)
			if cerr := p.Close(); cerr != nil {
				rt.Fatal(cerr)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errKilled) || rounds > 200 {
				rt.Fatalf("round %d: %v", rounds, err)
			}
		}
		if len(hashed) != many {
			rt.Fatalf("%d blobs were hashed, want %d", len(hashed), many)
		}
		for d, n := range hashed {
			if n != 1 {
				rt.Fatalf("%s was hashed %d times", d, n)
			}
		}
	})
}

// When a round has ended the next one hashes everything again: it is repeated on a schedule.
func TestTheNextRoundHashesEverythingAgain(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	var n atomic.Int64
	p.Hashed(func(layout.Hashed) { n.Add(1) })
	for round := 1; round <= 2; round++ {
		if _, err := p.Rehash(t.Context(), pace(), nil); err != nil {
			t.Fatal(err)
		}
		last := p.Last()
		if last.Proved.Before(last.Round) || last.Manifest.Verified != last.Manifest.Blobs {
			t.Errorf("round %d: got %+v, want all blobs verified", round, last)
		}
	}
	if got, most := n.Load(), int64(2*p.Last().Manifest.Blobs); got > most || got < most/2 {
		t.Errorf("hashed %d blobs in two rounds, want up to %d", got, most)
	}
}

// How far it is, and how long still: people wait for it.
func TestProgressGrowsToItsEnd(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir, LookOnly: true})
	var last images.Progress
	v, err := p.VerifyAll(t.Context(), pace(), func(now images.Progress) {
		if now.What == last.What && (now.Done < last.Done || now.Bytes < last.Bytes) {
			t.Errorf("%+v after %+v", now, last)
		}
		last = now
	})
	if err != nil || v.Damaged() || last.Done != last.All || last.Bytes != last.AllBytes || last.AllBytes == 0 {
		t.Errorf("ended with %+v, %+v, %v", last, v, err)
	}
	if v.Hashed != v.Blobs {
		t.Errorf("hashed %d of %d blobs", v.Hashed, v.Blobs)
	}
}
