package images_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

func digest(n int) registry.Digest { return registry.DigestOf(fmt.Appendf(nil, "%d", n)) }

// apply applies a change to a manifest.
func apply(tb testing.TB, m *images.Manifest, c *images.Change) {
	tb.Helper()
	if err := m.Apply(c.Body()); err != nil {
		tb.Fatal(err)
	}
}

func someTime() time.Time { return time.Unix(1_700_000_000, 123_456_789) }

// twoImages is a manifest with an index, its image, and another image that shares a layer.
func twoImages(tb testing.TB) *images.Manifest {
	tb.Helper()
	m := new(images.Manifest)
	c := images.NewChange().Taken(someTime())
	for n := range 6 {
		c.Blob(digest(n), int64(n*100), someTime(), someTime().Add(-time.Duration(n)*time.Hour))
	}
	c.Image(digest(0), registry.OCIManifest, []registry.Digest{digest(3), digest(4)}, nil)
	c.Image(digest(1), registry.DockerManifest, []registry.Digest{digest(4), digest(5)}, nil)
	c.Image(digest(2), registry.OCIIndex, nil, []registry.Digest{digest(0)})
	c.Repository("library/app").Revision(digest(0)).Revision(digest(2)).Tag("latest", digest(2), someTime())
	c.Repository("other").Revision(digest(1)).Tag("v1", digest(1), someTime())
	apply(tb, m, c)
	return m
}

// What a listing shows of an index is all that it is made of, and parts of it are no images of their own.
func TestEntriesSumUpWhatAnImageIsMadeOf(t *testing.T) {
	got := slices.Collect(twoImages(t).Entries())
	want := []images.Entry{
		{
			Repository: "library/app", Tag: "latest", Digest: digest(2), Media: registry.OCIIndex, Blobs: 2, Bytes: 0 + 200 + 300 + 400,
			Moved: someTime(), Verified: someTime().Add(-4 * time.Hour).Truncate(time.Millisecond),
		},
		{
			Repository: "other", Tag: "v1", Digest: digest(1), Media: registry.DockerManifest, Blobs: 2, Bytes: 100 + 400 + 500,
			Moved: someTime(), Verified: someTime().Add(-5 * time.Hour).Truncate(time.Millisecond),
		},
	}
	if !slices.EqualFunc(got, want, func(a, b images.Entry) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A change that cannot be read must not leave half of itself behind.
func TestAChangeIsAppliedWhollyOrNotAtAll(t *testing.T) {
	m := twoImages(t)
	before := m.Whole()
	whole := images.NewChange().Repository("library/app").NoTag("latest").Forget(digest(5)).Body()
	for n := 1; n < len(whole); n++ {
		if err := m.Apply(whole[:n]); err == nil {
			m = twoImages(t) // it is a whole number of operations
			continue
		}
		if !bytes.Equal(m.Whole(), before) {
			t.Fatalf("after a change that ends after %d bytes: the manifest is another one", n)
		}
	}
	if err := m.Apply(images.NewChange().NoTag("latest").Body()); err == nil {
		t.Error("got no error for a tag of no repository")
	}
}

// Whatever was done to a manifest, what is written of it makes the same one, and again the same bytes: else two places could differ for ever.
func TestWhatIsWrittenOfAManifestMakesTheSameOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := new(images.Manifest)
		for range rapid.IntRange(1, 10).Draw(t, "changes") {
			if err := m.Apply(drawChange(t).Body()); err != nil {
				t.Fatal(err)
			}
		}
		whole := m.Whole()
		again := new(images.Manifest)
		if err := again.Apply(whole); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Whole(), whole) {
			t.Fatal("what was written of it makes another manifest")
		}
		if got, want := fmt.Sprint(again.Count()), fmt.Sprint(m.Count()); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// In a registry whose images come and go, the manifest does not grow with those that went.
func TestDigestsThatWentAreForgotten(t *testing.T) {
	m := new(images.Manifest)
	for round := range 4 {
		c := images.NewChange().Taken(someTime()).Blob(digest(-1), 5, someTime(), someTime())
		for n := range 15_000 {
			c.Blob(digest(round*15_000+n), 10, someTime(), someTime())
			if round > 0 {
				c.Forget(digest((round-1)*15_000 + n))
			}
		}
		apply(t, m, c)
		m.Compact()
	}
	if got := m.Digests(); got > 31_000 {
		t.Errorf("it knows %d digests, of 15,001 that are there", got)
	}
	if got := m.Count().Blobs; got != 15_001 {
		t.Errorf("got %d blobs, want 15,001", got)
	}
}

func drawChange(t *rapid.T) *images.Change {
	c := images.NewChange()
	draw := func() registry.Digest { return digest(rapid.IntRange(0, 12).Draw(t, "digest")) }
	several := func() []registry.Digest {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) registry.Digest { return digest(rapid.IntRange(0, 12).Draw(t, "digest")) }), 0, 4).Draw(t, "digests")
	}
	c.Repository("first")
	for range rapid.IntRange(1, 20).Draw(t, "operations") {
		switch rapid.IntRange(0, 9).Draw(t, "operation") {
		case 0:
			c.Blob(draw(), rapid.Int64Range(-1, 1<<50).Draw(t, "size"), someTime(), time.Time{})
		case 1:
			c.Image(draw(), registry.OCIIndex, several(), several())
		case 2:
			c.Forget(draw())
		case 3:
			c.Repository(rapid.SampledFrom([]string{"first", "second", "a/b"}).Draw(t, "repository"))
		case 4:
			c.NoRepository("second").Repository("first")
		case 5:
			c.Revision(draw())
		case 6:
			c.NoRevision(draw())
		case 7:
			c.Tag(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "tag"), draw(), someTime())
		case 8:
			c.NoTag("x")
		case 9:
			c.Verified(someTime(), several()...)
		}
	}
	return c.Taken(someTime().Add(time.Duration(rapid.Int64().Draw(t, "taken") % (1 << 50))))
}

