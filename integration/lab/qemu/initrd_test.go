package qemu_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/qemu"
)

// The kernel looks for the second archive at a multiple of four bytes, whatever the length of the first.
func TestPackedInitrdIsTheBaseAndTheAgent(t *testing.T) {
	dir := t.TempDir()
	base, program, out := filepath.Join(dir, "base"), filepath.Join(dir, "agent"), filepath.Join(dir, "out")
	for _, size := range []int{1, 4, 7} {
		content := []byte("#!static\n")[:size]
		for _, file := range []string{base, program} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := qemu.PackInitrd(base, program, out); err != nil {
			t.Fatal(err)
		}
		packed, err := os.ReadFile(out)
		if err != nil || !bytes.HasPrefix(packed, content) {
			t.Fatalf("got %q, %v, want the base first", packed, err)
		}
		files := entries(t, packed[(size+3)/4*4:])
		if got := files["mooring-agent"]; got.mode != 0o100755 || !bytes.Equal(got.content, content) {
			t.Errorf("got mode %o and %q, want 100755 and %q", got.mode, got.content, content)
		}
		if _, ok := files["TRAILER!!!"]; !ok || len(packed)%4 != 0 {
			t.Errorf("got %d bytes with %v, want a whole archive", len(packed), files)
		}
	}
	if err := qemu.PackInitrd(filepath.Join(dir, "none"), program, out); err == nil {
		t.Error("a base that is missing: got no error")
	}
}

type entry struct {
	mode    int64
	content []byte
}

// entries reads an archive as cpio(5) describes it.
func entries(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	files := map[string]entry{}
	for at := 0; at < len(archive); {
		field := func(i int) int {
			n, err := strconv.ParseInt(string(archive[at+6+8*i:][:8]), 16, 64)
			if err != nil || string(archive[at:at+6]) != "070701" {
				t.Fatalf("no header at %d of %q: %v", at, archive, err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		name := string(archive[at+110:][:nameSize-1])
		start := (at + 110 + nameSize + 3) / 4 * 4
		files[name] = entry{int64(field(1)), archive[start:][:size]}
		at = (start + size + 3) / 4 * 4
	}
	return files
}
