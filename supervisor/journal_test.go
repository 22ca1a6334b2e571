package supervisor_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

func openJournal(t *testing.T, dir string) *supervisor.Journal {
	t.Helper()
	j, err := supervisor.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// What was written is read; any damage is noticed; one supervisor has the journal at a time.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	if _, err := j.Read(); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("an empty one: got %v", err)
	}
	if _, err := supervisor.OpenJournal(dir); !errors.Is(err, mooring.ErrInUse) {
		t.Errorf("a second supervisor: got %v, want that it is in use", err)
	}
	want := supervisor.Recovery{
		ID: "x", Boot: "b", Phase: supervisor.Starting, Services: []supervisor.Track{{Name: "db", Stopped: true, Down: time.Now()}},
		Doors: supervisor.Doors{Answer: supervisor.Answer{At: time.Now(), Right: true}},
	}
	if err := j.Write(want); err != nil {
		t.Fatal(err)
	}
	got, err := j.Read()
	if err != nil || got.ID != want.ID || len(got.Services) != 1 || !got.Services[0].Down.Equal(want.Services[0].Down) {
		t.Errorf("got %+v, %v", got, err)
	}
	file := filepath.Join(dir, "journal")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x20
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Read(); !errors.Is(err, mooring.ErrCorrupt) {
			t.Fatalf("byte %d is another: got %v", i, err)
		}
	}
	for _, n := range []int{0, 10, len(whole) - 1} {
		if err := os.WriteFile(file, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Read(); !errors.Is(err, mooring.ErrCorrupt) {
			t.Errorf("%d bytes of it: got %v", n, err)
		}
	}
}

// At rest nothing is written: the doors' last right answer is no news.
func TestJournalIsWrittenOnlyWhenSomethingChanged(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	r := supervisor.Recovery{ID: "x", Doors: supervisor.Doors{Answer: supervisor.Answer{At: time.Now(), Right: true}}}
	if err := j.Write(r); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := j.Touch(past); err != nil {
		t.Fatal(err)
	}
	r.Doors.Answer.At = time.Now().Add(time.Second)
	if err := j.Write(r); err != nil || !j.Seen().Equal(past) {
		t.Errorf("written although nothing changed: %v, %s", err, j.Seen())
	}
	r.Doors.Answer.Right = false
	if err := j.Write(r); err != nil || j.Seen().Equal(past) {
		t.Errorf("not written although the answer is wrong: %v", err)
	}
}

// A mark says of one boot that it ended in order, and of no other.
func TestMark(t *testing.T) {
	j := openJournal(t, t.TempDir())
	last := supervisor.Recovery{Boot: "one"}
	if got := supervisor.EndedInOrder(last, j.Marked()); got != mooring.No {
		t.Errorf("without a mark: got %q", got)
	}
	if err := j.Mark("one"); err != nil {
		t.Fatal(err)
	}
	if got := supervisor.EndedInOrder(last, j.Marked()); got != mooring.Yes {
		t.Errorf("marked: got %q", got)
	}
	if got := supervisor.EndedInOrder(supervisor.Recovery{Boot: "two"}, j.Marked()); got != mooring.No {
		t.Errorf("another boot is marked: got %q", got)
	}
	if got := supervisor.EndedInOrder(supervisor.Recovery{}, j.Marked()); got != mooring.Unknown {
		t.Errorf("without a journal: got %q", got)
	}
	if err := errors.Join(j.Unmark(), j.Unmark()); err != nil || j.Marked() != "" {
		t.Errorf("unmarked: %q, %v", j.Marked(), err)
	}
}

// So many reports are kept, the newest; and a report is found only by its ID.
func TestReportsAreKept(t *testing.T) {
	s := supervisor.Reports{Dir: filepath.Join(t.TempDir(), "recoveries"), Keep: 2}
	for _, id := range []string{"20300101T000000Z", "20300102T000000Z", "20300103T000000Z"} {
		if err := s.Save(admin.Recovery{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("left: %v, %v, want two reports of two files each", entries, err)
	}
	if rep, err := s.Find(admin.LastRecovery); err != nil || rep.ID != "20300103T000000Z" {
		t.Errorf("the last: got %s, %v", rep.ID, err)
	}
	if _, err := s.Find("20300101T000000Z"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("one that was removed: got %v", err)
	}
}
