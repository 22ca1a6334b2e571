package images_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

func lookAt(t *testing.T, dir string) *images.Seen {
	t.Helper()
	seen, err := images.LookAt(t.Context(), dir, new(images.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// A disk that answers with errors in the middle proves nothing: what could not be read is neither right nor lost, and is named with every image that needs it.
func TestWhatTheDiskDoesNotGiveIsUnreadable(t *testing.T) {
	s := newStock(t)
	shared := registry.DigestOf([]byte("shared layer"))
	seen := lookAt(t, s.Dir)
	broken := fmt.Errorf("read: %w", syscall.EIO)
	v := images.Judge(new(images.Manifest), seen, map[registry.Digest]layout.Hashed{shared: {Blob: seen.Blobs[shared], Err: broken}})
	want := []string{"unreadable library/app:1.0", "unreadable library/app:latest", "unreadable library/multi:latest", "unreadable team/other:v1"}
	if got := said(v); !slices.Equal(got, want) {
		t.Errorf("a blob: got %q, want %q", got, want)
	}
	seen = lookAt(t, s.Dir)
	seen.Problems = append(seen.Problems, layout.Problem{Path: "blobs/sha256/" + shared.Hex()[:2], Err: broken})
	maps.DeleteFunc(seen.Blobs, func(d registry.Digest, _ layout.Blob) bool { return d.Hex()[:2] == shared.Hex()[:2] })
	got := said(images.Judge(new(images.Manifest), seen, nil))
	for _, w := range append(want, "unreadable :") {
		if !slices.Contains(got, w) {
			t.Errorf("a directory of blobs: got %q, which lacks %q", got, w)
		}
	}
}

// The text says what is wrong in figures, and when it was last right is when it was last hashed: people decide by it what to restore.
func TestAFindingSaysWhatIsWrongAndWhenItWasRight(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	if _, err := p.Rehash(t.Context(), pace(), nil); err != nil {
		t.Fatal(err)
	}
	hashed := time.Now()
	s.Truncate(s.Data(s.other.Layers[1].Digest), 4)
	s.Flip(s.Data(s.app.Layers[1].Digest), 1)
	texts := map[images.Kind]images.Finding{}
	for _, f := range verify(t, p).Findings {
		texts[f.Kind] = f
	}
	if f := texts[images.BlobSize]; f.Text != "the blob has 4 bytes, and has to have 11" || f.Image != s.other.Digest || f.Digest != s.other.Layers[1].Digest {
		t.Errorf("got %+v", f)
	}
	if f := texts[images.BlobDamaged]; !strings.HasPrefix(f.Text, "the blob is damaged: its 9 bytes are sha256:") || f.LastRight.IsZero() || f.LastRight.After(hashed) {
		t.Errorf("got %+v", f)
	}
}

// An image that was pushed while a layer was cut off says that the layer has no bytes. When the layer is right again, that image is the one that is wrong, and it is said what to do.
func TestAnImageThatWasPushedOntoDamageIsToldApart(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	if _, err := p.Rehash(t.Context(), pace(), nil); err != nil {
		t.Fatal(err)
	}
	wrong := s.other.Layers[1]
	wrong.Size = 0
	s.Manifest("team/other", "v1", registry.OCIManifest, map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": s.other.Config, "layers": []registry.Descriptor{s.other.Layers[0], wrong},
	})
	v := verify(t, p)
	if len(v.Findings) != 1 || !strings.Contains(v.Findings[0].Text, "push it anew") || v.Findings[0].Tag != "v1" {
		t.Errorf("got %+v", v.Findings)
	}
	refresh(t, p)
	if again := verify(t, p); len(again.Findings) != 1 || !strings.Contains(again.Findings[0].Text, "push it anew") {
		t.Errorf("after a refresh got %+v", again.Findings)
	}
}

// A pull-through cache has what was asked for, and fetches the rest when it is: nothing of it is missing. What it has must be right all the same.
func TestACacheLacksNothing(t *testing.T) {
	s := newStock(t)
	s.Overwrite(filepath.Join(s.Dir, "scheduler-state.json"), "{}")
	s.Remove(s.Data(s.app.Layers[0].Digest))
	s.Remove(s.LayerLink("team/other", s.other.Layers[0].Digest))
	s.Remove(s.RevisionLink("library/multi", s.part.Digest))
	p := newProver(t, images.Setup{Storage: s.Dir})
	if v := verify(t, p); v.Damaged() {
		t.Errorf("got %q", said(v))
	}
	s.Flip(s.Data(s.other.Layers[1].Digest), 1)
	if got, want := said(verify(t, p)), []string{"blob-damaged team/other:v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// From Harbor 2.15 on the storage has no tags. Whoever verifies only that is told so, and not that all is well with the tags.
func TestAStorageWithoutTagsIsNoted(t *testing.T) {
	s := layouttest.New(t)
	s.Image("library/app", "", []byte("layer"))
	v := verify(t, newProver(t, images.Setup{Storage: s.Dir}))
	if v.Damaged() || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "database") {
		t.Errorf("got %+v", v)
	}
}

// A registry on btrfs loses what it acknowledged when the power is cut. Whoever keeps one there is told, and why.
func TestBtrfsIsWarnedAbout(t *testing.T) {
	const btrfs, ext4 = 0x9123683E, 0xEF53
	if got := images.NoteOn(btrfs); len(got) != 1 || !strings.Contains(got[0], "ext4 or xfs") || !strings.Contains(got[0], "directory") {
		t.Errorf("btrfs: got %q, want the reason and the cure", got)
	}
	if got := images.NoteOn(ext4); len(got) != 0 {
		t.Errorf("ext4: got %q", got)
	}
}

// That the records cannot be written is said; the verdict stands, and what was pushed is not said to be recorded.
func TestRecordsThatCannotBeWrittenAreSaid(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	beside := filepath.Join(s.Dir, images.BesideData)
	s.Remove(beside)
	s.Overwrite(beside, "a file where the directory was")
	if v := verify(t, p); v.Damaged() {
		t.Errorf("got %+v", v)
	}
	if got := p.Last().Records; len(got) != 1 || !strings.Contains(got[0], beside) {
		t.Errorf("got %q, want that %s cannot be written", got, beside)
	}
	s.Image("team/other", "v2", []byte("new"))
	if _, err := p.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), beside) {
		t.Errorf("got %v, want an error that names %s", err, beside)
	}
	s.Remove(beside)
	s.Image("team/other", "v3", []byte("newer"))
	refresh(t, p)
	if got := p.Last().Records; len(got) != 0 {
		t.Errorf("got %q, want nothing wrong any more", got)
	}
	if m, _, err := images.ReadManifest(beside); err != nil || m.Count().Tags != 6 {
		t.Errorf("beside the data: %v", err)
	}
}

// Docker may want the volume at any time: what reads it lets go within two seconds, however large the blob is and however slowly it is read, also on a machine where threads of SCHED_IDLE hardly run.
func TestRehashLetsGoWithinTwoSeconds(t *testing.T) {
	for name, c := range map[string]struct {
		pace layout.Pace
		busy int // processes for each processor
	}{
		"slow":                    {layout.Pace{Workers: 1, BytesPerSecond: 1 << 20}, 0},
		"idle, on a busy machine": {layout.Pace{Idle: true, Direct: true}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := layouttest.New(t)
			for i := range byte(16) {
				s.Image("library/app", "v"+strconv.Itoa(int(i)), bytes.Repeat([]byte{i, 'a', 'b', 'c'}, 4<<20))
			}
			p := newProver(t, images.Setup{Storage: s.Dir})
			refresh(t, p)
			for range c.busy * runtime.NumCPU() {
				burn(t)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			var told time.Time
			var once sync.Once
			_, err := p.Rehash(ctx, c.pace, func(now images.Progress) {
				if now.AllBytes > 0 {
					once.Do(func() {
						time.AfterFunc(100*time.Millisecond, func() {
							told = time.Now()
							cancel(errKilled)
						})
					})
				}
			})
			if took := time.Since(told); !errors.Is(err, errKilled) || took > 2*time.Second {
				t.Errorf("got %v after %s, want that it was stopped within two seconds", err, took)
			}
		})
	}
}

// burn keeps a processor busy until the test ends.
func burn(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // killed when the context ended
}

// Whatever is damaged, at whatever places and together: what a verification without a manifest finds is what one with a manifest finds, but for what only the manifest knows, and a
// second one finds the same. No image that nothing was done to is named.
func TestFindingsAreTheSameEachTimeAndSpareTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := layouttest.New(t)
		all := s.Fill(layouttest.Scale{Repositories: 2, Images: 6, Layers: 2, LayerSize: 64, Seed: rapid.Uint64().Draw(rt, "seed")})
		age(t, s)
		p, err := images.NewProver(images.Setup{Storage: s.Dir})
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := p.Refresh(t.Context()); err != nil {
			rt.Fatal(err)
		}
		hurt := map[string]bool{}
		for range rapid.IntRange(0, 4).Draw(rt, "damages") {
			img := all[rapid.IntRange(0, len(all)-1).Draw(rt, "image")]
			paths := []string{
				s.Data(img.Digest), s.Data(img.Layers[0].Digest), s.Data(img.Layers[1].Digest), s.LayerLink(img.Repository, img.Config.Digest),
				s.RevisionLink(img.Repository, img.Digest), s.LayerLink(img.Repository, img.Layers[1].Digest),
			}
			path := rapid.SampledFrom(paths).Draw(rt, "path")
			if _, err := os.Stat(path); err != nil {
				continue
			}
			hurt[img.Repository+":"+img.Tag] = true
			switch rapid.IntRange(0, 2).Draw(rt, "how") {
			case 0:
				s.Remove(path)
			case 1:
				least := 0
				if filepath.Base(path) == "link" {
					least = 1 // one that is empty is made anew
				}
				s.Truncate(path, int64(rapid.IntRange(least, 20).Draw(rt, "size")))
			default:
				s.Remove(filepath.Dir(path))
			}
		}
		v, err := p.Verify(t.Context(), nil)
		if err != nil {
			rt.Fatal(err)
		}
		again, err := p.Verify(t.Context(), nil)
		if err != nil {
			rt.Fatal(err)
		}
		if a, b := said(v), said(again); !slices.Equal(a, b) {
			rt.Fatalf("first %q, then %q", a, b)
		}
		named := map[string]bool{}
		for _, f := range v.Findings {
			named[f.Repository+":"+f.Tag] = true
		}
		if !maps.Equal(named, hurt) {
			rt.Fatalf("named %v, hurt %v: %+v", named, hurt, v.Findings)
		}
		if v.Intact != len(all)-len(hurt) {
			rt.Fatalf("%d are intact of %d, %d were hurt", v.Intact, len(all), len(hurt))
		}
	})
}
