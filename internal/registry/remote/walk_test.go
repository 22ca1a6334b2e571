package remote_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// seen is what a walk told.
type seen struct {
	facts    []remote.Fact
	progress []remote.Progress
}

// line is a miss in a line: repository, tags, digest, and what kind of error.
func line(f remote.Fact) string {
	kind := "?"
	for name, sentinel := range map[string]error{"missing": mooring.ErrNotFound, "corrupt": mooring.ErrCorrupt, "unavailable": mooring.ErrUnavailable, "refused": mooring.ErrInvalid} {
		if errors.Is(f.Err, sentinel) {
			kind = name
		}
	}
	return fmt.Sprintf("%s %s [%s] %s %s", kind, f.Repository, strings.Join(f.Needed, " "), f.Kind, f.Content.Digest.Short())
}

func (s seen) misses() []string {
	var lines []string
	for _, f := range s.facts {
		if f.Err != nil {
			lines = append(lines, line(f))
		}
	}
	slices.Sort(lines)
	return lines
}

// walk walks, and checks what is true of every walk.
func walk(t *testing.T, r *remote.Registry, o remote.Order) (seen, remote.Progress) {
	t.Helper()
	var s seen
	o.See = func(f remote.Fact) { s.facts = append(s.facts, f) }
	o.Progress = func(p remote.Progress) { s.progress = append(s.progress, p) }
	p, err := r.Walk(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "misses counted", p.Misses, len(s.misses()))
	if p.Bytes != p.Total {
		t.Errorf("got %d of %d bytes at the end", p.Bytes, p.Total)
	}
	last := remote.Progress{}
	for _, now := range s.progress {
		if now.Bytes < last.Bytes || now.Blobs < last.Blobs || now.Manifests < last.Manifests || now.Tags < last.Tags {
			t.Fatalf("progress went back from %+v to %+v", last, now)
		}
		last = now
	}
	return s, p
}

func wantMisses(t *testing.T, s seen, wanted ...string) {
	t.Helper()
	slices.Sort(wanted)
	if got := s.misses(); !slices.Equal(got, wanted) {
		t.Errorf("got misses\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(wanted, "\n\t"))
	}
}

func missed(kind, where, what string, d registry.Digest) string {
	return fmt.Sprintf("%s %s %s %s", kind, where, what, d.Short())
}

// Each blob is read once, whatever number of images and repositories share it; but each repository is asked whether it has it.
func TestAWalkReadsEachBlobOnceAndEachImageManifest(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Referrers: true})
	base := pattern(100_000)
	amd := reg.Image("library/a", "amd64", base, []byte("a"))
	arm := reg.Image("library/a", "arm64", base, []byte("b"))
	index := reg.Index("library/a", "latest", amd, arm)
	reg.Refer("library/a", amd, []byte("signature"))
	reg.Image("b", "1", base)
	s, p := walk(t, open(t, reg), remote.Order{Workers: 3})
	wantMisses(t, s)
	want(t, "repositories", p.Repositories, 2)
	want(t, "tags", p.Tags, 4)
	want(t, "image manifests", p.Manifests, 5) // with the index, and the signature's
	want(t, "blobs", p.Blobs, 8)               // base, a, b, signature, {}, and three configurations
	want(t, "blobs known", p.AllBlobs, 8)
	counts := make(map[string]int)
	for _, q := range reg.Requests() {
		if strings.Contains(q.Path, "/blobs/") && q.Method == http.MethodGet {
			_, d, _ := strings.Cut(q.Path, "/blobs/")
			counts[d]++
		}
	}
	for d, n := range counts {
		want(t, "reads of "+d, n, 1)
	}
	hashed, asked := 0, 0
	for _, f := range s.facts {
		switch {
		case f.Kind == remote.SawBlob && f.Asked:
			asked++
		case f.Kind == remote.SawBlob:
			hashed++
		case f.Kind == remote.SawManifest && f.Content.Digest == index.Digest:
			want(t, "children", len(f.Manifest.Manifests), 2)
		}
	}
	want(t, "hashed", hashed, 8)
	want(t, "asked", asked, 1)
}

