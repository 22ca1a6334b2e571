package main_test

import (
	"strings"
	"testing"
	"time"

	command "github.com/mooring-sh/mooring/cmd/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

func layouttestDigest(content string) registry.Digest { return registry.DigestOf([]byte(content)) }

// Whoever waits sees how far it is, how long still, and what is wrong already; a log does not fill up with it.
func TestImagesProgress(t *testing.T) {
	steps := []images.Progress{
		{What: "looking at the storage"},
		{What: "reading the images' manifests", Done: 256, All: 1000},
		{What: "hashing", All: 20, AllBytes: 4e9},
		{What: "hashing", Done: 10, All: 20, Bytes: 1e9, AllBytes: 4e9, Left: 90 * time.Second, Wrong: 2},
	}
	var terminal, log strings.Builder
	for _, out := range []struct {
		to    *strings.Builder
		width int
	}{{&terminal, 100}, {&log, 0}} {
		p, tick := command.NewImagesProgress(out.to, out.width)
		for _, s := range steps {
			tick(200 * time.Millisecond)
			p(s)
		}
		tick(20 * time.Millisecond)
		p(steps[3]) // too soon to be drawn
	}
	wantTerminal := "\r\x1b[K+00:00  looking at the storage\r\x1b[K+00:00  reading the images' manifests 256 of 1000" +
		"\r\x1b[K+00:01 [....................] hashing 0 B of 4 GB\r\x1b[K+00:01 [#####...............] hashing 1 GB of 4 GB, 1m30s to go, 2 wrong so far"
	if terminal.String() != wantTerminal {
		t.Errorf("terminal: got  %q\nwant %q", terminal.String(), wantTerminal)
	}
	wantLog := "+00:00  looking at the storage\n+00:00  reading the images' manifests 256 of 1000\n+00:01  hashing 0 B of 4 GB\n"
	if log.String() != wantLog {
		t.Errorf("log: got  %q\nwant %q", log.String(), wantLog)
	}
}
