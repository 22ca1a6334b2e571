package push_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike/push"
)

const patience = time.Minute

// load runs the load; no push may fail.
func load(t *testing.T, r *registry, l push.Load) []push.Record {
	t.Helper()
	var records []push.Record
	note := func(record push.Record) error {
		records = append(records, record)
		return nil
	}
	if err := push.New(r.address(), patience).Run(t.Context(), l, note, func(err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	return records
}

func check(t *testing.T, r *registry, records []push.Record) push.Verdict {
	t.Helper()
	v, err := push.New(r.address(), patience).Check(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAllThatWasAcknowledgedIsPulledAgain(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	records := load(t, r, push.Load{Pushers: 3, Images: 4, Tags: 3, Layers: 2, LayerSize: 1000, Seed: 1})
	if len(records) != 2*3*4 {
		t.Errorf("%d records; want 24, two for each push", len(records))
	}
	v := check(t, r, records)
	var size int64
	for _, content := range r.blobs {
		size += int64(len(content))
	}
	for name := range r.tags {
		repository, _, _ := strings.Cut(name, ":")
		size += int64(len(r.blobs[repository+"@"+r.tags[name]]))
	}
	want := push.Verdict{Images: 12, Tags: 9, Blobs: 36, Bytes: size, Misses: []push.Miss{}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("verdict %+v; want %+v", v, want)
	}
}

// The suite rests on this: nothing that is wrong may be counted as there.
func TestWhateverIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		damage func(r *registry, p push.Record)
		want   string // part of the only miss, or of all
		misses int
	}{
		"layer truncated":     {func(r *registry, p push.Record) { b := blob(p, 1); r.blobs[b] = r.blobs[b][:10] }, "of 10 bytes, not sha256:", 1},
		"layer empty":         {func(r *registry, p push.Record) { r.blobs[blob(p, 2)] = nil }, "of 0 bytes, not sha256:", 1},
		"bit flipped":         {func(r *registry, p push.Record) { r.blobs[blob(p, 1)][700] ^= 4 }, "not " + "sha256:", 1},
		"configuration gone":  {func(r *registry, p push.Record) { delete(r.blobs, blob(p, 0)) }, "404 Not Found", 1},
		"tag gone":            {func(r *registry, p push.Record) { delete(r.tags, p.Repository+":"+p.Tag) }, p0 + " v0: 404", 1},
		"manifest gone":       {func(r *registry, p push.Record) { delete(r.blobs, p.Repository+"@"+p.Manifest.Digest) }, "404 Not Found", 2},
		"tag is another's":    {func(r *registry, p push.Record) { r.tags[p0+":v0"] = r.tags[p0+":v1"] }, p0 + " v0: is sha256:", 1},
		"registry is stopped": {func(r *registry, p push.Record) { r.Close() }, "connection refused", 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			records := load(t, r, push.Load{Images: 2, Layers: 2, LayerSize: 1000})
			tt.damage(r, records[1])
			v := check(t, r, records)
			if len(v.Misses) != tt.misses {
				t.Errorf("misses %v; want %d", v.Misses, tt.misses)
			}
			for _, miss := range v.Misses {
				if !strings.Contains(miss.String(), tt.want) {
					t.Errorf("miss %q; want %q in it", miss, tt.want)
				}
			}
			if there := v.Images + v.Tags + v.Blobs; there+tt.misses != 10 {
				t.Errorf("%d of 10 are there; %d are missed", there, tt.misses)
			}
		})
	}
}

// p0 is the repository of the first pusher.
const p0 = "library/load-0"

func blob(p push.Record, n int) string { return p.Repository + "@" + p.Blobs[n].Digest }

func TestRefusedPushIsNotAcknowledgedAndTheNextOneIsMade(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.refuse = func(manifest int) bool { return manifest == 2 }
	var records []push.Record
	var failures int
	err := push.New(r.address(), patience).Run(t.Context(), push.Load{Images: 3, LayerSize: 10},
		func(record push.Record) error { records = append(records, record); return nil },
		func(error) error { failures++; return nil })
	if err != nil || failures != 1 {
		t.Errorf("error %v after %d failures; want none after one", err, failures)
	}
	var got []string
	for _, record := range records {
		got = append(got, record.Tag+" "+string(record.State))
	}
	if want := []string{"v0 sent", "v0 acknowledged", "v1 sent", "v2 sent", "v2 acknowledged"}; !slices.Equal(got, want) {
		t.Errorf("records %q; want %q", got, want)
	}
	if v := check(t, r, records); len(v.Misses) > 0 || v.Images != 2 {
		t.Errorf("verdict %+v; want the two that were acknowledged", v)
	}
}

func TestLoadEndsWithTheFirstErrorThatIsNotBorne(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	bear := func(err error) error { return err }
	for name, tt := range map[string]struct {
		refuse func(int) bool
		note   func(push.Record) error
		want   string
	}{
		"push failed":          {func(int) bool { return true }, func(push.Record) error { return nil }, "500 Internal Server Error"},
		"record not written":   {nil, func(push.Record) error { return full }, full.Error()},
		"acknowledgement lost": {nil, func(p push.Record) error { return map[push.State]error{push.Acknowledged: full}[p.State] }, full.Error()},
	} {
		r := newRegistry(t)
		r.refuse = tt.refuse
		err := push.New(r.address(), patience).Run(t.Context(), push.Load{Pushers: 2}, tt.note, bear)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v; want %q", name, err, tt.want)
		}
	}
}

