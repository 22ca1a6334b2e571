package images_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// openRecords opens records that are good, or not there yet.
func openRecords(tb testing.TB, dirs ...string) (*images.Records, *images.Manifest) {
	tb.Helper()
	r, m, damage, err := images.OpenRecords(dirs...)
	if r == nil || len(damage) > 0 || err != nil && !errors.Is(err, mooring.ErrNotFound) {
		tb.Fatal(err, damage)
	}
	r.Many(many)
	return r, m
}

// many is after how many changes these records write the whole manifest.
const many = 4

// push is a change as a push makes: the image n of a repository.
func push(n int) *images.Change {
	return images.NewChange().Taken(someTime()).Blob(digest(n), 10, someTime(), someTime()).Image(digest(n), "media", nil, nil).
		Repository("app").Revision(digest(n)).Tag(fmt.Sprintf("v%d", n), digest(n), someTime())
}

// record makes records of so many pushes in two directories, and returns what they have to be.
func record(tb testing.TB, pushes int) (dirs []string, want *images.Manifest) {
	tb.Helper()
	dirs = []string{filepath.Join(tb.TempDir(), "own"), filepath.Join(tb.TempDir(), "beside", "data")}
	r, m := openRecords(tb, dirs...)
	for n := range pushes {
		if err := r.Save(m, push(n)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		tb.Fatal(err)
	}
	return dirs, m
}

// damage turns a bit in the middle of each file that the patterns name.
func damage(tb testing.TB, dir string, patterns ...string) {
	tb.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) == 0 {
			tb.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			data[len(data)*3/4] ^= 4
			if err := os.WriteFile(path, data, 0o600); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func same(a, b *images.Manifest) bool { return bytes.Equal(a.Whole(), b.Whole()) }

// A manifest that nobody ever wrote is not an empty registry: whoever asks is told.
func TestNoRecordsAreNotAnEmptyManifest(t *testing.T) {
	if _, _, err := images.ReadManifest(t.TempDir(), t.TempDir()); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("got %v, want one that wraps ErrNotFound", err)
	}
}

// What was recorded is read again, whatever the number of changes that it is made of.
func TestRecordsAreReadAgain(t *testing.T) {
	for _, pushes := range []int{1, 2, 5, 6, 7, 11, 40} {
		dirs, want := record(t, pushes)
		m, damage, err := images.ReadManifest(dirs...)
		if err != nil || len(damage) > 0 || !same(m, want) || m.Behind() {
			t.Errorf("%d pushes: got %+v, %v, %v, want %+v", pushes, m.Count(), damage, err, want.Count())
		}
	}
}

// Of many changes, those that are in both whole manifests need not be kept.
func TestChangesThatAreWrittenWholeAreRemoved(t *testing.T) {
	dirs, _ := record(t, 45)
	for _, dir := range dirs {
		changes, _ := filepath.Glob(filepath.Join(dir, "change.*"))
		if len(changes) > 2*many+1 {
			t.Errorf("%s has %d changes", dir, len(changes))
		}
	}
}

// G29: One place may be lost, or damaged in any of its files: it is said, and nothing is lost.
func TestDamageInOnePlaceIsSaidAndSurvived(t *testing.T) {
	for _, pushes := range []int{1, 3, 7, 13} {
		for i := range 2 {
			for name, hurt := range map[string]func(dir string) error{
				"all":     func(dir string) error { damage(t, dir, "manifest.*"); return nil },
				"removed": os.RemoveAll,
				"emptied": func(dir string) error {
					paths, _ := filepath.Glob(filepath.Join(dir, "manifest.*"))
					for _, p := range paths {
						if err := os.Truncate(p, 0); err != nil {
							return err
						}
					}
					return nil
				},
			} {
				dirs, want := record(t, pushes)
				if err := hurt(dirs[i]); err != nil {
					t.Fatal(err)
				}
				m, said, err := images.ReadManifest(dirs...)
				if err != nil || !same(m, want) || m.Behind() {
					t.Errorf("%d pushes, %s in place %d: got %v, %v, behind %v", pushes, name, i, said, err, m.Behind())
				}
				if name != "removed" && len(said) == 0 {
					t.Errorf("%d pushes, %s in place %d: nobody is told", pushes, name, i)
				}
			}
		}
	}
}

// The newest whole manifest is damaged in both places: the older one and the changes since lead to the same.
func TestTheOlderGenerationAndTheChangesLeadToTheSame(t *testing.T) {
	dirs, want := record(t, 8)
	for _, dir := range dirs {
		damage(t, dir, "manifest.1") // that of number 6
	}
	m, said, err := images.ReadManifest(dirs...)
	if err != nil || len(said) != 2 || !same(m, want) {
		t.Errorf("got %+v, %v, %v, want %+v", m.Count(), said, err, want.Count())
	}
}

// A change that is damaged in both places leaves an older manifest, and it is known to be one.
func TestAnOlderManifestIsKnownToBeOne(t *testing.T) {
	dirs, want := record(t, 20)
	for _, dir := range dirs {
		damage(t, dir, "change.18", "manifest.1")
	}
	m, said, err := images.ReadManifest(dirs...)
	if err != nil || len(said) != 4 || !m.Behind() || m.Count().Tags != 17 {
		t.Fatalf("got %+v, behind %v, %v, %v, want 17 tags and behind", m.Count(), m.Behind(), said, err)
	}
	// What is written on top of it does not hide that it was behind, and is not mixed up with what was lost.
	r, m, _, err := images.OpenRecords(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Save(m, push(100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, said, err := images.ReadManifest(dirs...)
	if err != nil || len(said) != 0 || !again.Behind() || !same(again, m) || again.Count().Tags != 18 || want.Count().Tags != 20 {
		t.Errorf("got %+v, behind %v, %v, %v, want 18 tags and behind", again.Count(), again.Behind(), said, err)
	}
}

// G29: All damaged: that is said, with every file, and new records can be written; the damaged ones are kept.
func TestDamageInAllPlacesIsSaidAndNotTakenForNothing(t *testing.T) {
	dirs, _ := record(t, 5)
	for _, dir := range dirs {
		damage(t, dir, "manifest.*")
	}
	r, m, said, err := images.OpenRecords(dirs...)
	if r == nil || !errors.Is(err, mooring.ErrCorrupt) || len(said) != 2 || !m.Empty() {
		t.Fatalf("got %v, %v, want ErrCorrupt and two files", said, err)
	}
	for _, dir := range dirs {
		if !strings.Contains(err.Error(), filepath.Join(dir, "manifest.0")) {
			t.Errorf("the error does not name %s: %v", dir, err)
		}
	}
	if err := r.Save(m, push(50)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, said, err := images.ReadManifest(dirs...)
	if err != nil || len(said) != 0 || again.Count().Tags != 1 {
		t.Errorf("got %v, %v", said, err)
	}
	kept, _ := filepath.Glob(filepath.Join(dirs[0], "*.damaged"))
	if len(kept) != 1 {
		t.Errorf("%d damaged files are kept, want 1", len(kept))
	}
}

// A manifest of a newer Mooring is not thrown away by an older one.
func TestRecordsOfANewerMooringAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := newer(t, images.Seal(1, push(1)))
	if err := os.WriteFile(filepath.Join(dir, "manifest.0"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, _, err := images.OpenRecords(dir)
	if r != nil || !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("got %v, %v, want none, and one that wraps ErrInvalid", r, err)
	}
}

// A second supervisor must not write the same records.
func TestRecordsHaveOneWriter(t *testing.T) {
	dir := t.TempDir()
	r, _ := openRecords(t, dir)
	if _, _, _, err := images.OpenRecords(dir); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("got %v, want one that wraps ErrInUse", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// A place that cannot be written (its volume is not mounted) does not keep the other from being written, and catches up when it can.
func TestAPlaceThatWasAbsentCatchesUp(t *testing.T) {
	own, mount := t.TempDir(), t.TempDir()
	beside := filepath.Join(mount, "manifest")
	r, m := openRecords(t, own, beside)
	for n := range 5 {
		if err := r.Save(m, push(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(beside, beside+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(beside, nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	if err := r.Save(m, push(5)); err == nil || !strings.Contains(err.Error(), beside) {
		t.Errorf("got %v, want an error that names the place", err)
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(beside+".away", beside); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(m, push(6)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{own, beside} {
		got, said, err := images.ReadManifest(dir)
		if err != nil || len(said) > 0 || !same(got, m) {
			t.Errorf("%s: got %v, %v", dir, said, err)
		}
	}
}

// A place that was not mounted when the records were opened, and has records of its own, keeps the newer generation of them.
func TestAPlaceThatWasNotMountedKeepsWhatItHas(t *testing.T) {
	dirs, old := record(t, 3)
	own := t.TempDir()
	if err := os.Rename(dirs[1], dirs[1]+".away"); err != nil {
		t.Fatal(err)
	}
	r, m := openRecords(t, own, dirs[1])
	if err := os.Rename(dirs[1]+".away", dirs[1]); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(m, push(70)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, said, err := images.ReadManifest(own, dirs[1]); err != nil || len(said) > 0 || !same(got, m) {
		t.Fatalf("%v, %v", said, err)
	}
	damage(t, dirs[1], "manifest.1")
	if got, _, err := images.ReadManifest(dirs[1]); err != nil || got.Count().Tags != old.Count().Tags || !got.Behind() {
		t.Errorf("the older records are gone: %v", err)
	}
}

var errKilled = errors.New("killed by the test")

// A writer that is killed at any step of any file leaves records that are whole: what was there before the change or after it, in both places together and in each.
func TestAWriterThatIsKilledLeavesWholeRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dirs := []string{filepath.Join(t.TempDir(), "own"), filepath.Join(t.TempDir(), "beside")}
		r, m := openRecords(t, dirs...)
		before := rapid.SampledFrom([]int{0, 1, 4, 5, 6, 10, 11}).Draw(rt, "pushes before")
		for n := range before {
			if err := r.Save(m, push(n)); err != nil {
				t.Fatal(err)
			}
		}
		was := m.Whole()
		left := rapid.IntRange(0, 12).Draw(rt, "steps until it is killed")
		r.Hook(func(durable.Step) error {
			left--
			if left < 0 {
				return errKilled
			}
			return nil
		})
		err := r.Save(m, push(before))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		got, said, rerr := images.ReadManifest(dirs...)
		if before == 0 && errors.Is(rerr, mooring.ErrNotFound) {
			return
		}
		if rerr != nil || len(said) > 0 || got.Behind() {
			rt.Fatalf("%v, %v, behind %v", said, rerr, got.Behind())
		}
		if !same(got, m) && (err == nil || !bytes.Equal(got.Whole(), was)) {
			rt.Fatal("what is read is neither what was there nor what was written")
		}
		// The next writer goes on from there.
		r2, m2 := openRecords(t, dirs...)
		if err := r2.Save(m2, push(1000)); err != nil {
			t.Fatal(err)
		}
		if err := r2.Close(); err != nil {
			t.Fatal(err)
		}
		if got, said, err := images.ReadManifest(dirs...); err != nil || len(said) > 0 || !same(got, m2) {
			rt.Fatalf("%v, %v", said, err)
		}
	})
}

// newer makes a good file one of the next format.
func newer(tb testing.TB, file []byte) []byte {
	tb.Helper()
	line, body, _ := bytes.Cut(file, []byte("\n"))
	head, _, _ := strings.Cut(string(line), " sha256=")
	head = strings.Replace(head, "format=1", "format=2", 1)
	return []byte(head + " sha256=" + images.Sum(head, body) + "\n" + string(body))
}
