package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/internal/ledger"
)

func open(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLedger(t, l) })
	return l
}

func closeLedger(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func record(name string) ledger.Record {
	return ledger.Record{Volume: mooring.Volume{Spec: mooring.Spec{Name: mooring.Name(name), Size: mooring.GB}}}
}

// full returns a record in which every field is set.
func full(name string) ledger.Record {
	r := record(name)
	r.Volume.FSType, r.Volume.Policy = mooring.XFS, "SW=2"
	r.Volume.Backing = mooring.NewBacking("vsanDatastore", "dockvols/default/"+name+".vmdk")
	r.Volume.Disk, r.Volume.Profile = "6000c294-c2b1-78d8-e1a0-000000000001", "p-1"
	r.Volume.FSUUID, r.Volume.Format = "3e6be9de-8139-11d1-9106-a43f08d823a6", mooring.FormatDone
	r.Volume.Created, r.Volume.CreatedBy = time.Unix(1, 5).UTC(), "vm1"
	r.Volume.Labels = map[string]string{"stack": "harbor <&>"}
	r.Own, r.Root = true, true
	r.Holders = []ledger.Holder{{ID: "m1", Count: 2, Boot: "b1", Dockerd: ledger.Instance{PID: 7, Start: 99}}}
	return r
}

func put(t *testing.T, l *ledger.Ledger, records ...ledger.Record) {
	t.Helper()
	if err := l.Put(records...); err != nil {
		t.Fatal(err)
	}
}

func wantNames(t *testing.T, l *ledger.Ledger, want ...string) {
	t.Helper()
	var got []string
	for _, r := range l.All() {
		got = append(got, string(r.Volume.Name))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("volumes: got %q, want %q", got, want)
	}
}

// Whatever was acknowledged must be there after a restart, field by field.
func TestWhatWasPutIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	vm := ledger.Identity{BIOS: "bios", Instance: "instance"}
	if err := l.SetVM(vm); err != nil {
		t.Fatal(err)
	}
	put(t, l, full("db"), record("web"), record("log"))
	if err := l.Drop("web", "never-there"); err != nil {
		t.Fatal(err)
	}
	closeLedger(t, l)

	l = open(t, dir)
	wantNames(t, l, "db", "log")
	if got, err := l.Find("db"); err != nil || !reflect.DeepEqual(got, full("db")) {
		t.Errorf("db: got %+v, %v, want %+v", got, err, full("db"))
	}
	if got := l.VM(); got != vm {
		t.Errorf("VM: got %+v, want %+v", got, vm)
	}
	if _, err := l.Find("web"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("a dropped volume: %v, want ErrNotFound", err)
	}
	if l.Behind() {
		t.Error("behind, though both files are whole")
	}
}

// A caller that changes what it was given, or gave, must not change the ledger.
func TestValuesShareNothingWithTheLedger(t *testing.T) {
	l := open(t, t.TempDir())
	given := full("db")
	put(t, l, given)
	given.Holders[0].Count, given.Volume.Labels["stack"] = 9, "changed"
	found, _ := l.Find("db")
	found.Holders[0].Count, found.Volume.Labels["stack"] = 9, "changed"
	all := l.All()
	all[0].Holders[0].Count, all[0].Volume.Labels["stack"] = 9, "changed"
	var kept []ledger.Holder
	if err := l.Update("db", func(r *ledger.Record) error { kept = r.Holders; return nil }); err != nil {
		t.Fatal(err)
	}
	kept[0].Count = 9
	if got, _ := l.Find("db"); !reflect.DeepEqual(got, full("db")) {
		t.Errorf("got %+v, want %+v", got, full("db"))
	}
}

