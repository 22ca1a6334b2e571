package guest_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

const chosen = mooring.FSUUID("3e6be9de-8139-41d1-9106-a43f08d823a6")

// contents are what may be found on a disk, by the names that the tables below use.
func contents() map[string]guest.Content {
	return map[string]guest.Content{
		"nothing": {Kind: guest.Nothing},
		"bytes":   {Kind: guest.Unexplained},
		"ours":    {Kind: guest.Filesystem, Type: "ext4", UUID: chosen},
		"other":   {Kind: guest.Filesystem, Type: "xfs", UUID: "00000000-0000-4000-8000-000000000000"},
		"foreign": {Kind: guest.Foreign, What: "a partition table (dos)"},
	}
}

// Each row is a sentence of the contract: what is done, per thing found: nothing, bytes, ours, ours with the mark, ours without, other, foreign.
func TestDecisionTable(t *testing.T) {
	columns := [...][2]string{
		{"nothing", ""}, {"bytes", ""}, {"ours", ""}, {"ours", "found"}, {"ours", "absent"}, {"other", ""}, {"foreign", ""},
	}
	for _, c := range []struct {
		name      string
		format    mooring.Format
		formatted bool
		chosen    mooring.FSUUID
		want      string
	}{
		{"never formatted", mooring.FormatNone, false, chosen, "mkfs refuse look open refuse refuse refuse"},
		{"formatting had begun", mooring.Formatting, false, chosen, "mkfs mkfs look open mkfs refuse refuse"},
		{"formatted once", mooring.FormatDone, false, chosen, "refuse refuse open open open refuse refuse"},
		{"no sidecar", mooring.FormatUnknown, false, "", "refuse refuse open open open open refuse"},
		{"adopted and known to be formatted", mooring.FormatDone, false, "", "refuse refuse open open open open refuse"},
		{"ledger over a sidecar that says never", mooring.FormatNone, true, chosen, "refuse refuse open open open refuse refuse"},
		{"ledger over a sidecar that says begun", mooring.Formatting, true, chosen, "refuse refuse open open open refuse refuse"},
		{"ledger, and no sidecar", mooring.FormatUnknown, true, "", "refuse refuse open open open open refuse"},
		{"no UUID chosen", mooring.FormatNone, false, "", "refuse refuse refuse refuse refuse refuse refuse"},
		{"no UUID chosen, formatting had begun", mooring.Formatting, false, "", "refuse refuse refuse refuse refuse refuse refuse"},
		{"a step of a newer Mooring", "growing", false, chosen, "refuse refuse refuse refuse refuse refuse refuse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, col := range columns {
				did, text := guest.Decide(c.format, c.formatted, c.chosen, contents()[col[0]], col[1])
				got = append(got, did)
				if why, cure, _ := strings.Cut(text, "; "); did == "refuse" && (why == "" || cure == "") {
					t.Errorf("%v is refused with %q: want a reason and a cure", col, text)
				}
			}
			if want := strings.Fields(c.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// Whatever comes together, mkfs needs a sidecar that allows it, a UUID chosen, and nothing found that could be anybody's.
func TestMkfsIsNeverAllowedOverWhatCouldBeData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]mooring.Format{"", mooring.FormatNone, mooring.Formatting, mooring.FormatDone, "x"}).Draw(t, "format")
		formatted := rapid.Bool().Draw(t, "formatted")
		uuid := rapid.SampledFrom([]mooring.FSUUID{"", chosen}).Draw(t, "chosen")
		found := rapid.SampledFrom([]string{"nothing", "bytes", "ours", "other", "foreign"}).Draw(t, "found")
		mark := rapid.SampledFrom([]string{"", "found", "absent"}).Draw(t, "mark")
		did, _ := guest.Decide(f, formatted, uuid, contents()[found], mark)
		killed := f == mooring.Formatting && (found == "bytes" || (found == "ours" && mark == "absent"))
		fresh := (f == mooring.FormatNone || f == mooring.Formatting) && found == "nothing"
		if allowed := !formatted && uuid != "" && (fresh || killed); (did == "mkfs") != allowed {
			t.Fatalf("got %s, want mkfs: %v", did, allowed)
		}
	})
}

