package plugin_test

import (
	"os"
	"slices"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/internal/process"
	"github.com/mooring-sh/mooring/plugin"
)

const (
	ourDisk   = mooring.DiskID("6000c29a-0000-0000-0000-000000000001")
	otherDisk = mooring.DiskID("6000c29a-0000-0000-0000-000000000002")
)

// The plan at start is ledger × mounts × devices: one line of this table is one case of it (G5, G8, G10).
func TestPlan(t *testing.T) {
	now := []ledger.Holder{{ID: "a", Count: 1, Boot: "now"}}
	before := []ledger.Holder{{ID: "a", Count: 1, Boot: "before"}}
	ours := map[mooring.Name]guest.Mount{"db": {Dir: "/mnt/db", Disk: ourDisk}}
	gone := map[mooring.Name]guest.Mount{"db": {Dir: "/mnt/db"}}
	foreign := map[mooring.Name]guest.Mount{"db": {Dir: "/mnt/db", Disk: otherDisk}}
	present := []mooring.DiskID{ourDisk}
	for name, c := range map[string]struct {
		holders []ledger.Holder
		o       plugin.Observation
		want    string
	}{
		"mounted, held now":                      {now, plugin.Observation{Mounted: ours, Present: present}, "keep"},
		"mounted, held now, device's link gone":  {now, plugin.Observation{Mounted: gone}, "keep"},
		"mounted, held by nobody":                {nil, plugin.Observation{Mounted: ours, Present: present}, "idle"},
		"mounted, held before: restored already": {before, plugin.Observation{Mounted: ours, Present: present}, "idle"},
		"mounted, ledger behind":                 {nil, plugin.Observation{Mounted: ours, Present: present, Behind: true}, "adopt"},
		"mounted, held, ledger behind":           {now, plugin.Observation{Mounted: ours, Present: present, Behind: true}, "adopt"},
		"another disk is mounted there":          {now, plugin.Observation{Mounted: foreign, Present: present}, "foreign"},
		"held now, present":                      {now, plugin.Observation{Present: present}, "restore"},
		"held before, present: after HA":         {before, plugin.Observation{Present: present}, "restore"},
		"held now, absent":                       {now, plugin.Observation{}, "fetch"},
		"held before, absent":                    {before, plugin.Observation{}, "fetch"},
		"present, held by nobody":                {nil, plugin.Observation{Present: present}, "idle"},
		"absent, held by nobody":                 {nil, plugin.Observation{}, ""},
		"clone, held, present":                   {before, plugin.Observation{Present: present, Moved: true}, "forget"},
		"clone, held, absent":                    {before, plugin.Observation{Moved: true}, "forget"},
		"clone, present, held by nobody":         {nil, plugin.Observation{Present: present, Moved: true}, "idle"},
	} {
		c.o.Boot = "now"
		c.o.Records = []ledger.Record{{Volume: mooring.Volume{Spec: mooring.Spec{Name: "db"}, Disk: ourDisk}, Holders: c.holders}}
		want := []plugin.Action{{Name: "db", Step: plugin.Step(c.want)}}
		if c.want == "" {
			want = nil
		}
		if got := plugin.Plan(c.o); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// What is mounted and unknown was lost with a generation of the ledger: it is taken over, never unmounted.
func TestPlanAdoptsWhatTheLedgerLost(t *testing.T) {
	got := plugin.Plan(plugin.Observation{Mounted: plugin.Mounts{"db": {Disk: ourDisk}, "aa": {Disk: otherDisk}}, Boot: "now"})
	if len(got) != 2 || got[0] != (plugin.Action{Name: "aa", Step: "adopt"}) || got[1] != (plugin.Action{Name: "db", Step: "adopt"}) {
		t.Errorf("plan: got %v, want aa and db adopted", got)
	}
}

// dockerd returns one of two daemons.
func dockerd(n int) ledger.Instance { return ledger.Instance{PID: 10 * n, Start: uint64(100 * n)} }

// G12: docker cp mounts and unmounts with a running container's ID.
func TestG12HoldersAreCounted(t *testing.T) {
	hs := plugin.Hold(nil, "c1", "now", dockerd(1))
	hs = plugin.Hold(hs, "c1", "now", dockerd(1))
	hs, known := plugin.LetGo(hs, "c1")
	if !known || len(hs) != 1 || hs[0].Count != 1 {
		t.Errorf("after docker cp: got %v, want c1 held once", hs)
	}
	hs, _ = plugin.LetGo(hs, "c1")
	if len(hs) != 0 {
		t.Errorf("after stop: got %v, want none", hs)
	}
	if _, known := plugin.LetGo(hs, "c1"); known {
		t.Error("an ID that was let go is known")
	}
}

// G12: after a crash of dockerd no unmount comes for its mounts, and the container mounts with its old ID.
func TestG12SameIDFromNewerDockerdReplacesTheCount(t *testing.T) {
	hs := plugin.Hold(nil, "c1", "now", dockerd(1))
	hs = plugin.Hold(hs, "c1", "now", dockerd(1))
	hs = plugin.Hold(hs, "c1", "now", dockerd(2))
	if len(hs) != 1 || hs[0].Count != 1 || hs[0].Dockerd != dockerd(2) {
		t.Errorf("got %v, want c1 held once by the newer dockerd", hs)
	}
}

// G12: which holders stay when Docker's API has answered.
func TestG12Settle(t *testing.T) {
	old, older, fresh := ledger.Holder{ID: "old", Count: 2, Dockerd: dockerd(1)}, ledger.Holder{ID: "older", Count: 1, Dockerd: dockerd(1)}, ledger.Holder{ID: "new", Count: 2, Dockerd: dockerd(2)}
	lost := ledger.Holder{ID: "unknown", Count: 1, Dockerd: dockerd(2)}
	once := func(h ledger.Holder) ledger.Holder { h.Count, h.Dockerd = 1, dockerd(2); return h }
	for name, c := range map[string]struct {
		running  int
		holders  []ledger.Holder
		expected []ledger.Holder
	}{
		"nothing runs":                     {0, []ledger.Holder{old, fresh}, []ledger.Holder{fresh}},
		"nothing runs, IDs were lost":      {0, []ledger.Holder{lost}, nil},
		"a container lived on":             {1, []ledger.Holder{old}, []ledger.Holder{once(old)}},
		"a container lived on, ID lost":    {1, []ledger.Holder{lost}, []ledger.Holder{lost}},
		"one lived on, one is new":         {2, []ledger.Holder{old, fresh}, []ledger.Holder{once(old), fresh}},
		"the one that runs is the new one": {1, []ledger.Holder{old, fresh}, []ledger.Holder{fresh}},
		"one of two lived on":              {1, []ledger.Holder{older, old}, []ledger.Holder{once(old)}},
	} {
		if got := plugin.Settle(c.holders, dockerd(2), c.running); !slices.Equal(got, c.expected) {
			t.Errorf("%s: got %v, want %v", name, got, c.expected)
		}
	}
}

// Other clients of the socket, such as curl, are nobody.
func TestAProcessThatIsNoDockerdIsNobody(t *testing.T) {
	p, err := process.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if plugin.Alive(ledger.Instance{PID: p.PID, Start: p.Start}) {
		t.Errorf("%s counts as a dockerd that runs", p.Command)
	}
}
