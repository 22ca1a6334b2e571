package cpio_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/cpio"
)

// The lab appends an archive with the agent to the image's: so it must end where another may begin. It is unpacked by a program that is not ours.
func TestArchiveIsUnpackedByBusybox(t *testing.T) {
	t.Parallel()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("needs busybox-static: ", err)
	}
	dir := t.TempDir()
	for i, entries := range [][]cpio.Entry{
		{{Path: "bin", Mode: fs.ModeDir | 0o755}, {Path: "bin/a", Mode: 0o755, Content: []byte("abc")}, {Path: "empty", Mode: 0o600}},
		{{Path: "mooring-agent", Mode: 0o755, Content: bytes.Repeat([]byte("x"), 4097)}},
	} {
		var archive bytes.Buffer
		if err := cpio.Write(&archive, entries); err != nil {
			t.Fatal(err)
		}
		if archive.Len()%4 != 0 {
			t.Errorf("archive %d has %d bytes; want a multiple of four, so that another may follow", i, archive.Len())
		}
		cmd := exec.CommandContext(t.Context(), busybox, "cpio", "-i")
		cmd.Dir, cmd.Stdin = dir, &archive
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("unpack: %v\n%s", err, out)
		}
	}
	for name, want := range map[string]struct {
		mode fs.FileMode
		size int64
	}{"bin/a": {0o755, 3}, "empty": {0o600, 0}, "mooring-agent": {0o755, 4097}} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != want.mode || info.Size() != want.size {
			t.Errorf("%s: %s with %d bytes; want %s with %d", name, info.Mode(), info.Size(), want.mode, want.size)
		}
	}
}
