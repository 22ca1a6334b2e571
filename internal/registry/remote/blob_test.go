package remote_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// pattern returns content in which no part is like another.
func pattern(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:size]
}

func onBlobs(h func(q *http.Request, n int) http.Handler) func(*http.Request, int) http.Handler {
	return func(q *http.Request, n int) http.Handler {
		if !strings.Contains(q.URL.Path, "/blobs/") {
			return nil
		}
		return h(q, n)
	}
}

func TestABlobComesAsItIsStored(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	content := pattern(3 << 20)
	d := reg.Blob("a", content)
	r := open(t, reg)
	body, err := r.Blob(t.Context(), "a", d)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() //nolint:errcheck // only read
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v, want the %d that were stored", len(got), err, len(content))
	}
	_, err = r.Blob(t.Context(), "a", registry.Descriptor{Digest: registry.DigestOf([]byte("absent"))})
	wantError(t, err, mooring.ErrNotFound, "BLOB_UNKNOWN")
}

// Hours of a large blob must not be lost to one cut: it goes on from there.
func TestABlobGoesOnWhereItWasCut(t *testing.T) {
	content := pattern(1 << 20)
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", content)
	const step = 200_000
	reg.Rules.Meddle = onBlobs(func(q *http.Request, n int) http.Handler {
		if n >= 4 {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if n > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n*step, len(content)-1, len(content)))
			}
			status(w, q, len(content)-n*step)
			remotetest.CutAfter(len(content)-n*step, content[n*step:(n+1)*step]).ServeHTTP(w, q)
		})
	})
	n, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	if err != nil || n != d.Size {
		t.Errorf("got %d bytes, %v, want all %d right", n, err, d.Size)
	}
	var ranges []string
	for _, q := range reg.Requests() {
		ranges = append(ranges, q.Range)
	}
	want(t, "ranges", strings.Join(ranges, " "), " bytes=200000- bytes=400000- bytes=600000- bytes=800000-")
}

func status(w http.ResponseWriter, q *http.Request, length int) {
	w.Header().Set("Content-Length", strconv.Itoa(length))
	if q.Header.Get("Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
}

// A registry, or a proxy before it, that knows no ranges begins anew: what was hashed is passed over.
func TestABlobGoesOnWithoutRanges(t *testing.T) {
	content := pattern(1 << 20)
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", content)
	reg.Rules.Meddle = onBlobs(func(_ *http.Request, n int) http.Handler {
		if n < 2 {
			return remotetest.CutAfter(len(content), content[:300_000*(n+1)])
		}
		return remotetest.Text("application/octet-stream", string(content))
	})
	n, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	if err != nil || n != d.Size {
		t.Errorf("got %d bytes, %v, want all %d right", n, err, d.Size)
	}
}

// Storage that ends before the size that a cache remembers looks like a cut connection, but always at the same byte.
func TestABlobThatEndsTooSoonIsCorruptAndNotACutConnection(t *testing.T) {
	for _, left := range []int{0, 1, 70_000} {
		reg := remotetest.New(t, remotetest.Rules{Warm: true})
		content := pattern(100_000)
		d := reg.Blob("a", content)
		reg.Damage(d.Digest, content[:left:left])
		_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
		wantError(t, err, mooring.ErrCorrupt, string(d.Digest), fmt.Sprintf("ends after %d of the 100000 bytes", left))
	}
}

// What HEAD says is no proof: a registry says 200, and the size, for a blob that is gone.
func TestABlobThatIsGoneIsFoundOutThoughHeadSaysItIsThere(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Warm: true})
	d := reg.Blob("a", pattern(1000))
	reg.Damage(d.Digest, nil)
	_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	wantError(t, err, mooring.ErrCorrupt, "ends after 0 of the 1000 bytes")
}

func TestABlobOfOtherBytesIsCorrupt(t *testing.T) {
	content := pattern(1000)
	for name, damaged := range map[string][]byte{"flipped": append([]byte("x"), content[1:]...), "empty": {}, "short": content[:999], "long": append(content, 'x')} {
		t.Run(name, func(t *testing.T) {
			reg := remotetest.New(t, remotetest.Rules{})
			d := reg.Blob("a", content)
			reg.Damage(d.Digest, damaged)
			_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
			wantError(t, err, mooring.ErrCorrupt, string(d.Digest))
			if name != "long" { // of which no more is read than it takes
				wantError(t, err, mooring.ErrCorrupt, fmt.Sprintf("got %d bytes with the digest %s", len(damaged), registry.DigestOf(damaged)))
			}
		})
	}
}

