package mooring_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
)

// The ancestor's names go on working, but those that collide with vSphere's own files or name a datastore.
func TestParseName(t *testing.T) {
	for _, name := range []string{
		"vsanvol1", "Volume-0000000-****-###", "Volume-00000", "Volume-0000000", "Volume Space", "Volume-你", "a.b", "flat", strings.Repeat("x", 100),
	} {
		if got, err := mooring.ParseName(name); err != nil || string(got) != name {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"", "x", strings.Repeat("x", 101), strings.Repeat("你", 90), "Volume-000000", "volume/abc", `volume\abc`, "vol@ds", "@ds", " a", "a ", ".a", "a.", "..",
		"a\nb", "a\x00b", `a"b`, "a\xffb", "db-flat", "db-delta", "db-ctk",
	} {
		if _, err := mooring.ParseName(name); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: got %v, want ErrInvalid naming it", name, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]mooring.Size{"20mb": 20 << 20, "10gb": 10 << 30, "2TB": 2 << 40, "1024Mb": 1 << 30, "62tb": 62 << 40} {
		if got, err := mooring.ParseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "gb", "10 gb", "10g", "1.5gb", "-1gb", "19mb", "63tb", "99999999999999999999tb", "14000pb"} {
		if got, err := mooring.ParseSize(text); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%s: got %d, %v, want ErrInvalid", text, got, err)
		}
	}
	for size, want := range map[mooring.Size]string{0: "0b", 1000: "1000b", 20 << 20: "20mb", 1536 << 20: "1536mb", 1 << 30: "1gb", 1 << 40: "1tb"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
}

// What is printed parses to the same size.
func FuzzSize(f *testing.F) {
	f.Add("10gb")
	f.Add("1024mb")
	f.Fuzz(func(t *testing.T, text string) {
		size, err := mooring.ParseSize(text)
		if err != nil {
			return
		}
		if again, err := mooring.ParseSize(size.String()); err != nil || again != size {
			t.Errorf("%q: %d prints as %s, which parses to %d, %v", text, size, size, again, err)
		}
	})
}

// A disk's UUID is spelt in three ways: by the API, by a VMDK's descriptor, and by the guest's link.
func TestDiskID(t *testing.T) {
	const want = mooring.DiskID("6000c29d-4c2b-178d-8e1a-0123456789ab")
	for _, text := range []string{"6000C29d-4c2b-178d-8e1a-0123456789ab", "60 00 C2 9d 4c 2b 17 8d-8e 1a 01 23 45 67 89 ab", "6000c29d4c2b178d8e1a0123456789ab"} {
		if got, err := mooring.ParseDiskID(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "6000c29d", "6000c29d-4c2b-178d-8e1a-0123456789ag", "6000c29d-4c2b-178d-8e1a-0123456789ab00"} {
		if got, err := mooring.ParseDiskID(text); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%s: got %s, %v, want ErrInvalid", text, got, err)
		}
	}
	if got := want.WWN(); got != "wwn-0x6000c29d4c2b178d8e1a0123456789ab" {
		t.Errorf("link: got %s", got)
	}
}

func TestBacking(t *testing.T) {
	b := mooring.NewBacking("vsanDatastore", "dockvols/default/a b].vmdk")
	if b != "[vsanDatastore] dockvols/default/a b].vmdk" || b.Datastore() != "vsanDatastore" || b.File() != "dockvols/default/a b].vmdk" {
		t.Errorf("got %s: %s, %s", b, b.Datastore(), b.File())
	}
	if got := b.Folder(); got != "[vsanDatastore] dockvols/default" {
		t.Errorf("folder: got %s", got)
	}
	if bad := mooring.Backing("nonsense"); bad.Datastore() != "" || bad.File() != "" {
		t.Errorf("nonsense: got %q, %q", bad.Datastore(), bad.File())
	}
}

// Scripts rely on exit codes, however deep the sentinel lies.
func TestExitCode(t *testing.T) {
	for err, want := range map[error]int{
		nil: 0, errors.New("unforeseen"): 1, mooring.ErrInvalid: 2, mooring.ErrNotFound: 10, mooring.ErrExists: 11, mooring.ErrInUse: 12,
		mooring.ErrFenced: 13, mooring.ErrPolicy: 14, mooring.ErrCapacity: 15, mooring.ErrCorrupt: 16, mooring.ErrUnavailable: 75,
	} {
		if got := mooring.ExitCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
		if err == nil {
			continue
		}
		deep := &mooring.VolumeError{Op: "remove", Name: "db", Err: &mooring.HintError{Err: fmt.Errorf("held: %w", err), Hint: "docker ps"}}
		if got := mooring.ExitCode(deep); got != want {
			t.Errorf("%v: got %d, want %d", deep, got, want)
		}
	}
}