// Every kind of damage that storage is known for, all at once: each is named, with all tags that it spoils, and none hides another.
func TestAWalkNamesEveryMissAndNeverStops(t *testing.T) {
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprintf("a cache that remembers %v", warm), func(t *testing.T) {
			reg := remotetest.New(t, remotetest.Rules{Warm: warm, Referrers: true})
			good := pattern(5000)
			var wanted []string
			blob := func(name string, damaged []byte, kind string) {
				content := append(pattern(3000), name...)
				reg.Image("r/"+name, "1", good, content)
				reg.Image("r/"+name, "2", content)
				reg.Damage(registry.DigestOf(content), damaged)
				wanted = append(wanted, missed(kind, "r/"+name+" [1 2]", "blob", registry.DigestOf(content)))
			}
			blob("flipped", append([]byte("x"), append(pattern(3000), "flipped"...)[1:]...), "corrupt")
			blob("emptied", []byte{}, "corrupt")
			blob("truncated", pattern(1000), "corrupt")
			blob("deleted", nil, map[bool]string{false: "missing", true: "corrupt"}[warm])

			unlinked := append(pattern(3000), "unlinked"...)
			reg.Image("r/has", "1", unlinked)
			reg.Image("r/lacks", "1", unlinked)
			reg.Unlink("r/lacks", registry.DigestOf(unlinked))
			wanted = append(wanted, missed("missing", "r/lacks [1]", "blob", registry.DigestOf(unlinked)))

			torn := reg.Image("r/torn", "1")
			reg.Damage(torn.Digest, []byte(`{"schemaVersion":2,"med`))
			wanted = append(wanted, missed("corrupt", "r/torn [1]", "image manifest", torn.Digest))
			empty := reg.Image("r/empty", "1")
			reg.Damage(empty.Digest, []byte{})
			wanted = append(wanted, missed("unavailable", "r/empty [1]", "tag", ""))
			gone := reg.Image("r/gone", "1")
			reg.Unlink("r/gone", gone.Digest)
			wanted = append(wanted, missed("missing", "r/gone [1]", "tag", ""))

			child, sound := reg.Image("r/index", "amd64"), reg.Image("r/index", "arm64")
			reg.Index("r/index", "latest", child, sound)
			reg.Index("r/index", "other", child)
			reg.Untag("r/index", "amd64")
			reg.Unlink("r/index", child.Digest)
			wanted = append(wanted, missed("missing", "r/index [latest other]", "image manifest", child.Digest))

			signed := reg.Image("r/signed", "1")
			reg.Refer("r/signed", signed, []byte("signature"))
			reg.Damage(registry.DigestOf([]byte("signature")), []byte("forged!!!"))
			wanted = append(wanted, missed("corrupt", "r/signed [1]", "blob", registry.DigestOf([]byte("signature"))))

			// What a push onto damaged storage leaves: a manifest that says what the damaged layer had.
			layer := reg.Blob("r/pushed", pattern(700))
			layer.Size = 0
			reg.ImageOf("r/pushed", "1", layer)
			wanted = append(wanted, missed("corrupt", "r/pushed [1]", "blob", layer.Digest))

			nonsense := reg.Manifest("r/nonsense", registry.OCIManifest, []byte("[]"), "1")
			wanted = append(wanted, missed("corrupt", "r/nonsense [1]", "image manifest", nonsense.Digest))

			s, p := walk(t, open(t, reg), remote.Order{Workers: 4})
			wantMisses(t, s, wanted...)
			want(t, "repositories", p.Repositories, 13)
		})
	}
}

// A miss is told with the words of whoever has to put it right.
func TestAMissSaysWhatIsWrong(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	content := pattern(3000)
	reg.Image("library/db", "1", content)
	reg.Damage(registry.DigestOf(content), content[:1000])
	s, _ := walk(t, open(t, reg), remote.Order{})
	for _, f := range s.facts {
		if f.Err != nil {
			wantError(t, f.Err, mooring.ErrCorrupt, "library/db@"+string(registry.DigestOf(content)), "got 1000 bytes with the digest "+string(registry.DigestOf(content[:1000])))
			return
		}
	}
	t.Error("no miss")
}

