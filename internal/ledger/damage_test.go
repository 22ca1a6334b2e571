package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// made returns the directory of a closed ledger whose last two commits put db and then web, and the two files, the newer first.
func made(t *testing.T) (dir, newer, older string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ledger")
	l := open(t, dir)
	put(t, l, record("db"))
	put(t, l, record("web"))
	closeLedger(t, l)
	newer, older = ledger.File(dir, 0), ledger.File(dir, 1)
	if generation(t, newer) < generation(t, older) {
		newer, older = older, newer
	}
	return dir, newer, older
}

func contents(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func generation(t *testing.T, file string) uint64 {
	t.Helper()
	n, _, err := ledger.Decode(contents(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func overwrite(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damages are ways for a file to be unusable.
func damages() map[string]func(t *testing.T, file string) {
	return map[string]func(*testing.T, string){
		"missing": func(t *testing.T, file string) {
			t.Helper()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		"empty":     func(t *testing.T, file string) { t.Helper(); overwrite(t, file, nil) },
		"cut":       func(t *testing.T, file string) { t.Helper(); b := contents(t, file); overwrite(t, file, b[:len(b)-1]) },
		"longer":    func(t *testing.T, file string) { t.Helper(); overwrite(t, file, append(contents(t, file), '\n')) },
		"all zeros": func(t *testing.T, file string) { t.Helper(); overwrite(t, file, make([]byte, len(contents(t, file)))) },
		"a bit flipped in the records": func(t *testing.T, file string) {
			t.Helper()
			b := contents(t, file)
			b[len(b)-5] ^= 1
			overwrite(t, file, b)
		},
		// A generation that says it is another's would be believed over the right one.
		"another generation in its first line": func(t *testing.T, file string) {
			t.Helper()
			overwrite(t, file, bytes.Replace(contents(t, file), []byte("generation="), []byte("generation=9"), 1))
		},
		"another format in its first line": func(t *testing.T, file string) {
			t.Helper()
			overwrite(t, file, bytes.Replace(contents(t, file), []byte("format=1"), []byte("format=2"), 1))
		},
		"a directory": func(t *testing.T, file string) {
			t.Helper()
			if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// One bad file costs at most the last commit, and the caller is told, until it says that it has caught up.
func TestWithOneFileDamagedTheOtherIsUsed(t *testing.T) {
	for name, damage := range damages() {
		t.Run("newer "+name, func(t *testing.T) {
			dir, newer, _ := made(t)
			damage(t, newer)
			l := open(t, dir)
			wantNames(t, l, "db")
			if !l.Behind() {
				t.Error("not behind")
			}
		})
		t.Run("older "+name, func(t *testing.T) {
			dir, _, older := made(t)
			damage(t, older)
			l := open(t, dir)
			wantNames(t, l, "db", "web")
			if !l.Behind() {
				t.Error("not behind, though the lost file may have been the newer")
			}
		})
	}
}

// A plugin that is killed before it has added what is mounted must do so after its next start, though both files are whole again.
func TestBehindLastsUntilCaughtUp(t *testing.T) {
	dir, newer, _ := made(t)
	damages()["empty"](t, newer)
	for range 2 {
		l := open(t, dir)
		put(t, l, record("log"))
		put(t, l, record("web"))
		if !l.Behind() {
			t.Error("not behind any more, without CaughtUp")
		}
		closeLedger(t, l)
	}
	l := open(t, dir)
	if err := l.CaughtUp(); err != nil {
		t.Fatal(err)
	}
	closeLedger(t, l)
	l = open(t, dir)
	wantNames(t, l, "db", "log", "web")
	if l.Behind() {
		t.Error("behind after CaughtUp")
	}
}

// With neither file whole nothing may be answered, because dockerd would take it for the truth, and nothing overwritten.
func TestWithBothFilesDamagedNothingIsOpenedOrChanged(t *testing.T) {
	for name, damage := range damages() {
		if name == "missing" || name == "a directory" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, newer, older := made(t)
			damage(t, newer)
			damage(t, older)
			wantUnreadable(t, dir, newer, older)
		})
	}
	t.Run("one cut and one missing", func(t *testing.T) {
		dir, newer, older := made(t)
		damages()["cut"](t, newer)
		damages()["missing"](t, older)
		wantUnreadable(t, dir, newer, older)
	})
}

func wantUnreadable(t *testing.T, dir, newer, older string) {
	t.Helper()
	before := tree(t, dir)
	_, err := ledger.Open(dir)
	if !errors.Is(err, mooring.ErrCorrupt) {
		t.Fatalf("error: %v, want ErrCorrupt", err)
	}
	for _, want := range []string{newer, older, "mooring ledger rebuild"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
	if after := tree(t, dir); !reflect.DeepEqual(before, after) {
		t.Errorf("changed: %v, before %v", after, before)
	}
}

// tree returns the files of a directory with what they hold, but the lock.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		if e.Name() != "lock" {
			files[e.Name()] = string(contents(t, filepath.Join(dir, e.Name())))
		}
	}
	return files
}

// A downgrade must not drop what only the newer Mooring knows. Its file is told from a damaged one by its checksum.
func TestFilesOfANewerMooringAreRefusedAndKept(t *testing.T) {
	dir, newer, _ := made(t)
	body := []byte(`{"records":"as nobody knows yet"}`)
	head := fmt.Sprintf("mooring-ledger format=%d generation=99 bytes=%d", ledger.FormatVersion+1, len(body))
	overwrite(t, newer, fmt.Appendf(nil, "%s sha256=%s\n%s", head, ledger.Sum(head, body), body))
	before := tree(t, dir)
	for verb, f := range map[string]func() error{
		"open":    func() error { _, err := ledger.Open(dir); return err },
		"rebuild": func() error { return ledger.Rebuild(dir, nil) },
	} {
		if err := f(); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), newer) {
			t.Errorf("%s: %v, want ErrInvalid naming %s", verb, err, newer)
		}
	}
	if after := tree(t, dir); !reflect.DeepEqual(before, after) {
		t.Errorf("changed: %v, before %v", after, before)
	}
}

// The damaged files are evidence: rebuilding keeps them, and can be stopped anywhere without becoming an empty ledger.
func TestRebuildKeepsTheDamagedFilesAndSurvivesAKill(t *testing.T) {
	for _, step := range append(steps(), "never") {
		t.Run("stopped after "+string(step), func(t *testing.T) {
			dir, newer, older := made(t)
			damages()["cut"](t, newer)
			damages()["a bit flipped in the records"](t, older)
			evidence := []string{string(contents(t, newer)), string(contents(t, older))}
			err := ledger.RebuildHooked(dir, []ledger.Record{full("db")}, func(done durable.Step) error {
				if done == step {
					return errStop
				}
				return nil
			})
			if (err != nil) != (step != "never") {
				t.Fatalf("rebuild: %v", err)
			}
			l, err := ledger.Open(dir)
			if errors.Is(err, mooring.ErrCorrupt) {
				if err := ledger.Rebuild(dir, []ledger.Record{full("db")}); err != nil {
					t.Fatal(err)
				}
				l, err = ledger.Open(dir)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantNames(t, l, "db")
			if !l.Behind() {
				t.Error("a rebuilt ledger is not behind")
			}
			closeLedger(t, l)
			for _, want := range evidence {
				if !holds(tree(t, dir), want) {
					t.Errorf("a damaged file is gone: %v", tree(t, dir))
				}
			}
		})
	}
}

func holds(files map[string]string, want string) bool {
	for _, got := range files {
		if got == want {
			return true
		}
	}
	return false
}

func TestRebuildRefusesALedgerThatCanBeRead(t *testing.T) {
	dir, newer, _ := made(t)
	damages()["cut"](t, newer)
	before := tree(t, dir)
	if err := ledger.Rebuild(dir, nil); !errors.Is(err, mooring.ErrExists) {
		t.Errorf("error: %v, want ErrExists", err)
	}
	if after := tree(t, dir); !reflect.DeepEqual(before, after) {
		t.Errorf("changed: %v, before %v", after, before)
	}
}
