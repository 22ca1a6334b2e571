package failover_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/failover/record"
)

func buildWriter(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "writer")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./writer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the writer: %v\n%s", err, out)
	}
	return binary
}

func dumped(t *testing.T, writer, dir string) failover.Contents {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), writer, "dump", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("dump: %v\n%s", err, out)
	}
	c, err := failover.ParseDump(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return c[dir]
}

// A writer that is killed goes on where its log ends, cuts what a crash left there, and refuses a log that has lost something.
func TestWriterGoesOnWhereItsLogEnds(t *testing.T) {
	writer, dir := buildWriter(t), t.TempDir()
	log := filepath.Join(dir, record.LogFile)
	var last uint64
	for range 3 {
		cmd := exec.CommandContext(t.Context(), writer, "write", dir, "db", "1ms")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); ; {
			info, err := os.Stat(log)
			if err == nil && uint64(info.Size())/record.Size > last+record.Round {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the writer does not write")
			}
			<-time.After(5 * time.Millisecond)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		c := dumped(t, writer, dir)
		if !c.Whole || len(c.Bad) > 0 || c.Last <= last || c.Mark.Seq == 0 || len(c.Blocks) == 0 {
			t.Fatalf("after %d records: got last %d, mark %d, blocks %d, bad %q", last, c.Last, c.Mark.Seq, len(c.Blocks), c.Bad)
		}
		last = c.Last
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("half a record"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(log, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 100), 10*record.Size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if c := dumped(t, writer, dir); len(c.Bad) != 1 {
		t.Errorf("bad: got %q, want one", c.Bad)
	}
	cmd := exec.CommandContext(t.Context(), writer, "write", dir, "db", "1ms")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("a writer on a damaged log: got %v, want status 3\n%s", err, out)
	}
}