// Any registry, with any damage: what is told is what was damaged, no more and no less.
func TestAWalkFindsJustWhatIsDamaged(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
			rules := remotetest.Rules{Warm: random.IntN(2) == 0, Referrers: random.IntN(2) == 0, Elsewhere: random.IntN(3) == 0, PageSize: random.IntN(4)}
			reg := remotetest.New(t, rules)
			uses := make(map[registry.Digest]map[string][]string) // blob: repository: tags
			for i := range 12 {
				repo, tag := fmt.Sprintf("p%d/r%d", random.IntN(3), random.IntN(3)), strconv.Itoa(i)
				var layers [][]byte
				for range random.IntN(4) {
					layers = append(layers, pattern(1000+random.IntN(8)))
				}
				reg.Image(repo, tag, layers...)
				for _, l := range layers {
					d := registry.DigestOf(l)
					if uses[d] == nil {
						uses[d] = make(map[string][]string)
					}
					if !slices.Contains(uses[d][repo], tag) {
						uses[d][repo] = append(uses[d][repo], tag)
					}
				}
			}
			var wanted []string
			for _, d := range slices.Sorted(maps.Keys(uses)) {
				if random.IntN(3) > 0 {
					continue
				}
				reg.Damage(d, []byte("damaged"))
				for repo, tags := range uses[d] {
					slices.Sort(tags)
					wanted = append(wanted, missed("corrupt", fmt.Sprintf("%s [%s]", repo, strings.Join(tags, " ")), "blob", d))
				}
			}
			s, _ := walk(t, open(t, reg), remote.Order{Workers: 1 + random.IntN(8)})
			wantMisses(t, s, wanted...)
		})
	}
}

// One blob is hashed by one worker: a large one that is begun last would leave the others idle.
func TestTheLargestBlobIsReadFirst(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	for i := range 5 {
		reg.Image("a", strconv.Itoa(i), pattern(1000*(i+1)), pattern(90_000*(i+1)))
	}
	s, _ := walk(t, open(t, reg), remote.Order{Workers: 1})
	last := int64(1 << 62)
	for _, f := range s.facts {
		if f.Kind == remote.SawBlob {
			if f.Content.Size > last {
				t.Errorf("a blob of %d bytes after one of %d", f.Content.Size, last)
			}
			last = f.Content.Size
		}
	}
}

// A damaged blob of gigabytes that hundreds of repositories share must not be read for each of them; each is named all the same.
func TestADamagedBlobIsNotReadForEachRepository(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	layer := pattern(5000)
	var wanted []string
	for i := range 10 {
		repo := fmt.Sprintf("r%d", i)
		reg.Image(repo, "1", layer)
		wanted = append(wanted, missed("corrupt", repo+" [1]", "blob", registry.DigestOf(layer)))
	}
	reg.Damage(registry.DigestOf(layer), []byte("damaged"))
	s, _ := walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s, wanted...)
	reads := 0
	for _, q := range reg.Requests() {
		if strings.HasSuffix(q.Path, registry.DigestOf(layer).Hex()) && q.Method == http.MethodGet {
			reads++
		}
	}
	want(t, "reads", reads, 2)
}

// Workers work at the same time, and no more of them than were ordered.
func TestAWalkUsesItsWorkers(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	const workers = 5
	for i := range 20 {
		reg.Image("a", strconv.Itoa(i), append(pattern(1000), byte(i)))
	}
	var mu sync.Mutex
	running, most := 0, 0
	all := make(chan struct{})
	reg.Rules.Meddle = onBlobs(func(q *http.Request, n int) http.Handler {
		mu.Lock()
		running++
		if most = max(most, running); running == workers && most == workers {
			select {
			case <-all:
			default:
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all:
		case <-q.Context().Done():
		}
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	})
	walk(t, open(t, reg), remote.Order{Workers: workers})
	want(t, "at the same time", most, workers)
}

// Somebody deletes an image while its registry is verified. That is no damage.
func TestWhatIsDeletedMeanwhileIsNoMiss(t *testing.T) {
	for name, remove := range map[string]func(*remotetest.Registry, registry.Descriptor){
		"its tag and its layer": func(reg *remotetest.Registry, _ registry.Descriptor) { reg.Untag("a", "old") },
		"all of it": func(reg *remotetest.Registry, image registry.Descriptor) {
			reg.Untag("a", "old")
			reg.Unlink("a", image.Digest)
		},
		"to be pushed anew": func(reg *remotetest.Registry, _ registry.Descriptor) { reg.Image("a", "old", []byte("new")) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := remotetest.New(t, remotetest.Rules{})
			layer := pattern(5000)
			image := reg.Image("a", "old", layer)
			reg.Image("a", "kept", []byte("kept"))
			var once sync.Once
			reg.Rules.Meddle = onBlobs(func(q *http.Request, _ int) http.Handler {
				if strings.HasSuffix(q.URL.Path, registry.DigestOf(layer).Hex()) {
					once.Do(func() {
						reg.Damage(registry.DigestOf(layer), nil) // by garbage collection
						remove(reg, image)
					})
				}
				return nil
			})
			s, _ := walk(t, open(t, reg), remote.Order{})
			wantMisses(t, s)
			if name == "to be pushed anew" && !slices.ContainsFunc(s.facts, func(f remote.Fact) bool {
				return f.Kind == remote.SawBlob && f.Content.Digest == registry.DigestOf([]byte("new"))
			}) {
				t.Error("what was pushed anew was not verified")
			}
		})
	}
}

