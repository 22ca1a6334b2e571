package images_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// BenchmarkQuickTiers is tiers 1 and 2 of 10,000 images with 100,000 blobs that nobody has written to since, from a warm cache, beside the walk of the same tree that they begin with.
func BenchmarkQuickTiers(b *testing.B) {
	s := layouttest.New(b)
	s.Fill(layouttest.Scale{Repositories: 100, Images: 10_000, Layers: 8, LayerSize: 100, Seed: 7})
	p, err := images.NewProver(images.Setup{Storage: s.Dir, Records: b.TempDir(), Commit: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if _, err := p.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("walk", func(b *testing.B) {
		storage, err := layout.Open(s.Dir)
		if err != nil {
			b.Fatal(err)
		}
		defer countCPU(b)()
		for b.Loop() {
			if _, err := storage.Scan(b.Context(), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		defer countCPU(b)()
		for b.Loop() {
			if v, err := p.Verify(b.Context(), nil); err != nil || v.Damaged() || v.Hashed > 10_000 {
				b.Fatal(v, err)
			}
		}
	})
	b.Run("refresh", func(b *testing.B) {
		defer countCPU(b)()
		for b.Loop() {
			if _, err := p.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// countCPU reports how much of the processors an operation took, whatever else the machine does.
func countCPU(b *testing.B) func() {
	b.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Milliseconds())/float64(b.N), "cpu-ms/op") }
}