// A damaged file that passes its checksum, or a hostile one, is an error: no panic, and no memory beyond its own size.
func FuzzManifest(f *testing.F) {
	f.Add(twoImages(f).Whole())
	f.Add(images.NewChange().Repository("a").Tag("b", digest(1), someTime()).NoTag("b").NoRepository("a").Body())
	f.Add(binary.AppendUvarint([]byte{5, 0}, 1<<60))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		m := new(images.Manifest)
		if err := m.Apply(encoded); err != nil {
			return
		}
		whole := m.Whole()
		again := new(images.Manifest)
		if err := again.Apply(whole); err != nil {
			t.Fatalf("what was written of it: %v", err)
		}
		if !bytes.Equal(again.Whole(), whole) {
			t.Fatal("what was written of it makes another manifest")
		}
		m.Count()
		for range m.Entries() {
		}
	})
}

// No file is taken for what it is not: whatever bytes there are, either they are exactly what was sealed or they are an error.
func FuzzFile(f *testing.F) {
	c := images.NewChange().Taken(someTime())
	f.Add(images.Seal(7, c))
	f.Add([]byte("mooring-manifest format=1 number=1 bytes=0 sha256=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		number, body, err := images.Unseal(data)
		if err != nil {
			return
		}
		c := images.NewChange()
		sealed := images.Seal(number, c.With(body))
		if !bytes.Equal(sealed, data) {
			t.Fatalf("%q was accepted", data)
		}
	})
}

// large is a registry of 100,000 images in 1,000 repositories, each with a configuration and eight layers of its own: a million blobs.
func large(tb testing.TB) *images.Manifest {
	tb.Helper()
	const repositories, perRepository, layers = 1000, 100, 9
	m := new(images.Manifest)
	n := 0
	name := func() registry.Digest {
		n++
		var b [32]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n)*0x9E3779B97F4A7C15)
		binary.LittleEndian.PutUint64(b[8:], uint64(n))
		return registry.SumDigest(b)
	}
	for r := range repositories {
		c := images.NewChange().Taken(someTime()).Repository(fmt.Sprintf("project-%d/service-%d", r%20, r))
		for i := range perRepository {
			blobs := make([]registry.Digest, layers)
			for b := range blobs {
				blobs[b] = name()
				c.Blob(blobs[b], 10_000_000+int64(n), someTime().Add(time.Duration(n)*time.Millisecond), someTime())
			}
			d := name()
			c.Blob(d, 2000, someTime(), someTime()).Image(d, registry.OCIManifest, blobs, nil).Revision(d).Tag(fmt.Sprintf("v1.%d.0", i), d, someTime())
		}
		apply(tb, m, c)
	}
	return m
}

// A registry's host has little memory to spare: with 100,000 images the manifest takes less than 200 MB, also while it is written and read.
func TestAManifestOf100000ImagesTakesLessThan200MB(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a second or two")
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	r, _, _, err := images.OpenRecords(dirs...)
	if r == nil {
		t.Fatal(err)
	}
	m := large(t)
	peak := watchMemory(t)
	if got := m.Count(); got.Images != 100_000 || got.Blobs != 1_000_000 || got.Tags != 100_000 {
		t.Fatalf("got %+v", got)
	}
	if err := r.Save(m, images.NewChange().Taken(someTime())); err != nil {
		t.Fatal(err)
	}
	written := peak()
	runtime.KeepAlive(m)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	peak() // what was built is garbage from here on
	_, again, damage, err := images.OpenRecords(dirs...)
	if err != nil || len(damage) > 0 {
		t.Fatal(err, damage)
	}
	read := peak()
	itself := peak()
	if got := again.Count(); got.Images != 100_000 {
		t.Fatalf("got %+v", got)
	}
	t.Logf("in use at most: %d MB by the manifest itself, %d MB to write it, %d MB to read it", itself>>20, written>>20, read>>20)
	limit := uint64(200 << 20)
	if raced { // make test runs this one without the race detector, too
		limit += limit / 2
	}
	for what, got := range map[string]uint64{"write": written, "read": read} {
		if got > limit {
			t.Errorf("%d MB to %s it, want at most %d", got>>20, what, limit>>20)
		}
	}
}