// The opposite: what a tag still needs is missing, though another tag that needed it is gone.
func TestWhatOneTagStillNeedsIsAMissOfThatTag(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	layer := pattern(5000)
	reg.Image("a", "deleted", layer)
	reg.Image("a", "kept", layer)
	var once sync.Once
	reg.Rules.Meddle = onBlobs(func(*http.Request, int) http.Handler {
		once.Do(func() {
			reg.Damage(registry.DigestOf(layer), nil)
			reg.Untag("a", "deleted")
		})
		return nil
	})
	s, _ := walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s, missed("missing", "a [kept]", "blob", registry.DigestOf(layer)))
}

// A tag moves, while the walk goes on, to an image that needs what was found to be damaged before: that tag's image is damaged, too.
func TestATagThatMovesToWhatIsDamagedIsNamed(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	gone, damaged := pattern(1000), pattern(9000)
	reg.Image("a", "moves", gone)
	reg.Image("a", "stays", damaged)
	reg.Damage(registry.DigestOf(damaged), []byte("damaged"))
	reg.Rules.Meddle = onBlobs(func(q *http.Request, n int) http.Handler {
		if n == 0 && strings.HasSuffix(q.URL.Path, registry.DigestOf(gone).Hex()) {
			reg.Damage(registry.DigestOf(gone), nil)
			reg.Image("a", "moves", damaged)
			reg.Damage(registry.DigestOf(damaged), []byte("damaged"))
		}
		return nil
	})
	s, _ := walk(t, open(t, reg), remote.Order{Workers: 1})
	wantMisses(t, s, missed("corrupt", "a [stays]", "blob", registry.DigestOf(damaged)), missed("corrupt", "a [moves]", "blob", registry.DigestOf(damaged)))
}

// A tag that is listed, and whose image manifest nobody has, is no deletion.
func TestATagThatIsListedAndLeadsNowhereIsAMiss(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	image := reg.Image("a", "1")
	reg.Unlink("a", image.Digest)
	s, _ := walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s, missed("missing", "a [1]", "tag", ""))
	reg.Untag("a", "1")
	s, _ = walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s)
}

// The registry was restarted in the middle, for longer than one request is patient: what can be had afterwards is no miss.
func TestWhatCanBeHadAtASecondLookIsNoMiss(t *testing.T) {
	for _, what := range []string{"/tags/", "/manifests/1", "/manifests/sha256:", "/referrers/", "/blobs/"} {
		reg := remotetest.New(t, remotetest.Rules{Referrers: true})
		for i := range 3 {
			reg.Image("a", strconv.Itoa(i), []byte{byte(i)})
		}
		failed := 0
		reg.Rules.Meddle = func(q *http.Request, n int) http.Handler {
			if n == 0 && strings.Contains(q.URL.Path, what) {
				failed++
				return remotetest.Status(http.StatusBadGateway, "")
			}
			return nil
		}
		s, p := walk(t, open(t, reg, func(a *remote.Access) { a.Patience.Tries = 1 }), remote.Order{Workers: 1})
		wantMisses(t, s)
		if p.Tags != 3 || p.Manifests != 3 || p.Blobs != 6 || failed == 0 {
			t.Errorf("%s: got %+v after %d failures, want all of it", what, p, failed)
		}
	}
}

