package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/cache"
)

func in(dir string, say io.Writer) cache.Cache { return cache.Cache{Dir: dir, Say: say} }

// writes is a build that leaves a file with that content.
func writes(content string) func(context.Context, string) error {
	return func(_ context.Context, scratch string) error {
		return os.WriteFile(filepath.Join(scratch, "root.img"), []byte(content), 0o600)
	}
}

// never is a build that must not be begun.
func never(t *testing.T) func(context.Context, string) error {
	t.Helper()
	return func(context.Context, string) error {
		t.Error("built; want the image in the cache")
		return nil
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestImageIsBuiltOnceAndAgainWhenItsRecipeChanges(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there")
	first, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", writes("one"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", never(t))
	if err != nil || again != first {
		t.Errorf("%s, %v; want %s", again, err, first)
	}
	changed, err := in(dir, io.Discard).Get(t.Context(), "trixie", "2", writes("two"))
	if err != nil {
		t.Fatal(err)
	}
	for home, want := range map[string]string{first: "one", changed: "two"} {
		if got, err := os.ReadFile(filepath.Join(home, "root.img")); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v; want %q", home, got, err, want)
		}
	}
}

// Half an image boots into something that looks like a bug of the product.
func TestFailedBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	failed := errors.New("no space left")
	_, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", func(ctx context.Context, scratch string) error {
		return errors.Join(writes("half")(ctx, scratch), failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("error %v; want %v", err, failed)
	}
	if got := names(t, dir); got != "trixie.lock" {
		t.Errorf("the cache holds %s; want the lock alone", got)
	}
	if _, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", writes("whole")); err != nil {
		t.Errorf("the next build: %v", err)
	}
}

func TestWhatAKilledBuilderLeftGoesWithTheNextBuildOfItsSuite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, left := range []string{"trixie.building-1/tree/proc", "bookworm.building-2/tree"} {
		if err := os.MkdirAll(filepath.Join(dir, left), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", writes("one")); err != nil {
		t.Fatal(err)
	}
	// The other one perhaps belongs to a builder that is at work.
	if got, want := names(t, dir), "bookworm.building-2 trixie-1 trixie.lock"; got != want {
		t.Errorf("the cache holds %s; want %s", got, want)
	}
}

func TestImageThatNobodyAsksForGoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, key := range []string{"old", "asked"} {
		home, err := in(dir, io.Discard).Get(t.Context(), "trixie", key, writes(key))
		if err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-cache.Unused - time.Hour)
		if err := os.Chtimes(home, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in(dir, io.Discard).Get(t.Context(), "trixie", "asked", never(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := in(dir, io.Discard).Get(t.Context(), "trixie", "new", writes("new")); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), "trixie-asked trixie-new trixie.lock"; got != want {
		t.Errorf("the cache holds %s; want %s", got, want)
	}
}

func TestTwoBuildersOfOneImageBuildItOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var builds atomic.Int32
	build := func(ctx context.Context, scratch string) error {
		if builds.Add(1) == 1 {
			close(begun)
		}
		<-goOn
		return writes("one")(ctx, scratch)
	}
	var said bytes.Buffer
	var all sync.WaitGroup
	get := func(say io.Writer) {
		if _, err := in(dir, say).Get(t.Context(), "trixie", "1", build); err != nil {
			t.Error(err)
		}
	}
	all.Go(func() { get(io.Discard) })
	<-begun
	all.Go(func() { get(&releases{Writer: &said, release: goOn}) })
	all.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("%d builds; want one", n)
	}
	if !strings.Contains(said.String(), "somebody else is building it") {
		t.Errorf("the second builder said %q; want that it waits", said.String())
	}
}

// releases lets the first builder go on once the second one has said that it waits.
type releases struct {
	io.Writer
	release chan struct{}
	once    sync.Once
}

func (r *releases) Write(p []byte) (int, error) {
	defer r.once.Do(func() { close(r.release) })
	return r.Writer.Write(p)
}

func TestWaitForAnotherBuilderEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := in(dir, io.Discard).Get(t.Context(), "trixie", "1", func(ctx context.Context, _ string) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := in(dir, io.Discard).Get(ctx, "trixie", "2", never(t))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want %v", err, context.Canceled)
	}
}

func TestCacheDirectoryIsTheEnvironments(t *testing.T) {
	t.Setenv("MOORING_LAB_CACHE", "/somewhere")
	if got := cache.Default(); got != "/somewhere" {
		t.Errorf("cache %s; want /somewhere", got)
	}
	t.Setenv("MOORING_LAB_CACHE", "")
	if got := cache.Default(); got != "/var/cache/mooring-lab" {
		t.Errorf("cache %s; want /var/cache/mooring-lab", got)
	}
}
