package images_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// database is Harbor's, from 2.15 on: its registry's storage has no tags.
type database struct {
	rows  images.Rows
	needs map[registry.Digest][]images.Ref
	down  bool
	asked int // for all rows
	marks int // asked for
}

func (d *database) Mark(context.Context) (string, error) {
	if d.down {
		return "", fmt.Errorf("psql: %w", mooring.ErrUnavailable)
	}
	d.marks++
	return fmt.Sprint(d.rows), nil
}

func (d *database) Rows(context.Context) (*images.Rows, error) {
	if d.down {
		return nil, fmt.Errorf("psql: %w", mooring.ErrUnavailable)
	}
	d.asked++
	rows := images.Rows{}
	for _, r := range d.rows.Repositories {
		r.Images, r.Tags = slices.Clone(r.Images), slices.Clone(r.Tags)
		rows.Repositories = append(rows.Repositories, r)
	}
	return &rows, nil
}

func (d *database) Needs(_ context.Context, of []registry.Digest) (map[registry.Digest][]images.Ref, error) {
	return d.needs, nil
}

// has adds an image with a tag.
func (d *database) has(repository, tag string, pushed time.Time, img registry.Digest) {
	i := slices.IndexFunc(d.rows.Repositories, func(r images.RowRepository) bool { return r.Name == repository })
	if i < 0 {
		d.rows.Repositories = append(d.rows.Repositories, images.RowRepository{Name: repository})
		i = len(d.rows.Repositories) - 1
	}
	r := &d.rows.Repositories[i]
	if !slices.ContainsFunc(r.Images, func(row images.RowImage) bool { return row.Digest == img }) {
		r.Images = append(r.Images, images.RowImage{Digest: img, Media: "m"})
		slices.SortFunc(r.Images, func(a, b images.RowImage) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	}
	if tag != "" {
		r.Tags = slices.DeleteFunc(r.Tags, func(t images.RowTag) bool { return t.Name == tag })
		r.Tags = append(r.Tags, images.RowTag{Name: tag, Target: img, Pushed: pushed})
		slices.SortFunc(r.Tags, func(a, b images.RowTag) int { return strings.Compare(a.Name, b.Name) })
	}
}

// delete deletes an image with its tags, as Harbor does: from the database at once, from the storage some day.
func (d *database) delete(repository string, img registry.Digest) {
	for i := range d.rows.Repositories {
		if r := &d.rows.Repositories[i]; r.Name == repository {
			r.Images = slices.DeleteFunc(r.Images, func(row images.RowImage) bool { return row.Digest == img })
			r.Tags = slices.DeleteFunc(r.Tags, func(t images.RowTag) bool { return t.Target == img })
		}
	}
}

// harborStock is a storage of Harbor's with two images, and what its database says.
func harborStock(t *testing.T) (r *layouttest.Registry, one, two layouttest.Image, db *database) {
	t.Helper()
	r = layouttest.New(t)
	one = r.Image("library/app", "", []byte("one"), []byte("shared"))
	two = r.Image("library/app", "", []byte("two"), []byte("shared"))
	age(t, r)
	old := time.Now().Add(-time.Hour)
	db = &database{}
	db.has("library/app", "v1", old, one.Digest)
	db.has("library/app", "v2", old, two.Digest)
	return r, one, two, db
}

// The tags are those of the database, and what it has must be on the storage.
func TestTheDatabaseHasTheTags(t *testing.T) {
	r, one, two, db := harborStock(t)
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	refresh(t, p)
	if c := p.Last().Manifest; c.Tags != 2 || c.Images != 2 {
		t.Fatalf("got %+v, want 2 tags, 2 images", c)
	}
	r.Remove(r.RevisionLink("library/app", one.Digest))
	r.Truncate(r.Data(two.Layers[0].Digest), 1)
	if got, want := said(verify(t, p)), []string{"revision-link library/app:v1", "blob-size library/app:v2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Remove(filepath.Join(r.Dir, "docker/registry/v2/repositories/library"))
	want := []string{"blob-size library/app:v2", "layer-link library/app:v1", "layer-link library/app:v2", "revision-link library/app:v1", "revision-link library/app:v2"}
	got := said(verify(t, p))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("without its directory got %q, want %q", got, want)
	}
}

// While the database is not up, the tags are those that the manifest has: an image that one of them names and that is lost is named all the same.
func TestWhileTheDatabaseIsDownTheManifestHasTheTags(t *testing.T) {
	r, one, _, db := harborStock(t)
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	refresh(t, p)
	db.down = true
	v := verify(t, p)
	if v.Damaged() || len(v.Gone) > 0 || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "unavailable") {
		t.Errorf("got %+v, want a note", v)
	}
	r.Remove(r.Data(one.Digest))
	if got, want := said(verify(t, p)), []string{"image-missing library/app:v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := p.Refresh(t.Context()); !isUnavailable(err) {
		t.Errorf("refresh: got %v, want one that wraps ErrUnavailable: half of the truth is none", err)
	}
}