func TestBlkidIsUnderstood(t *testing.T) {
	for _, c := range []struct {
		name string
		out  string
		code int
		want guest.Content
		text string
	}{
		{"nothing", "", 2, guest.Content{}, "nothing"},
		{
			"a filesystem", "DEVNAME=/dev/sdb\nUUID=3E6BE9DE-8139-41D1-9106-A43F08D823A6\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n", 0,
			guest.Content{Kind: guest.Filesystem, Type: "ext4", UUID: chosen},
			"a filesystem (ext4, UUID " + string(chosen) + ")",
		},
		{"a partition table", "DEVNAME=/dev/sdb\nPTTYPE=gpt\n", 0, guest.Content{Kind: guest.Foreign, What: "a partition table (gpt)"}, "a partition table (gpt)"},
		{"LVM", "TYPE=LVM2_member\nUSAGE=raid\n", 0, guest.Content{Kind: guest.Foreign, What: "a signature of type LVM2_member (raid)"}, "a signature of type LVM2_member (raid)"},
		{"LUKS", "TYPE=crypto_LUKS\nUSAGE=crypto\n", 0, guest.Content{Kind: guest.Foreign, What: "a signature of type crypto_LUKS (crypto)"}, "a signature of type crypto_LUKS (crypto)"},
		{"ambivalent", "", 8, guest.Content{Kind: guest.Foreign, What: "more than one signature"}, "more than one signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := guest.Interpret(c.out, c.code)
			if err != nil || got != c.want || got.String() != c.text {
				t.Errorf("got %+v (%s), %v, want %+v (%s)", got, got, err, c.want, c.text)
			}
		})
	}
	for _, code := range []int{1, 4, 127} {
		if _, err := guest.Interpret("no such thing", code); err == nil {
			t.Errorf("exit status %d is no error; it must not pass for an empty disk", code)
		}
	}
	if _, err := guest.Interpret("DEVNAME=/dev/sdb\n", 0); err == nil {
		t.Error("an answer that names nothing is no error; it must not pass for an empty disk")
	}
}

func TestWhatDockerGets(t *testing.T) {
	for _, c := range []struct {
		name               string
		marked, data, made bool
		want               guest.Opened
		err                error
	}{
		{"mark and data", true, true, true, guest.Opened{Dir: "/m/data"}, nil},
		{"mark and data, sidecar lost", true, true, false, guest.Opened{Dir: "/m/data"}, nil},
		{"no mark: adopted", false, false, false, guest.Opened{Dir: "/m", Root: true}, nil},
		{"no mark, a directory data by chance", false, true, false, guest.Opened{Dir: "/m", Root: true}, nil},
		{"mark without data", true, false, true, guest.Opened{}, mooring.ErrCorrupt},
		{"mark without data, sidecar lost", true, false, false, guest.Opened{}, mooring.ErrCorrupt},
		{"made by Mooring, mark lost", false, true, true, guest.Opened{}, mooring.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := guest.HandOut(c.marked, c.data, c.made); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestMkfsCommands(t *testing.T) {
	for fs, want := range map[mooring.FSType]string{
		mooring.Ext4: "[mkfs.ext4 -q -F -E nodiscard -U " + string(chosen) + " /dev/sdb]",
		mooring.XFS:  "[mkfs.xfs -q -f -K -m uuid=" + string(chosen) + " /dev/sdb]",
	} {
		vol := mooring.Volume{Spec: mooring.Spec{FSType: fs}, FSUUID: chosen}
		if got, err := guest.MkfsCommand(vol, "/dev/sdb"); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", fs, got, err, want)
		}
	}
	vol := mooring.Volume{Spec: mooring.Spec{FSType: "ntfs"}, FSUUID: chosen}
	if _, err := guest.MkfsCommand(vol, "/dev/sdb"); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("ntfs: %v, want ErrInvalid saying what is allowed", err)
	}
}

// A check of a large filesystem takes minutes; whoever waits sees it move, and never back.
func TestProgressOfACheckIsReadFromItsPasses(t *testing.T) {
	in := "1 0 4 /dev/sdb\n1 2 4 /dev/sdb\nnoise\n1 4 4 /dev/sdb\n2 1 2 /dev/sdb\n9 1 2 /dev/sdb\n3 0 0 /dev/sdb\n5 3 3 /dev/sdb\n"
	got := guest.ReadProgress(strings.NewReader(in))
	if want := []int{0, 35, 70, 80, 100}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
