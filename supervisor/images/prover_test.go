package images_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// newProver returns a prover of the storage that keeps its records for the test.
func newProver(t *testing.T, s images.Setup) *images.Prover {
	t.Helper()
	if s.Records == "" {
		s.Records = t.TempDir()
	}
	p, err := images.NewProver(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func refresh(t *testing.T, p *images.Prover) images.Verdict {
	t.Helper()
	v, err := p.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verify(t *testing.T, p *images.Prover) images.Verdict {
	t.Helper()
	v, err := p.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// age makes all files of the storage an hour old, but for what only the kernel writes.
func age(t *testing.T, r *layouttest.Registry) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(r.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// said returns findings in short, each once.
func said(v images.Verdict) []string {
	var all []string
	for _, f := range v.Findings {
		s := fmt.Sprintf("%s %s:%s", f.Kind, f.Repository, f.Tag)
		if f.Unfinished {
			s += " unfinished"
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// differences returns them in short.
func differences(all []images.Difference) []string {
	var texts []string
	for _, d := range all {
		what := d.Tag
		if d.Tag == "" && d.Digest != "" {
			what = "image"
		}
		texts = append(texts, d.Repository+":"+what)
	}
	slices.Sort(texts)
	return texts
}

// stock is a registry with an image of two layers under two tags, an index with that image and another, a referrer, an old image that has no tag any more, and a second repository that
// shares a layer.
type stock struct {
	*layouttest.Registry

	app, other, part layouttest.Image
	index, signature registry.Descriptor
	former           layouttest.Image
}

func newStock(t *testing.T) stock {
	t.Helper()
	s := stock{Registry: layouttest.New(t)}
	s.former = s.Image("library/app", "latest", []byte("former"))
	s.app = s.Image("library/app", "1.0", []byte("shared layer"), []byte("own layer"))
	s.Tag("library/app", "latest", s.app.Digest)
	s.part = s.Image("library/multi", "", []byte("for another machine"))
	s.Image("library/multi", "", []byte("shared layer"), []byte("own layer"))
	s.index = s.Index("library/multi", "latest", s.app.Descriptor, s.part.Descriptor)
	s.signature = s.Referrer("library/app", s.app.Descriptor, "application/vnd.example.signature", []byte("signed"))
	s.other = s.Image("team/other", "v1", []byte("shared layer"), []byte("others' own"))
	s.Upload("team/other", []byte("half"))
	age(t, s.Registry)
	return s
}

// A whole storage is found whole, with and without a manifest, and what is counted is what there is.
func TestAWholeStorageIsFoundWhole(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	for _, v := range []images.Verdict{verify(t, p), refresh(t, p), verify(t, p)} {
		if v.Damaged() || len(v.New)+len(v.Gone)+len(v.Notes) > 0 {
			t.Fatalf("got %+v", v)
		}
		if v.Images != 7 || v.Intact != 7 || v.Tags != 4 || v.Repositories != 3 {
			t.Errorf("got %+v, want 7 images, 4 tags, 3 repositories", v)
		}
	}
	if got := p.Last(); got.Manifest.Images != 6 || got.Manifest.Tags != 4 || len(got.Records) > 0 || got.Taken.IsZero() {
		t.Errorf("got %+v, want 6 different images, 4 tags", got)
	}
}

// G25: Whatever is damaged while the machine is down is found and named, with all repositories and tags that it concerns; what is not damaged is not.
func TestEveryDamageIsFoundAndNamed(t *testing.T) {
	shared := registry.DigestOf([]byte("shared layer"))
	sharedBy := func(kind string) []string {
		return []string{kind + " library/app:1.0", kind + " library/app:latest", kind + " library/multi:latest", kind + " team/other:v1"}
	}
	for name, c := range map[string]struct {
		hurt func(s stock)
		want []string
	}{
		"blob truncated":   {func(s stock) { s.Truncate(s.Data(shared), 5) }, sharedBy("blob-size")},
		"blob emptied":     {func(s stock) { s.Truncate(s.Data(shared), 0) }, sharedBy("blob-size")},
		"blob bit-flipped": {func(s stock) { s.Flip(s.Data(shared), 3) }, sharedBy("blob-damaged")},
		"blob deleted":     {func(s stock) { s.Remove(s.Data(shared)) }, sharedBy("blob-missing")},
		"blob deleted with its directory": {
			func(s stock) { s.Remove(filepath.Dir(s.Data(shared))) }, sharedBy("blob-missing"),
		},
		"image's manifest emptied": {
			func(s stock) { s.Truncate(s.Data(s.other.Digest), 0) }, []string{"image-damaged team/other:v1"},
		},
		"image's manifest bit-flipped": {
			func(s stock) { s.Flip(s.Data(s.other.Digest), 20) }, []string{"image-damaged team/other:v1"},
		},
		"image's manifest deleted": {
			func(s stock) { s.Remove(s.Data(s.other.Digest)) }, []string{"image-missing team/other:v1"},
		},
		"index deleted": {
			func(s stock) { s.Remove(s.Data(s.index.Digest)) }, []string{"image-missing library/multi:latest"},
		},
		"part of an index emptied": {
			func(s stock) { s.Truncate(s.Data(s.part.Digest), 0) }, []string{"image-damaged library/multi:latest"},
		},
		"signature's layer deleted": {
			func(s stock) { s.Remove(s.Data(registry.DigestOf([]byte("signed")))) }, []string{"blob-missing library/app:"},
		},
		"layer link cut short": {
			func(s stock) { s.Overwrite(s.LayerLink("team/other", shared), "sha256:") }, []string{"layer-link team/other:v1"},
		},
		"layer link lost": {
			func(s stock) { s.Remove(s.LayerLink("team/other", shared)) }, []string{"layer-link team/other:v1"},
		},
		"layer link lost with its directory": {
			func(s stock) { s.Remove(filepath.Dir(s.LayerLink("team/other", shared))) }, []string{"layer-link team/other:v1"},
		},
		"layer link says another": {
			func(s stock) { s.Overwrite(s.LayerLink("team/other", shared), string(s.app.Digest)) }, []string{"layer-link team/other:v1"},
		},
		"revision link cut short": {
			func(s stock) { s.Overwrite(s.RevisionLink("team/other", s.other.Digest), "sha256:") }, []string{"revision-link team/other:v1"},
		},
		"revision link lost": {
			func(s stock) { s.Remove(s.RevisionLink("team/other", s.other.Digest)) }, []string{"revision-link team/other:v1"},
		},
		"revision link of a part lost": {
			func(s stock) { s.Remove(s.RevisionLink("library/multi", s.part.Digest)) }, []string{"part-missing library/multi:latest"},
		},
		"tag link emptied": {
			func(s stock) { s.Overwrite(s.TagLink("team/other", "v1"), "sha256:") }, []string{"tag-link team/other:v1"},
		},
		"tag link lost": {
			func(s stock) { s.Remove(filepath.Dir(s.TagLink("team/other", "v1"))) }, []string{"tag-link team/other:v1"},
		},
		"index link of a tag cut short": {
			func(s stock) { s.Overwrite(s.IndexLink("library/app", "latest", s.former.Digest), "sha256:") }, []string{"index-link library/app:latest"},
		},
		"two tags swapped": {
			func(s stock) {
				s.Overwrite(s.TagLink("library/app", "latest"), string(s.former.Digest))
				s.Overwrite(s.TagLink("library/app", "1.0"), string(s.former.Digest))
			}, []string{"tag-moved library/app:1.0", "tag-moved library/app:latest"},
		},
		"everything at once": {
			func(s stock) {
				s.Remove(s.Data(s.other.Digest))
				s.Truncate(s.Data(shared), 1)
				s.Overwrite(s.TagLink("library/app", "latest"), string(s.former.Digest))
				s.Overwrite(s.RevisionLink("library/multi", s.part.Digest), "sha256:")
			},
			append(sharedBy("blob-size")[:3:3], "blob-size team/other:v1", "image-missing team/other:v1", "revision-link library/multi:latest", "tag-moved library/app:latest"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t)
			p := newProver(t, images.Setup{Storage: s.Dir})
			refresh(t, p)
			c.hurt(s)
			v := verify(t, p)
			got := said(v)
			// A damaged image says nothing of its layers, but what the manifest remembers.
			slices.Sort(got)
			want := slices.Clone(c.want)
			if name == "everything at once" {
				want = slices.DeleteFunc(want, func(s string) bool { return s == "blob-size library/app:latest" }) // the tag names the former one now
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q\n%+v", got, want, v)
			}
			for _, f := range v.Findings {
				if f.Text == "" || f.Repository != "" && f.Digest == "" && f.Kind != images.TagLink {
					t.Errorf("a finding names nothing: %+v", f)
				}
				if f.LastRight.IsZero() && !f.Unfinished && f.Kind != images.BlobDamaged && f.Kind != images.IndexLink {
					t.Errorf("nobody is told when it was last right: %+v", f)
				}
			}
			if v.Intact >= v.Images && !strings.HasPrefix(got[0], "tag-") && !strings.HasPrefix(got[0], "index-link") {
				t.Errorf("%d of %d images are intact", v.Intact, v.Images)
			}
			// It is found again, and is not taken in when all is refreshed.
			refresh(t, p)
			known := strings.ReplaceAll(strings.Join(said(v), "\n"), " unfinished", "")
			if got := strings.Join(said(verify(t, p)), "\n"); got != known {
				t.Errorf("after a refresh got %q, want %q", got, known)
			}
		})
	}
}

// A tag that a power cut emptied is there again by itself, as it was, and the report says so.
func TestAnEmptyTagIsMadeAnewByItself(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	later := time.Now().Add(-time.Minute) // the tag's last push
	if err := os.Chtimes(s.IndexLink("library/app", "latest", s.app.Digest), later, later); err != nil {
		t.Fatal(err)
	}
	s.Truncate(s.TagLink("library/app", "latest"), 0)
	v := verify(t, p)
	if v.Damaged() || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "library/app:latest") {
		t.Errorf("got %+v, want a note on library/app:latest and no finding", v)
	}
	if got, _ := os.ReadFile(s.TagLink("library/app", "latest")); string(got) != string(s.app.Digest) {
		t.Errorf("the tag says %q, want %s", got, s.app.Digest)
	}
}

// Nothing is made anew where nothing may be written, or where no image of the tag's index is right.
func TestAnEmptyTagStaysAFindingIfItCannotBeMadeAnew(t *testing.T) {
	s := newStock(t)
	s.Truncate(s.TagLink("team/other", "v1"), 0)
	look := newProver(t, images.Setup{Storage: s.Dir, LookOnly: true})
	if got := said(verify(t, look)); !slices.Equal(got, []string{"tag-link team/other:v1"}) {
		t.Errorf("got %q", got)
	}
	s.Flip(s.Data(s.other.Digest), 9)
	p := newProver(t, images.Setup{Storage: s.Dir})
	if got := said(verify(t, p)); !slices.Contains(got, "tag-link team/other:v1") {
		t.Errorf("got %q", got)
	}
}

// What was pushed after the manifest was taken, up to the last second, is judged by itself and listed as new: whole if it is whole, and damaged if it is not.
func TestWhatWasPushedAfterTheManifestIsNew(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	s.Image("team/other", "v2", []byte("new"))
	s.Image("brand/new", "v1", []byte("new, too"))
	s.Tag("library/app", "1.0", s.former.Digest) // an older image, pushed again under the tag
	v := verify(t, p)
	if v.Damaged() || len(v.Gone) > 0 {
		t.Errorf("got %+v", v)
	}
	want := []string{"brand/new:image", "brand/new:v1", "library/app:1.0", "team/other:image", "team/other:v2"}
	if got := differences(v.New); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	broken := s.Image("team/other", "v3", []byte("torn"))
	s.Truncate(s.Data(broken.Layers[0].Digest), 1)
	if got := said(verify(t, p)); !slices.Equal(got, []string{"blob-size team/other:v3 unfinished"}) {
		t.Errorf("got %q", got)
	}
}

// G26: A push that was cut off leaves pieces that nothing needs. They are no damage.
func TestAPushThatWasCutOffIsNoDamage(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	s.Upload("new/repository", []byte("half a layer"))
	s.Layer("team/other", "", []byte("a layer whose image never came"))
	s.Blob([]byte("a layer without a link"))
	s.Remove(s.LayerLink("team/other", s.Layer("team/other", "", []byte("a link that was not written")).Digest))
	s.Image("team/other", "", []byte("an image that was not tagged"))
	v := verify(t, p)
	if v.Damaged() || len(v.Gone) > 0 {
		t.Errorf("got %+v", v)
	}
}

// G26: When users delete images and tags, and what is left is collected, nothing is damaged.
func TestDeletionAndGarbageCollectionAreNoDamage(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	// The former image is deleted by its digest: its link goes, the directory stays.
	s.Remove(s.RevisionLink("library/app", s.former.Digest))
	// A tag is deleted; its image stays.
	s.Remove(filepath.Dir(filepath.Dir(s.TagLink("library/app", "1.0"))))
	// An image with its tag is deleted, and collected: revisions, blobs, and by registries from 3.0 on the layers' links.
	s.Remove(filepath.Dir(filepath.Dir(s.TagLink("team/other", "v1"))))
	s.Remove(filepath.Dir(s.RevisionLink("team/other", s.other.Digest)))
	for _, d := range []registry.Digest{s.other.Digest, s.other.Config.Digest, s.other.Layers[1].Digest, s.former.Digest, s.former.Layers[0].Digest} {
		s.Remove(filepath.Dir(s.Data(d)))
	}
	v := verify(t, p)
	if v.Damaged() || len(v.New) > 0 {
		t.Errorf("got %+v", v)
	}
	want := []string{"library/app:1.0", "library/app:image", "team/other:image", "team/other:v1"}
	if got := differences(v.Gone); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// A whole repository.
	s.Remove(filepath.Join(s.Dir, "docker/registry/v2/repositories/library/multi"))
	if got := differences(verify(t, p).Gone); !slices.Contains(got, "library/multi:") {
		t.Errorf("got %q", got)
	}
	refresh(t, p)
	if v := verify(t, p); v.Damaged() || len(v.Gone)+len(v.New) > 0 {
		t.Errorf("after a refresh got %+v", v)
	}
}

// An index may be pushed without all of its images. Whoever did that is not told each time, but is if one is lost that was there.
func TestASparseIndexIsNoDamage(t *testing.T) {
	s := newStock(t)
	absent := registry.Descriptor{MediaType: registry.OCIManifest, Digest: digest(99), Size: 10}
	s.Index("library/multi", "sparse", s.app.Descriptor, absent)
	p := newProver(t, images.Setup{Storage: s.Dir})
	if got := said(verify(t, p)); !slices.Equal(got, []string{"part-missing library/multi:sparse"}) {
		t.Errorf("without a manifest got %q", got)
	}
	refresh(t, p)
	if v := verify(t, p); v.Damaged() {
		t.Errorf("got %+v", v)
	}
	s.Remove(s.RevisionLink("library/multi", s.app.Digest))
	if got := said(verify(t, p)); !slices.Equal(got, []string{"part-missing library/multi:latest", "part-missing library/multi:sparse"}) {
		t.Errorf("got %q", got)
	}
}

// What cannot be read is not called deleted, and not whole: nothing is known of it.
func TestWhatCannotBeReadIsNeitherWholeNorGone(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	tags := filepath.Dir(filepath.Dir(filepath.Dir(s.TagLink("team/other", "v1"))))
	s.Remove(tags)
	s.Overwrite(tags, "a file where the tags were")
	v := verify(t, p)
	got := said(v)
	if !slices.Contains(got, "unreadable team/other:v1") || len(v.Gone) > 0 {
		t.Errorf("got %q, gone %v, want that team/other:v1 cannot be read", got, v.Gone)
	}
}

// The manifest is found beside the data when the supervisor's own is lost, and the other way round; when both are, that is said, and the storage is judged by itself.
func TestALostManifestIsFoundInTheOtherPlaceOrSaid(t *testing.T) {
	s := newStock(t)
	records := t.TempDir()
	take := func() *images.Prover {
		t.Helper()
		return newProver(t, images.Setup{Storage: s.Dir, Records: records})
	}
	p := take()
	refresh(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	s.Remove(filepath.Dir(filepath.Dir(s.TagLink("team/other", "v1"))))
	damage(t, records, "manifest.*")
	p = take()
	if v := verify(t, p); !slices.Equal(differences(v.Gone), []string{"team/other:v1"}) || len(p.Last().Records) != 1 {
		t.Errorf("got %+v, %q", v, p.Last().Records)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(s.Dir, images.BesideData), "manifest.*")
	if err := os.Truncate(filepath.Join(records, "manifest.0"), 0); err != nil {
		t.Fatal(err)
	}
	p = take()
	s.Truncate(s.Data(s.app.Digest), 0)
	v := verify(t, p)
	if len(v.Gone) > 0 || len(v.Findings) == 0 || !strings.Contains(strings.Join(p.Last().Records, "\n"), "lost in all places") {
		t.Errorf("got %+v, %q", v, p.Last().Records)
	}
}

// Tier 2 hashes what a crash can have torn, and no more: the gate must not stay closed for hours.
func TestOnlyWhatWasWrittenSinceIsHashedAtOnce(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir, Commit: time.Nanosecond})
	refresh(t, p)
	images := p.Last().Manifest.Images // their manifests are hashed each time
	if v := verify(t, p); v.Hashed != images {
		t.Errorf("hashed %d blobs, want the %d images' manifests: nothing was written", v.Hashed, images)
	}
	s.Image("team/other", "v2", []byte("new"), []byte("new, too"))
	if v := verify(t, p); v.Hashed != images+1+3 { // and a configuration
		t.Errorf("hashed %d blobs, want the 4 new ones, too", v.Hashed)
	}
	// Damage behind the kernel's back changes no time: tier 3 finds it.
	v, err := p.Rehash(t.Context(), pace(), nil)
	if err != nil || v.Damaged() {
		t.Fatalf("%+v, %v", v, err)
	}
}

// Refresh costs nothing where nothing has changed, and finds what has: a new image, a tag that moved, one that was deleted, a repository.
func TestRefreshFindsWhatHasChanged(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	refresh(t, p)
	count := func() string {
		c := p.Last().Manifest
		return fmt.Sprintf("%d repositories, %d tags, %d images", c.Repositories, c.Tags, c.Images)
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"nothing", func() {}, "3 repositories, 4 tags, 6 images"},
		{"push", func() { s.Image("team/other", "v2", []byte("new")) }, "3 repositories, 5 tags, 7 images"},
		{"push to a new repository", func() { s.Image("brand/new", "v1", []byte("n")) }, "4 repositories, 6 tags, 8 images"},
		{"another tag", func() { s.Tag("library/app", "2.0", s.app.Digest) }, "4 repositories, 7 tags, 8 images"},
		{"tag deleted", func() { s.Remove(filepath.Dir(filepath.Dir(s.TagLink("library/app", "2.0")))) }, "4 repositories, 6 tags, 8 images"},
		{"repository deleted", func() { s.Remove(filepath.Join(s.Dir, "docker/registry/v2/repositories/brand")) }, "3 repositories, 5 tags, 7 images"},
	} {
		step.do()
		if v := refresh(t, p); v.Damaged() {
			t.Errorf("%s: got %+v", step.what, v)
		}
		if got := count(); got != step.want {
			t.Errorf("%s: got %s, want %s", step.what, got, step.want)
		}
	}
	if v := verify(t, p); v.Damaged() || len(v.New)+len(v.Gone) > 0 {
		t.Errorf("got %+v", v)
	}
}

// A verification lets go when it is told to: Docker wants the volume unmounted.
func TestAVerificationThatIsStoppedSaysSo(t *testing.T) {
	s := newStock(t)
	p := newProver(t, images.Setup{Storage: s.Dir})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errKilled)
	if _, err := p.Verify(ctx, nil); err == nil {
		t.Error("Verify: got no error")
	}
	if _, err := p.Rehash(ctx, pace(), nil); err == nil {
		t.Error("Rehash: got no error")
	}
	if _, err := p.Refresh(ctx); err == nil {
		t.Error("Refresh: got no error")
	}
}

// An empty disk in the place of the registry's, to which somebody pushes again, must not make everything forgotten that was there.
func TestAStorageWithoutItsRepositoriesIsNotRecorded(t *testing.T) {
	for name, restart := range map[string]bool{"by the same process": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			r := layouttest.New(t)
			r.Image("library/app", "v1", []byte("one"))
			dir := t.TempDir()
			p := newProver(t, images.Setup{Storage: r.Dir, Records: dir})
			refresh(t, p)
			r.Remove(filepath.Join(r.Dir, "docker/registry/v2"))
			r.Image("library/other", "v1", []byte("two"))
			if restart {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				p = newProver(t, images.Setup{Storage: r.Dir, Records: dir})
			}
			for range 2 {
				if _, err := p.Refresh(t.Context()); !errors.Is(err, mooring.ErrCorrupt) || !strings.Contains(err.Error(), "right volume") {
					t.Fatalf("got %v, want ErrCorrupt, and the question whether it is the right volume", err)
				}
			}
			if c := p.Last().Manifest; c.Repositories != 1 || c.Images != 1 {
				t.Errorf("got %+v, want what was there before", c)
			}
			if v := verify(t, p); len(v.Gone) == 0 && !v.Damaged() {
				t.Errorf("got %+v, want library/app to be missed", v)
			}
		})
	}
}