// A machine that dies leaves connections on which nothing ever comes.
func TestRegistryThatSaysNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = push.New(l.Addr().String(), 50*time.Millisecond).Push(t.Context(), push.Image{Repository: "a", Tag: "b"}, nil)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v; want a timeout", err)
	}
}

func TestEndOfTheContextIsNoFailure(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	note := func(p push.Record) error {
		if p.State == push.Acknowledged {
			cancel()
		}
		return nil
	}
	err := push.New(r.address(), patience).Run(ctx, push.Load{Pushers: 4}, note, func(err error) error { return err })
	if err != nil {
		t.Errorf("error %v; want none", err)
	}
	if _, err := push.New(r.address(), patience).Check(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a check that was ended returns %v; want %v", err, context.Canceled)
	}
}

// Between the sending of a manifest and its acknowledgement a machine may die: then either image is right, and no third.
func TestTagIsWhatWasAcknowledgedLastOrSentSince(t *testing.T) {
	t.Parallel()
	record := func(state push.State, digest string) push.Record {
		return push.Record{State: state, Repository: "a", Tag: "v1", Manifest: push.Blob{Digest: digest, Size: 1}}
	}
	const sent, acknowledged = push.Sent, push.Acknowledged
	for name, tt := range map[string]struct {
		records []push.Record
		want    []string
	}{
		"never acknowledged": {[]push.Record{record(sent, "1")}, nil},
		"acknowledged":       {[]push.Record{record(sent, "1"), record(acknowledged, "1")}, []string{"1"}},
		"moved":              {[]push.Record{record(sent, "1"), record(acknowledged, "1"), record(sent, "2"), record(acknowledged, "2")}, []string{"2"}},
		"sent since":         {[]push.Record{record(sent, "1"), record(acknowledged, "1"), record(sent, "2"), record(sent, "3")}, []string{"1", "2", "3"}},
	} {
		if got := push.Expected(tt.records)["a:v1"]; !slices.Equal(got, tt.want) {
			t.Errorf("%s: the tag may be %q; want %q", name, got, tt.want)
		}
	}
}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	records := load(t, r, push.Load{Images: 2})
	var file bytes.Buffer
	for _, record := range records {
		if err := push.WriteRecord(&file, record); err != nil {
			t.Fatal(err)
		}
	}
	whole := file.String()
	for name, tt := range map[string]struct {
		text    string
		want    int
		refused bool
	}{
		"whole":      {whole, 4, false},
		"cut off":    {whole[:len(whole)-10], 3, false},
		"nothing":    {"", 0, false},
		"not JSON":   {"x\n" + whole, 0, true},
		"first line": {whole[:strings.Index(whole, "\n")], 0, false},
	} {
		got, err := push.ReadRecords(strings.NewReader(tt.text))
		if len(got) != tt.want || (err != nil) != tt.refused {
			t.Errorf("%s: %d records, error %v; want %d", name, len(got), err, tt.want)
		}
	}
	if got, _ := push.ReadRecords(strings.NewReader(whole)); !got[3].Time.Equal(records[3].Time) || got[3].Blobs[1] != records[3].Blobs[1] {
		t.Errorf("read %+v; want %+v", got[3], records[3])
	}
}

// A push that is under way for long is what a reload of the proxy must not break.
func TestSlowPushIsUnderWayForAsLongAsItsRateSays(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	began := time.Now()
	records := load(t, r, push.Load{Images: 1, LayerSize: 1000, Rate: 10_000})
	took := time.Since(began)
	var sent int64
	for _, b := range records[1].Blobs {
		sent += b.Size
	}
	if least := time.Duration(sent) * time.Second / 10_000; took < least {
		t.Errorf("%d bytes at 10000 a second took %s; want %s at least", sent, took, least)
	}
	if v := check(t, r, records); v.Images != 1 || len(v.Misses) > 0 {
		t.Errorf("got %+v; want the image whole", v)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := push.New(r.address(), patience).Push(ctx, push.Image{Repository: "a", Tag: "v1", Layers: 1, LayerSize: 1 << 20, Rate: 10}, func(push.Record) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a push whose time is over: got %v, want that", err)
	}
}

func TestSeedSaysWhatIsPushed(t *testing.T) {
	t.Parallel()
	digests := map[string]bool{}
	r := newRegistry(t)
	for _, seed := range []uint64{1, 2, 1} {
		for _, record := range load(t, r, push.Load{Pushers: 2, Images: 2, LayerSize: 100, Seed: seed}) {
			digests[record.Manifest.Digest] = true
			for _, b := range record.Blobs {
				digests[b.Digest] = true
			}
		}
	}
	if want := 2 * 4 * 3; len(digests) != want {
		t.Errorf("%d digests from two seeds; want %d: four images each, of a manifest, a configuration and a layer", len(digests), want)
	}
}
