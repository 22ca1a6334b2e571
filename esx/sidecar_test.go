package esx_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

func described() mooring.Volume {
	vol := volume(1)
	vol.FSType, vol.Policy, vol.FSUUID = mooring.XFS, "SW=2", "0f8fad5b-d9cb-469f-a165-70867728950e"
	vol.Format, vol.CreatedBy = mooring.FormatNone, "docker1"
	vol.Created = time.Unix(1_700_000_000, 0).UTC()
	vol.Labels = map[string]string{"app": "harbor", "odd": "\u2028<&>\x00"}
	return vol
}

func TestSidecarSaysWhatWasWritten(t *testing.T) {
	for _, vol := range []mooring.Volume{described(), {Format: mooring.FormatNone}, {}} {
		file, err := esx.Encode(vol)
		if err != nil {
			t.Fatal(err)
		}
		got, err := esx.Decode(file)
		if err != nil || !reflect.DeepEqual(got, vol) {
			t.Errorf("got %+v, %v, want %+v", got, err, vol)
		}
	}
}

// A sidecar decides whether a disk may be formatted. One that is torn or touched must not be believed in any part.
func TestTornOrChangedSidecarIsNotBelieved(t *testing.T) {
	file, err := esx.Encode(described())
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(file) - 1 { // the last byte is the newline
		if _, err := esx.Decode(file[:n]); !errors.Is(err, esx.ErrSidecar) {
			t.Fatalf("cut after %d bytes: got %v", n, err)
		}
	}
	for i := bytes.Index(file, []byte(`"volume"`)) + 10; i < len(file)-3; i++ {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		if _, err := esx.Decode(changed); !errors.Is(err, esx.ErrSidecar) {
			t.Fatalf("byte %d changed to %q: got %v", i, changed[i], err)
		}
	}
	for _, other := range []string{"", "null", "{}", `{"size":"10gb"}`, `{"version":2,"sha256":"","volume":{}}`} {
		if _, err := esx.Decode([]byte(other)); !errors.Is(err, esx.ErrSidecar) {
			t.Errorf("%q: got %v", other, err)
		}
	}
}

// Whatever lies beside a disk is refused, or says the same when it is written again. sealed puts the bytes into a file with a right checksum, behind which nothing
// would be found otherwise.
func FuzzSidecar(f *testing.F) {
	file, err := esx.Encode(described())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file, false)
	f.Add([]byte(`{"name":"db","size":1,"fstype":"ext4","backing":"[ds] a","disk":"","format":"none","created":"2026-01-02T03:04:05+01:00","labels":{}}`), true)
	f.Fuzz(func(t *testing.T, file []byte, sealed bool) {
		if sealed {
			file = fmt.Appendf(nil, `{"version":1,"sha256":"%x","volume":%s}`, sha256.Sum256(file), file)
		}
		vol, err := esx.Decode(file)
		if err != nil {
			if !errors.Is(err, esx.ErrSidecar) {
				t.Fatalf("got %v, want errSidecar", err)
			}
			return
		}
		once, err := esx.Encode(vol)
		if err != nil {
			t.Fatal(err)
		}
		again, err := esx.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := esx.Encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("got %s, %v, want %s", twice, err, once)
		}
	})
}

func TestChosenFilesystemUUIDsAreRandomAndWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := esx.NewFSUUID(), esx.NewFSUUID()
	if a == b || !form.MatchString(string(a)) {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestDifferencesNameEveryOptionThatWasGiven(t *testing.T) {
	vol := mooring.Volume{Spec: mooring.Spec{Name: "db", Size: mooring.GB, FSType: mooring.Ext4}, Backing: "[ds] dockvols/default/db.vmdk"}
	asked := mooring.Spec{Name: "db", Size: 2 * mooring.GB, FSType: mooring.XFS, Policy: "SW=2"}
	for _, c := range []struct {
		given mooring.Given
		want  string
	}{
		{mooring.Given{}, ""},
		{mooring.Given{Size: true}, "volume db on ds: size is 1gb, asked for is 2gb: exists already"},
		{
			mooring.Given{Size: true, FSType: true, Policy: true},
			"volume db on ds: size is 1gb, asked for is 2gb; fstype is ext4, asked for is xfs; storage policy is unknown, asked for is SW=2: exists already",
		},
	} {
		err := esx.Differences(vol, asked, c.given)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, mooring.ErrExists) || err.Error() != c.want) {
			t.Errorf("%+v: got %v, want %s", c.given, err, c.want)
		}
	}
	if err := esx.Differences(vol, vol.Spec, mooring.Given{Size: true, FSType: true}); err != nil {
		t.Errorf("got %v for what the volume is", err)
	}
}

// SMBIOS before 2.6 and after, vSphere and guests' kernels disagree about the byte order of the first three fields.
func TestBIOSUUIDIsTriedInBothByteOrders(t *testing.T) {
	want := []string{"423c5dc2-8a03-a7f4-3ed5-0102030405ff", "c25d3c42-038a-f4a7-3ed5-0102030405ff"}
	for _, s := range []string{"423C5DC2-8A03-A7F4-3ED5-0102030405FF\n", "423c5dc28a03a7f43ed50102030405ff"} {
		if got, err := esx.UUIDForms(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	if _, err := esx.UUIDForms("VMware-42 3c"); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
