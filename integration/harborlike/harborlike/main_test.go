package main_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"

	main "github.com/mooring-sh/mooring/integration/harborlike/harborlike"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
)

// closed returns an address at which nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// Scripts go by the exit status.
func TestExitStatusSaysWhatCameOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := push.Record{State: push.Acknowledged, Repository: "a", Tag: "v1", Manifest: push.Blob{Digest: "sha256:1", Size: 1}}
	var lines bytes.Buffer
	if err := push.WriteRecord(&lines, record); err != nil {
		t.Fatal(err)
	}
	one, none := filepath.Join(dir, "one"), filepath.Join(dir, "none")
	for name, text := range map[string][]byte{one: lines.Bytes(), none: nil} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := "--registry=" + closed(t)
	for _, tt := range []struct {
		args   []string
		status int
		misses int // of the verdict; -1: none is printed
	}{
		{[]string{"pull", at, none}, 0, 0},
		{[]string{"pull", at, one}, 3, 2}, // the manifest, and the tag
		{[]string{"pull", at, filepath.Join(dir, "missing")}, 1, -1},
		{[]string{"push", at}, 1, -1},
		{[]string{"project", filepath.Join(dir, "project")}, 0, -1},
		{[]string{"project"}, 1, -1},
	} {
		var out, said bytes.Buffer
		if status := main.Execute(tt.args, &out, &said); status != tt.status {
			t.Errorf("%q: status %d; want %d: %s", tt.args, status, tt.status, said.String())
		}
		misses := -1
		if out.Len() > 0 {
			var v push.Verdict
			if err := json.Unmarshal(out.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			misses = len(v.Misses)
		}
		if misses != tt.misses {
			t.Errorf("%q: a verdict of %d misses; want %d", tt.args, misses, tt.misses)
		}
	}
}
