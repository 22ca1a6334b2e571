package images_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// filesystems are what Mooring makes volumes with, and how large one has to be. The disks of these tests are loop devices: that needs root.
var filesystems = map[string]string{"ext4": "64M", "xfs": "300M"} //nolint:gochecknoglobals // a constant table

// A storage that takes no writes any more, as after an error of its disk: what a power cut has left stays as it is and is a finding, with what the kernel says; all else is proved, and what is found has
// a place to be kept that still takes it.
func TestAReadOnlyStorageIsVerifiedAndNotMended(t *testing.T) {
	for kind, size := range filesystems {
		t.Run(kind, func(t *testing.T) {
			d := layouttest.NewDisk(t, kind, size)
			r := layouttest.At(t, filepath.Join(d.Dir(), "storage"))
			r.Image("library/whole", "v1", []byte("one"))
			img := r.Image("library/app", "v1", []byte("two"))
			records := t.TempDir()
			p := newProver(t, images.Setup{Storage: r.Dir, Records: records})
			refresh(t, p)
			r.Truncate(r.LayerLink("library/app", img.Layers[0].Digest), 0)
			r.Truncate(r.TagLink("library/app", "v1"), 0)
			stray := r.Blob([]byte("cut off"))
			r.Truncate(r.Data(stray.Digest), 0)
			must(t, p.Close()) // it keeps a lock beside the data
			d.ReadOnly()
			p = newProver(t, images.Setup{Storage: r.Dir, Records: records})
			v := verify(t, p)
			want := []string{"blob-damaged : unfinished", "layer-link library/app:", "tag-link library/app:v1 unfinished"}
			if got := said(v); !slices.Equal(got, want) || v.Intact != 1 || v.Images != 2 {
				t.Errorf("got %q, %d of %d images whole, want %q, 1 of 2", got, v.Intact, v.Images, want)
			}
			if notes := strings.Join(v.Notes, "\n"); strings.Count(notes, syscall.EROFS.Error()) != len(want) {
				t.Errorf("got notes %q, want that each says why nothing was put right", notes)
			}
			if got := p.Last(); len(got.Records) != 1 || !strings.Contains(got.Records[0], syscall.EROFS.Error()) || len(p.Entries()) != 2 {
				t.Errorf("got %q and %d images, want that the manifest is kept in one place only", got.Records, len(p.Entries()))
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A disk that answers with errors in the middle of whatever reads the images: that is said, no image is taken for lost or damaged because of it, and when the disk is back all is known and right.
func TestADiskThatFailsInTheMiddleTakesNothingFromTheManifest(t *testing.T) {
	pace := layout.Pace{Workers: 1, Direct: true}
	for name, read := range map[string]func(ctx context.Context, p *images.Prover, show func(images.Progress)) (images.Verdict, error){
		"verify": func(ctx context.Context, p *images.Prover, show func(images.Progress)) (images.Verdict, error) {
			return p.Verify(ctx, show)
		},
		"rehash": func(ctx context.Context, p *images.Prover, show func(images.Progress)) (images.Verdict, error) {
			return p.Rehash(ctx, pace, show)
		},
		"verify all": func(ctx context.Context, p *images.Prover, show func(images.Progress)) (images.Verdict, error) {
			return p.VerifyAll(ctx, pace, show)
		},
		"refresh": func(ctx context.Context, p *images.Prover, show func(images.Progress)) (images.Verdict, error) {
			show(images.Progress{AllBytes: 1})
			return p.Refresh(ctx)
		},
	} {
		for kind, size := range filesystems {
			t.Run(name+", "+kind, func(t *testing.T) {
				const pushed = 20
				d := layouttest.NewDisk(t, kind, size)
				records := t.TempDir()
				storage := func() *layouttest.Registry { return layouttest.At(t, filepath.Join(d.Dir(), "storage")) }
				r := storage()
				for i := range pushed {
					r.Image("library/app"+strconv.Itoa(i%4), strconv.Itoa(i), bytes.Repeat([]byte{byte(i)}, 256<<10))
				}
				again := func() *images.Prover { // nothing is in the page cache
					d.Unmount()
					d.Mount()
					return newProver(t, images.Setup{Storage: storage().Dir, Records: records})
				}
				p := newProver(t, images.Setup{Storage: r.Dir, Records: records})
				refresh(t, p)
				must(t, p.Close())
				p = again()
				var failed sync.Once
				v, err := read(t.Context(), p, func(now images.Progress) {
					if now.AllBytes > 0 {
						failed.Do(d.Break)
					}
				})
				switch {
				case err != nil && !errors.Is(err, syscall.EIO):
					t.Errorf("got %v, want an I/O error", err)
				case err == nil && !v.Damaged():
					t.Errorf("got %+v, want that it is said", v)
				}
				for _, f := range v.Findings {
					if f.Kind != images.Unreadable {
						t.Errorf("got %+v, want only what cannot be read", f)
					}
				}
				if len(v.Gone) > 0 {
					t.Errorf("got %v gone, want none", v.Gone)
				}
				must(t, p.Close())
				p = again()
				if v := verify(t, p); v.Damaged() || v.Intact != pushed || len(v.Gone)+len(v.New) > 0 || len(p.Entries()) != pushed {
					t.Errorf("when the disk is back: got %d of %d images whole, %q, gone %v, new %v", v.Intact, v.Images, said(v), v.Gone, v.New)
				}
			})
		}
	}
}