// Harbor before 2.15 writes tags to the storage, too, where nothing needs them and nothing syncs them: after a power cut some are missing there. Whoever looks at the
// storage alone is not to be told that they are gone.
func TestWithoutTheDatabaseItsTagsAreNotLookedForOnTheStorage(t *testing.T) {
	r, one, two, db := harborStock(t)
	r.Tag("library/app", "v1", one.Digest)
	r.Tag("library/app", "v2", two.Digest)
	dir := t.TempDir()
	p := newProver(t, images.Setup{Storage: r.Dir, Records: dir, Tags: db})
	refresh(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r.Remove(filepath.Join(r.Dir, "docker/registry/v2/repositories/library/app/_manifests/tags/v2"))
	p = newProver(t, images.Setup{Storage: r.Dir, Records: dir, LookOnly: true})
	v := verify(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if v.Damaged() || len(v.Gone) > 0 || v.Intact != 2 || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "it was not asked") {
		t.Errorf("got %+v, want two images, and a note", v)
	}
	p = newProver(t, images.Setup{Storage: r.Dir, Records: dir})
	refresh(t, p)
	if v := verify(t, p); len(v.Gone) > 0 || len(v.Notes) > 0 {
		t.Errorf("after a refresh by somebody who has no database: got %+v, want the storage's own tags", v)
	}
}

// To ask the database is a command in a container. While nothing is pushed it is asked now and then, and after a push until its rows can be there.
func TestTheDatabaseIsAskedWhenSomethingIsPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _, db := harborStock(t)
		p := newProver(t, images.Setup{Storage: r.Dir, Tags: db, Asked: 30 * time.Second})
		for range 10 {
			refresh(t, p)
			<-time.After(5 * time.Second)
		}
		marks := db.marks
		for range 12 {
			refresh(t, p)
			<-time.After(5 * time.Second)
		}
		if n := db.marks - marks; n > 2 {
			t.Errorf("in a minute of quiet the database was asked %d times, want at most twice", n)
		}
		three := r.Image("library/app", "", []byte("three"))
		refresh(t, p) // the storage has it, and the database not yet
		db.has("library/app", "v3", time.Now(), three.Digest)
		<-time.After(5 * time.Second)
		refresh(t, p)
		if c := p.Last().Manifest; c.Tags != 3 || c.Images != 3 {
			t.Errorf("5 seconds after a push: got %+v, want its tag", c)
		}
		db.has("library/app", "again", time.Now(), three.Digest) // which the storage does not see
		<-time.After(45 * time.Second)
		refresh(t, p)
		if c := p.Last().Manifest; c.Tags != 4 {
			t.Errorf("45 seconds after a tag: got %+v, want it", c)
		}
	})
}

// Harbor deletes from its database at once, and collects what is on the storage later, blobs and images in any order: what is left of what it deleted is no damage, nor is what was pushed and never
// acknowledged.
func TestWhatHarborDeletedIsNoDamage(t *testing.T) {
	r, one, two, db := harborStock(t)
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	refresh(t, p)
	db.delete("library/app", one.Digest)
	r.Remove(filepath.Dir(r.Data(one.Layers[0].Digest))) // and the collection stopped there
	r.Remove(r.Data(r.Image("library/app", "", []byte("not acknowledged")).Config.Digest))
	v := verify(t, p)
	if v.Damaged() || v.Images != 1 || v.Intact != 1 {
		t.Errorf("got %+v", v)
	}
	if got, want := differences(v.Gone), []string{"library/app:v1"}; !slices.Equal(got, want) {
		t.Errorf("gone: got %q, want %q", got, want)
	}
	refresh(t, p)
	if c := p.Last().Manifest; c.Tags != 1 || c.Images != 1 {
		t.Errorf("got %+v, want the one that is left", c)
	}
	_ = two
}

// Two tags that the database swapped by itself (its volume is of another moment) are found; one that a user moved is new.
func TestTagsThatMovedInTheDatabaseAreToldApart(t *testing.T) {
	r, one, two, db := harborStock(t)
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	refresh(t, p)
	old := time.Now().Add(-2 * time.Hour)
	db.has("library/app", "v1", old, two.Digest)
	db.has("library/app", "v2", time.Now(), one.Digest)
	v := verify(t, p)
	if got, want := said(v), []string{"tag-moved library/app:v1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := differences(v.New), []string{"library/app:v2"}; !slices.Equal(got, want) {
		t.Errorf("new: got %q, want %q", got, want)
	}
}

// A push is in the manifest after the next refresh, for which the database is asked for everything only when something has changed.
func TestRefreshAsksForAllOnlyWhenSomethingHasChanged(t *testing.T) {
	r, _, _, db := harborStock(t)
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	refresh(t, p)
	asked := db.asked
	for range 5 {
		refresh(t, p)
	}
	if db.asked != asked {
		t.Errorf("asked %d times although nothing has changed", db.asked-asked)
	}
	three := r.Image("library/new", "", []byte("three"))
	db.has("library/new", "v3", time.Now(), three.Digest)
	refresh(t, p)
	if c := p.Last().Manifest; c.Tags != 3 || c.Images != 3 || db.asked != asked+1 {
		t.Errorf("got %+v after %d more questions, want 3 tags after one", c, db.asked-asked)
	}
}

// What an image needs whose manifest was lost before anybody recorded it, the database knows.
func TestTheDatabaseKnowsWhatALostImageNeeds(t *testing.T) {
	r, one, _, db := harborStock(t)
	db.needs = map[registry.Digest][]images.Ref{one.Digest: {{Digest: one.Layers[0].Digest, Size: 3}}}
	r.Remove(r.Data(one.Digest))
	r.Remove(r.Data(one.Layers[0].Digest))
	p := newProver(t, images.Setup{Storage: r.Dir, Tags: db})
	got, want := said(verify(t, p)), []string{"blob-missing library/app:v1", "image-missing library/app:v1"}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