// A walk of a registry that is gone for good ends, and does not list its whole content as missing.
func TestAWalkOfARegistryThatGoesAwayEnds(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	for i := range 100 {
		reg.Image(fmt.Sprintf("r%d", i), "1", []byte{byte(i)})
	}
	var once sync.Once
	misses := 0
	_, err := open(t, reg).Walk(t.Context(), remote.Order{Workers: 2, See: func(f remote.Fact) {
		if f.Err != nil {
			misses++
		}
		if f.Kind == remote.SawBlob {
			once.Do(func() {
				_ = reg.Server.Listener.Close()
				reg.Server.CloseClientConnections()
			})
		}
	}})
	wantError(t, err, mooring.ErrUnavailable, "given up")
	want(t, "misses", misses, 0)
}

func TestAWalkThatIsCancelledSaysWhyAndMissesNothing(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	for i := range 50 {
		reg.Image(fmt.Sprintf("r%d", i), "1", []byte{byte(i)})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := open(t, reg).Walk(ctx, remote.Order{See: func(f remote.Fact) {
		if f.Err != nil {
			t.Errorf("got the miss %v", f.Err)
		}
		if f.Kind == remote.SawBlob {
			cancel(errors.New("the user has seen enough"))
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "seen enough") {
		t.Errorf("got %v, want the cause", err)
	}
}

// A repository that was asked for by name and is not there is a miss; one of the catalogue that has no tags is not.
func TestARepositoryThatWasNamedAndIsNotThereIsAMiss(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	reg.Image("a", "1")
	reg.Blob("untagged", []byte("x"))
	s, _ := walk(t, open(t, reg), remote.Order{Only: []string{"a", "absent"}})
	wantMisses(t, s, missed("missing", "absent []", "repository", ""))
	s, p := walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s)
	want(t, "repositories", p.Repositories, 2)
}

// One project is closed to the account: that is said, and the rest is verified.
func TestARepositoryThatIsRefusedHidesNoOther(t *testing.T) {
	rules := harbor()
	rules.Projects = []string{"library"}
	reg := remotetest.New(t, rules)
	reg.Image("library/a", "1")
	reg.Image("secret/b", "1")
	s, p := walk(t, open(t, reg), remote.Order{})
	wantMisses(t, s, missed("refused", "secret/b []", "repository", ""))
	want(t, "blobs", p.Blobs, 1)
}

// What was verified not long ago need not be read; that it is still there, and of its size, is asked.
func TestWhatIsSkippedIsAskedFor(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	old, gone, resized, recent := pattern(1000), pattern(2000), pattern(3000), pattern(4000)
	reg.Image("a", "1", old, gone, resized, recent)
	reg.Image("b", "1", old)
	reg.Damage(registry.DigestOf(gone), nil)
	reg.Damage(registry.DigestOf(resized), pattern(2999))
	s, p := walk(t, open(t, reg), remote.Order{Skip: func(d registry.Descriptor) bool { return d.Size < 4000 }})
	wantMisses(t, s,
		missed("missing", "a [1]", "blob", registry.DigestOf(gone)), missed("corrupt", "a [1]", "blob", registry.DigestOf(resized)))
	want(t, "hashed", p.Bytes, int64(len(recent)+2999))
	for _, f := range s.facts {
		if f.Kind == remote.SawBlob && f.Err == nil {
			want(t, fmt.Sprintf("asked for %d bytes", f.Content.Size), f.Asked, f.Content.Size < 4000)
		}
	}
}

// Two manifests disagree about a blob's size, and it was not read: whichever is wrong is found all the same.
func TestASkippedBlobsSizeIsComparedWithEachManifest(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	right := reg.Blob("a", pattern(1000))
	reg.ImageOf("a", "right", right)
	wrong := right
	wrong.Size = 0
	reg.ImageOf("a", "wrong", wrong)
	s, _ := walk(t, open(t, reg), remote.Order{Skip: func(registry.Descriptor) bool { return true }})
	wantMisses(t, s, missed("corrupt", "a [wrong]", "blob", right.Digest))
}
