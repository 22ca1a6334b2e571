package powercut_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/powercut"
)

// inPlace writes a link as registries before 3.1 do.
func inPlace(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteString(text)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// beside writes a link as registries from 3.1 on do.
func beside(path, text string) error {
	if err := inPlace(path+".tmp", text); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// What the experiment finds has one cause: a link that is there is written in place. Written beside and renamed, none is lost.
func TestLinkIsEmptyAfterACutBecauseItIsWrittenInPlace(t *testing.T) {
	cuts := setting(t, "CUTS", 5)
	for _, fs := range filesystems() {
		for name, write := range map[string]func(path, text string) error{"in place": inPlace, "beside": beside} {
			t.Run(fs.String()+" "+name, func(t *testing.T) {
				lost, writes, took := rewrite(t, fs, write, cuts)
				t.Logf("%d of %d cuts found an empty link; %.0f writes/s", lost, cuts, float64(writes)/took.Seconds())
				if name == "beside" && lost > 0 {
					t.Errorf("%d of %d cuts found an empty link; want none", lost, cuts)
				}
			})
		}
	}
}

// rewrite has eight links written again and again, and cuts the power meanwhile. It returns after how many cuts one of them did not say what it always says.
func rewrite(t *testing.T, fs powercut.Filesystem, write func(path, text string) error, cuts int) (lost int, writes int64, took time.Duration) {
	t.Helper()
	d, err := newShelf(t).NewDisk(t.Context(), "links", fs)
	if err != nil {
		t.Fatal(err)
	}
	text := string(digest("what every link says"))
	paths := make([]string, 8)
	for n := range paths {
		paths[n] = filepath.Join(d.Dir, "link"+strconv.Itoa(n))
		if err := write(paths[n], text); err != nil {
			t.Fatal(err)
		}
	}
	if err := syncDir(d.Dir); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	var stop atomic.Bool
	var n atomic.Int64
	defer func() {
		stop.Store(true)
		writers.Wait()
		if err := d.Discard(); err != nil {
			t.Error(err)
		}
	}()
	for _, path := range paths {
		writers.Go(func() {
			for !stop.Load() {
				if err := write(path, text); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	began := time.Now()
	for range cuts {
		if emptied(t, d, text) {
			lost++
		}
	}
	return lost, n.Load(), time.Since(began)
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// emptied cuts the power once and says whether a link is lost.
func emptied(t *testing.T, d *powercut.Disk, text string) (lost bool) {
	t.Helper()
	c, err := d.Cut("cut")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(filepath.Join(c.Dir, "link?"))
	if err != nil || len(links) != 8 {
		t.Fatalf("%d links, error %v; want 8", len(links), err)
	}
	for _, link := range links {
		got, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case string(got) == text:
		case strings.Trim(string(got), "\x00") == "":
			lost = true
		default:
			t.Errorf("%s says %q; want what it always says, or nothing", link, got)
		}
	}
	if err := c.Discard(); err != nil {
		t.Fatal(err)
	}
	return lost
}