func TestUpdateReadsAndWritesInOneStep(t *testing.T) {
	l := open(t, t.TempDir())
	put(t, l, record("db"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := l.Update("db", func(r *ledger.Record) error {
				if len(r.Holders) == 0 {
					r.Holders = []ledger.Holder{{ID: "m"}}
				}
				r.Holders[0].Count++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, _ := l.Find("db"); got.Holders[0].Count != 50 {
		t.Errorf("count: got %d, want 50", got.Holders[0].Count)
	}
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	l := open(t, t.TempDir())
	put(t, l, full("db"))
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		of   mooring.Name
		f    func(*ledger.Record) error
		want error
	}{
		{"its function's error", "db", func(r *ledger.Record) error { r.Own = false; return boom }, boom},
		{"no such volume", "none", func(*ledger.Record) error { return nil }, mooring.ErrNotFound},
		{"another name", "db", func(r *ledger.Record) error { r.Volume.Name = "web"; return nil }, mooring.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := l.Update(c.of, c.f); !errors.Is(err, c.want) {
				t.Errorf("error: got %v, want %v", err, c.want)
			}
			if got, _ := l.Find("db"); !reflect.DeepEqual(got, full("db")) {
				t.Errorf("got %+v, want %+v", got, full("db"))
			}
		})
	}
}

// dockerd's retries arrive without a body, so with an empty name: one that got through must not become a volume.
func TestPutRefusesWhatCannotNameAVolume(t *testing.T) {
	l := open(t, t.TempDir())
	for _, name := range []string{"", "a/b", "x"} {
		if err := l.Put(record("db"), record(name)); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("name %q: %v, want ErrInvalid", name, err)
		}
	}
	wantNames(t, l)
}

// Docker's calls come in bursts after a boot. They must share commits, and readers must go on during one.
func TestPutsThatComeTogetherShareACommitAndReadersDoNotWait(t *testing.T) {
	var commits int
	inside, goOn := make(chan struct{}), make(chan struct{})
	l, err := ledger.OpenHooked(t.TempDir(), func(done durable.Step) error {
		if done == durable.Sync {
			commits++
			if commits == 2 { // the first was the empty ledger's
				inside <- struct{}{}
				<-goOn
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	try := func(name string) func() {
		return func() {
			if err := l.Put(record(name)); err != nil {
				t.Error(err)
			}
		}
	}
	wg.Go(try("first"))
	<-inside
	for i := range 100 {
		wg.Go(try(fmt.Sprintf("vol%03d", i)))
	}
	ledger.AwaitQueue(l, 100)
	// The commit hangs before its rename: these return all the same, and do not show what is not durable.
	if _, err := l.Find("first"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("a volume whose commit is under way: %v, want ErrNotFound", err)
	}
	wantNames(t, l)
	close(goOn)
	wg.Wait()
	if got := len(l.All()); got != 101 || commits != 3 {
		t.Errorf("got %d volumes in %d commits, want 101 in 3", got, commits)
	}
	closeLedger(t, l)
}

// The listing of the group's folder comes twice a minute and mostly brings nothing new.
func TestPutOfWhatIsThereWritesNothing(t *testing.T) {
	var commits int
	l, err := ledger.OpenHooked(t.TempDir(), func(done durable.Step) error {
		if done == durable.Create {
			commits++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, full("db"), record("web"))
	before := commits
	put(t, l, full("db"))
	put(t, l)
	if err := l.Drop("none"); err != nil {
		t.Fatal(err)
	}
	if commits != before {
		t.Errorf("%d commits for nothing new", commits-before)
	}
	closeLedger(t, l)
}

// Get must stay cheap on a host with many volumes. Time is not measured on a shared machine; work is counted.
func TestFindCostsTheSameAmongTenThousandVolumes(t *testing.T) {
	cost := func(n int) float64 {
		steps := 0
		l, err := ledger.OpenHooked(t.TempDir(), func(durable.Step) error { steps++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		records := []ledger.Record{full("wanted")}
		for i := range n {
			records = append(records, full(fmt.Sprintf("vol%05d", i)))
		}
		put(t, l, records...)
		steps = 0
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := l.Find("wanted"); err != nil {
				t.Fatal(err)
			}
		})
		if steps != 0 {
			t.Errorf("%d file steps during Find, want none", steps)
		}
		closeLedger(t, l)
		return allocs
	}
	if few, many := cost(10), cost(10_000); many > few {
		t.Errorf("allocations of Find: %v among 10 volumes, %v among 10000", few, many)
	}
}

func TestAfterCloseNothingIsWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	closeLedger(t, l)
	if err := l.Put(record("db")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("put after close: %v, want ErrClosed", err)
	}
	wantNames(t, open(t, dir))
}
