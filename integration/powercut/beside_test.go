package powercut_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
)

// rehashEnv names the storage that this binary rehashes again and again, as the supervisor does, until it is killed.
const rehashEnv = "MOORING_TEST_REHASH"

// BenchmarkPushesBesideRehash compares pushes to a registry while tier 3 hashes what else it has, at the pace of the supervisor's default configuration, with the same pushes to the registry alone, by turns.
// The other side of the 10 % that is allowed to be lost is 1.10.
//
//	MEASURE=1 TMPDIR=/var/tmp go test -run '^$' -bench PushesBesideRehash -benchtime 9x ./integration/powercut    4 GB; else 0.3 GB
func BenchmarkPushesBesideRehash(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: the tests of this package run in namespaces of their own")
	}
	dir := b.TempDir()
	scale := layouttest.Scale{Repositories: 1, Images: 4, Layers: 8, LayerSize: 10 << 20}
	if os.Getenv("MEASURE") != "" {
		scale.Images = 50
	}
	layouttest.At(b, dir).Fill(scale)
	address, stop, err := powercut.Serve(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	registry := push.New(address, time.Minute)
	load := push.Load{Pushers: 4, Images: 25, Layers: 3, LayerSize: 1 << 20}
	pushes := func() time.Duration {
		load.Seed++ // nothing that it has
		load.Prefix = fmt.Sprintf("library/load-%d-", load.Seed)
		begun := time.Now()
		if err := registry.Run(b.Context(), load, func(push.Record) error { return nil }, func(err error) error { return err }); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	pushes() // the first ones
	var alone, beside []time.Duration
	for b.Loop() {
		alone = append(alone, pushes())
		end := rehashBeside(b, dir)
		beside = append(beside, pushes())
		end()
	}
	slices.Sort(alone)
	slices.Sort(beside)
	b.ReportMetric(alone[len(alone)/2].Seconds(), "alone-s")
	b.ReportMetric(beside[len(beside)/2].Seconds(), "beside-s")
	b.ReportMetric(beside[len(beside)/2].Seconds()/alone[len(alone)/2].Seconds(), "beside/alone")
	b.ReportMetric(0, "ns/op") // a turn of both says nothing
}

// rehashBeside has another process rehash the storage until end is called. A process of its own, for it is one in the product: its threads of SCHED_IDLE keep its own garbage collector waiting.
func rehashBeside(b *testing.B, dir string) (end func()) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), rehashEnv+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		b.Fatalf("rehash %s: %v", dir, err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}

// rehashForEver rehashes the storage in dir at the supervisor's default pace, once it has said so, and returns only if that fails.
func rehashForEver(dir string, said io.Writer) error {
	s, err := layout.Open(dir)
	if err != nil {
		return err
	}
	snap, err := s.Scan(context.Background(), 0)
	if err != nil {
		return err
	}
	var all []layout.Blob
	for _, blob := range snap.Blobs {
		all = append(all, blob)
	}
	if _, err := fmt.Fprintln(said, "ready"); err != nil {
		return err
	}
	for {
		wrong := error(nil)
		err := s.Rehash(context.Background(), all, layout.Pace{Direct: true, Idle: true, BytesPerSecond: 100e6}, func(h layout.Hashed) {
			if h.Err != nil {
				wrong = h.Err
			}
		})
		if err != nil || wrong != nil {
			return errors.Join(err, wrong)
		}
	}
}