func TestABlobOfAnotherSizeThanItsManifestSaysIsCorrupt(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", pattern(1000))
	d.Size = 1001
	_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	wantError(t, err, mooring.ErrCorrupt, "it has 1000 bytes, not 1001")
}

// A connection on which nothing comes is given up, and the blob goes on with another.
func TestAStalledBlobGoesOn(t *testing.T) {
	content := pattern(50_000)
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", content)
	reg.Rules.Meddle = onBlobs(func(_ *http.Request, n int) http.Handler {
		if n == 0 {
			return remotetest.Stall(len(content), content[:20_000])
		}
		return nil
	})
	if n, err := open(t, reg, impatient).Hash(t.Context(), "a", d, nil); err != nil || n != d.Size {
		t.Errorf("got %d bytes, %v, want all", n, err)
	}
}

func impatient(a *remote.Access) { a.Patience.Idle = 200 * time.Millisecond }

// A blob of which no more ever comes is not called damaged: nobody has said that it ends there.
func TestABlobThatStallsForEverIsUnavailable(t *testing.T) {
	content := pattern(50_000)
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", content)
	reg.Rules.Meddle = onBlobs(func(_ *http.Request, n int) http.Handler {
		if n == 0 {
			return remotetest.Stall(len(content), content[:20_000])
		}
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 20000-49999/%d", len(content)))
			status(w, q, 30_000)
			remotetest.Stall(30_000, nil).ServeHTTP(w, q)
		})
	})
	_, err := open(t, reg, impatient).Hash(t.Context(), "a", d, nil)
	wantError(t, err, mooring.ErrUnavailable, "no further byte after 20000")
}

// A blob may take hours, as long as something comes: here, three times as long as nothing may come.
func TestASlowBlobIsWaitedFor(t *testing.T) {
	content := pattern(60_000)
	reg := remotetest.New(t, remotetest.Rules{})
	d := reg.Blob("a", content)
	reg.Rules.Meddle = onBlobs(func(*http.Request, int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := 0; i < len(content) && q.Context().Err() == nil; i += 2000 {
				<-tick.C
				_, _ = w.Write(content[i : i+2000])
				_ = http.NewResponseController(w).Flush()
			}
		})
	})
	if n, err := open(t, reg, impatient).Hash(t.Context(), "a", d, nil); err != nil || n != d.Size {
		t.Errorf("got %d bytes, %v, want all", n, err)
	}
}

// Storage elsewhere gets a signed URL, and no credentials: object storage refuses both at once, and nobody else is to see them.
func TestABlobElsewhereIsFetchedWithoutCredentials(t *testing.T) {
	for name, rules := range schemes() {
		t.Run(name, func(t *testing.T) {
			rules.Elsewhere = true
			reg := remotetest.New(t, rules)
			content := pattern(100_000)
			d := reg.Blob("library/a", content)
			n, err := open(t, reg).Hash(t.Context(), "library/a", d, nil)
			if err != nil || n != d.Size {
				t.Errorf("got %d bytes, %v, want all", n, err)
			}
			elsewhere := 0
			for _, q := range reg.Requests() {
				if q.Elsewhere {
					elsewhere++
					want(t, "credentials elsewhere", q.Authorization, "")
				}
			}
			want(t, "requests elsewhere", elsewhere, 1)
		})
	}
}

// A blob that is cut elsewhere goes on there.
func TestABlobElsewhereThatEndsTooSoonIsCorrupt(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Elsewhere: true, Warm: true})
	content := pattern(1000)
	d := reg.Blob("a", content)
	reg.Damage(d.Digest, content[:400])
	_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	wantError(t, err, mooring.ErrCorrupt, "ends after 400 of the 1000 bytes")
}

// Where the registry sends somebody must not undo what he asked for: no clear text to other machines.
func TestNoRedirectLeadsToPlainHTTPElsewhere(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Meddle: func(q *http.Request, _ int) http.Handler {
		return http.RedirectHandler("http://storage.invalid/blob", http.StatusTemporaryRedirect)
	}})
	d := reg.Blob("a", nil)
	_, err := open(t, reg).Hash(t.Context(), "a", d, nil)
	wantError(t, err, mooring.ErrInvalid, "storage.invalid", "plain http")
}
