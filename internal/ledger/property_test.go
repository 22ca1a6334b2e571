package ledger_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// model is what a ledger must hold, and what it must hold if it has lost its newest generation.
type model struct {
	now, before map[mooring.Name]ledger.Record
}

func genRecord(t *rapid.T) ledger.Record {
	r := ledger.Record{
		Own:  rapid.Bool().Draw(t, "own"),
		Root: rapid.Bool().Draw(t, "root"),
	}
	r.Volume.Name = mooring.Name(rapid.SampledFrom([]string{"db", "web", "a b", "ü~%", "registry"}).Draw(t, "name"))
	r.Volume.Size = mooring.Size(rapid.Int64().Draw(t, "size"))
	r.Volume.Labels = rapid.MapOfN(rapid.String(), rapid.String(), -1, 2).Draw(t, "labels")
	if len(r.Volume.Labels) == 0 {
		r.Volume.Labels = nil
	}
	for range rapid.IntRange(0, 2).Draw(t, "holders") {
		r.Holders = append(r.Holders, ledger.Holder{
			ID: mooring.MountID(rapid.String().Draw(t, "id")), Count: rapid.Int().Draw(t, "count"),
			Dockerd: ledger.Instance{Start: rapid.Uint64().Draw(t, "start")},
		})
	}
	return r
}

// The ledger is a map that survives reopening, and that falls back by one commit at most when a file is damaged while it is closed.
func TestLedgerIsADurableMap(t *testing.T) {
	top, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(top, strconv.Itoa(runs))
		l, err := ledger.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := model{now: map[mooring.Name]ledger.Record{}, before: map[mooring.Name]ledger.Record{}}
		commit := func(err error, change func()) {
			if err != nil {
				t.Fatal(err)
			}
			old := maps.Clone(m.now)
			if change(); !reflect.DeepEqual(old, m.now) {
				m.before = old
			}
		}
		reopen := func() {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = ledger.Open(dir); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				rs := []ledger.Record{genRecord(t), genRecord(t)}[:rapid.IntRange(1, 2).Draw(t, "records")]
				commit(l.Put(rs...), func() {
					for _, r := range rs {
						m.now[r.Volume.Name] = r
					}
				})
			},
			"drop": func(t *rapid.T) {
				name := genRecord(t).Volume.Name
				commit(l.Drop(name), func() { delete(m.now, name) })
			},
			"update": func(t *rapid.T) {
				r := genRecord(t)
				if _, ok := m.now[r.Volume.Name]; !ok {
					t.Skip()
				}
				commit(l.Update(r.Volume.Name, func(old *ledger.Record) error { *old = r; return nil }),
					func() { m.now[r.Volume.Name] = r })
			},
			"reopen": func(*rapid.T) { reopen() },
			"damage and reopen": func(t *rapid.T) {
				damageOne(t, dir)
				reopen()
				if !l.Behind() {
					t.Fatal("not behind")
				}
				// Back by a commit, or not at all; from here on that is what it holds.
				if got := asMap(l); reflect.DeepEqual(got, m.before) {
					m.now = maps.Clone(m.before)
				}
				// Two commits bring both files up again, whatever they hold; the model has them as it has any.
				if err := l.CaughtUp(); err != nil {
					t.Fatal(err)
				}
				if err := l.SetVM(ledger.Identity{BIOS: rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "vm")}); err != nil {
					t.Fatal(err)
				}
				m.before = maps.Clone(m.now)
			},
			"": func(t *rapid.T) {
				if got := asMap(l); !reflect.DeepEqual(got, m.now) {
					t.Fatalf("got %v, want %v", got, m.now)
				}
				for name, want := range m.now {
					if got, err := l.Find(name); err != nil || !reflect.DeepEqual(got, want) {
						t.Fatalf("find %q: got %+v, %v, want %+v", name, got, err, want)
					}
				}
			},
		})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func asMap(l *ledger.Ledger) map[mooring.Name]ledger.Record {
	m := make(map[mooring.Name]ledger.Record)
	for _, r := range l.All() {
		m[r.Volume.Name] = r
	}
	return m
}

// damageOne changes one byte of one of the two files, if there are two.
func damageOne(t *rapid.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "ledger.*"))
	if err != nil || len(files) < 2 {
		t.Skip("one generation only")
	}
	file := rapid.SampledFrom(files).Draw(t, "file")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever bytes a file holds, reading it ends in an error or in a ledger that encodes to an equal one.
func FuzzDecode(f *testing.F) {
	for _, names := range [][]string{nil, {"db"}, {"a b", "web"}} {
		records := make(map[mooring.Name]ledger.Record)
		for _, name := range names {
			records[mooring.Name(name)] = full(name)
		}
		file, err := ledger.Encode(7, ledger.Identity{BIOS: "b"}, true, records)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file, false)
		_, body, _ := bytes.Cut(file, []byte("\n"))
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if whole { // else the checksum keeps the fuzzer out of the records
			data = forge(data)
		}
		n, records, err := ledger.Decode(data)
		if err != nil {
			return
		}
		again, err := ledger.Encode(n, ledger.Identity{}, false, records)
		if err != nil {
			return // a name that another Mooring let in
		}
		n2, records2, err := ledger.Decode(again)
		if err != nil || n2 != n || !reflect.DeepEqual(records, records2) {
			t.Errorf("got %d, %+v, %v, want %d, %+v", n2, records2, err, n, records)
		}
	})
}

// forge returns a file whose first line and checksum agree with the body.
func forge(body []byte) []byte {
	head := fmt.Sprintf("mooring-ledger format=%d generation=3 bytes=%d", ledger.FormatVersion, len(body))
	return slices.Concat([]byte(head), []byte(" sha256="), ledger.Sum(head, body), []byte("\n"), body)
}
