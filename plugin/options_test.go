package plugin_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/plugin"
)

func TestParseOptions(t *testing.T) {
	spec, given, err := plugin.ParseOptions("vsanvol3", map[string]string{"size": "20GB", "fstype": "xfs", "vsan-policy-name": "SW=2"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (mooring.Spec{Name: "vsanvol3", Size: 20 * mooring.GB, FSType: mooring.XFS, Policy: "SW=2"}); spec != want {
		t.Errorf("spec: got %+v, want %+v", spec, want)
	}
	if given != (mooring.Given{Size: true, FSType: true, Policy: true}) {
		t.Errorf("given: got %+v", given)
	}
}

func TestParseOptionsDefaults(t *testing.T) {
	spec, given, err := plugin.ParseOptions("Volume-你 ok", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (mooring.Spec{Name: "Volume-你 ok", Size: 10 * mooring.GB, FSType: mooring.Ext4}); spec != want || given != (mooring.Given{}) {
		t.Errorf("got %+v, %+v, want %+v", spec, given, want)
	}
}

// G11: the user sees all that is wrong at once, with the option, its value and what is allowed.
func TestG11AllOptionErrorsAtOnce(t *testing.T) {
	_, _, err := plugin.ParseOptions("a/b", map[string]string{"size": "10gib", "fstype": "ntfs", "sizes": "1gb", "vsan-policy-name": " "})
	if !errors.Is(err, mooring.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	for _, want := range []string{`"a/b"`, `size "10gib"`, "such as 10gb", `fstype="ntfs"`, "ext4 and xfs", `sizes="1gb"`, "allowed are size, fstype and vsan-policy-name", "mooring policy ls"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %s:\n%v", want, err)
		}
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, c := range []struct{ name, key, value string }{
		{"ok", "size", "100mbb"},
		{"ok", "size", "100gbEE"},
		{"ok", "size", "10"},
		{"ok", "size", "0mb"},
		{"ok", "size", "19mb"},
		{"ok", "size", "63tb"},
		{"ok", "size", "99999999999999999999gb"},
		{"ok", "size", "1.5gb"},
		{"ok", "fstype", "xfs_ext"},
		{"ok", "fstype", ""},
		{"ok", "access", "read-write-both"},
		{"x", "size", "1gb"},
		{"Volume-000000", "size", "1gb"},
		{"x@ds", "size", "1gb"},
		{strings.Repeat("x", 101), "size", "1gb"},
	} {
		if _, _, err := plugin.ParseOptions(c.name, map[string]string{c.key: c.value}); !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%s -o %s=%s: got %v, want ErrInvalid", c.name, c.key, c.value, err)
		}
	}
	if _, _, err := plugin.ParseOptions("ok", map[string]string{"size": "100mb", "fstype": "xfs"}); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("small xfs: got %v, want ErrInvalid", err)
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("db", "size", "10gb")
	f.Add("Volume-0000000-****-###", "fstype", "xfs")
	f.Fuzz(func(t *testing.T, name, key, value string) {
		spec, _, err := plugin.ParseOptions(name, map[string]string{key: value})
		if (err == nil) == (spec == mooring.Spec{}) {
			t.Errorf("%q %q=%q: got %+v with %v", name, key, value, spec, err)
		}
		if err == nil && (spec.Size < mooring.MinSize || spec.Size > mooring.MaxSize || string(spec.Name) != name) {
			t.Errorf("%q %q=%q: got %+v", name, key, value, spec)
		}
	})
}
