package layout_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// What a repair has said is done survives a power cut in the same moment, directories included.
func TestARepairSurvivesAPowerCut(t *testing.T) {
	for _, f := range []struct{ kind, size string }{{"ext4", "64M"}, {"xfs", "300M"}} {
		t.Run(f.kind, func(t *testing.T) {
			d := layouttest.NewDisk(t, f.kind, f.size)
			v := victim{Registry: layouttest.At(t, filepath.Join(d.Dir(), "storage"))}
			v.image = v.Image("app", "1", []byte("the layer"))
			v.Truncate(v.Data(v.image.Layers[0].Digest), 3)
			v.Truncate(v.TagLink("app", "1"), 0)
			d.Sync()
			s := open(t, v.Registry)
			layer := v.image.Layers[0]

			moved, err := s.Aside(layer.Digest)
			must(t, err)
			after := layouttest.At(t, filepath.Join(d.Cut().Dir(), "storage"))
			below, err := filepath.Rel(v.Dir, moved)
			must(t, err)
			if got, err := os.ReadFile(filepath.Join(after.Dir, below)); err != nil || string(got) != "the" {
				t.Errorf("aside: got %q and %v", got, err)
			}
			if _, err := os.Lstat(after.Data(layer.Digest)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("got %v, want nothing where it was", err)
			}

			for _, content := range []string{"the layer", "a blob in a new directory"} {
				blob := registry.DigestOf([]byte(content))
				must(t, s.Place(t.Context(), blob, int64(len(content)), strings.NewReader(content), owner(t, s)))
				after = layouttest.At(t, filepath.Join(d.Cut().Dir(), "storage"))
				if got, err := os.ReadFile(after.Data(blob)); err != nil || string(got) != content {
					t.Errorf("place: got %q and %v", got, err)
				}
			}

			must(t, s.Relink(scan(t, s).Repositories[0].Tags[0].Current, v.image.Digest))
			after = layouttest.At(t, filepath.Join(d.Cut().Dir(), "storage"))
			intact(t, scan(t, open(t, after)).Repositories[0], v.image)
		})
	}
}

// A disk that is full says so, and keeps what it has.
func TestPlaceOnAFullDisk(t *testing.T) {
	d := layouttest.NewDisk(t, "ext4", "32M")
	r := layouttest.At(t, filepath.Join(d.Dir(), "storage"))
	s := open(t, r)
	err := s.Place(t.Context(), other, 1<<30, io.LimitReader(endless{}, 1<<30), owner(t, s))
	if !errors.Is(err, mooring.ErrCapacity) || mooring.ExitCode(err) != 15 {
		t.Errorf("got %v, want one that wraps ErrCapacity", err)
	}
	if got := asides(t, r); len(got) != 0 {
		t.Errorf("left behind: %d files", len(got))
	}
}

// A part of the disk cannot be read: what is there is named with what the kernel says, is not called corrupt, and everything else is verified.
func TestReadErrorsAreReportedAndTheRestIsVerified(t *testing.T) {
	d := layouttest.NewDisk(t, "ext4", "64M")
	r := layouttest.At(t, filepath.Join(d.Dir(), "storage"))
	good := map[registry.Digest]bool{}
	for i := range 8 {
		good[r.Blob(bytes.Repeat([]byte{byte(i)}, 100000)).Digest] = true
	}
	bad := r.Blob(bytes.Repeat([]byte("bad"), 1<<20)).Digest
	d.Unmount()
	d.Mount("ro")
	r = layouttest.At(t, filepath.Join(d.Dir(), "storage"))
	// The device ends in the middle of the blob, where nothing else lies.
	end := physical(t, r.Data(bad)) + 64<<10
	for g := range good {
		if physical(t, r.Data(g)) > end {
			t.Fatal("the filesystem put the blobs elsewhere than this test thinks")
		}
	}
	must(t, os.Truncate(d.Image, end))
	layouttest.Sh(t, "losetup", "--set-capacity", d.Dev)

	s := open(t, r)
	snap := scan(t, s)
	if len(snap.Problems) != 0 || snap.Blobs[bad].Size != 3<<20 {
		t.Errorf("got problems %v and %+v: what can be asked is right", snap.Problems, snap.Blobs[bad])
	}
	for name, p := range modes() {
		for digest, h := range rehash(t, s, blobs(snap), p) {
			switch {
			case good[digest] && h.Err != nil:
				t.Errorf("%s: got %v for one that can be read", name, h.Err)
			case !good[digest] && (!errors.Is(h.Err, unix.EIO) || errors.Is(h.Err, mooring.ErrCorrupt) || h.Got != ""):
				t.Errorf("%s: got %+v, want an I/O error", name, h)
			}
		}
	}
	if _, err := s.Read(t.Context(), bad, 4<<20); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want an I/O error", err)
	}
}

// physical returns where on the disk a file's first extent begins, in bytes.
func physical(t *testing.T, path string) int64 {
	t.Helper()
	var first int64
	out := layouttest.Sh(t, "filefrag", "-b1", "-v", path)
	for line := range strings.Lines(out) {
		// "   0:        0..    4095:   35651584..  35655679:   4096:             last,eof"
		if fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ':' || r == '.' }); len(fields) > 4 && fields[0] == "0" {
			n, err := strconv.ParseInt(fields[3], 10, 64)
			must(t, err)
			first = n
		}
	}
	if first == 0 {
		t.Fatalf("no extent in %q", out)
	}
	return first
}

// A directory's block is damaged: what was in it is unknown, which is said, with what the kernel says and not as if a registry had made it so; and the rest is read.
func TestADirectoryThatCannotBeReadIsReported(t *testing.T) {
	d := layouttest.NewDisk(t, "ext4", "64M")
	v := victim{Registry: layouttest.At(t, filepath.Join(d.Dir(), "storage"))}
	v.image = v.Image("app", "1", []byte("the layer"))
	v.safe = v.Image("safe", "1", []byte("another layer"))
	d.Sync()
	layer := v.image.Layers[0].Digest
	blobDir := filepath.Dir(v.Data(layer))
	layersDir := filepath.Dir(filepath.Dir(v.LayerLink("app", layer)))
	blocks := []int64{physical(t, blobDir), physical(t, layersDir)}
	d.Unmount()
	image, err := os.OpenFile(d.Image, os.O_RDWR, 0)
	must(t, err)
	for _, at := range blocks {
		_, err := image.WriteAt(bytes.Repeat([]byte{0xa5}, 1024), at)
		must(t, err)
	}
	must(t, image.Close())
	layouttest.Sh(t, "blockdev", "--flushbufs", d.Dev)
	d.Mount("ro")
	v.Dir = filepath.Join(d.Dir(), "storage")
	snap := scan(t, open(t, v.Registry))
	want := []string{"blobs/sha256/" + layer.Hex()[:2] + "/" + layer.Hex() + "/data", "repositories/app/_layers/sha256"}
	if got := problemPaths(snap); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", snap.Problems, want)
	}
	for _, p := range snap.Problems {
		if errors.Is(p.Err, mooring.ErrInvalid) || errors.Is(p.Err, mooring.ErrNotFound) {
			t.Errorf("%s: got %v, want what the kernel says", p.Path, p.Err)
		}
	}
	if b, ok := snap.Blobs[layer]; !ok || b.Size != -1 {
		t.Errorf("got %+v, want one of size -1", b)
	}
	intact(t, snap.Repositories[1], v.safe)
}
