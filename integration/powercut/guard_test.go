package powercut_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// guard is Mooring, which keeps its manifest of one disk elsewhere.
type guard struct {
	dir string
}

// guards returns what makes a guard for each disk.
func guards(t *testing.T) func() powercut.Guard {
	t.Helper()
	dir, n := t.TempDir(), 0
	return func() powercut.Guard {
		n++
		return guard{filepath.Join(dir, strconv.Itoa(n))}
	}
}

func (g guard) records() string { return filepath.Join(g.dir, "records") }

func (g guard) Refresh(ctx context.Context, dir string) error {
	return with(images.Setup{Storage: dir, Records: g.records(), LookOnly: true}, func(p *images.Prover) error {
		_, err := p.Refresh(ctx)
		return err
	})
}

// Verify judges with a copy of the records: to the disk that goes on, nothing has happened.
func (g guard) Verify(ctx context.Context, dir string) (r powercut.Repaired, err error) {
	s := images.Setup{Storage: dir}
	if _, err := os.Stat(g.records()); err == nil {
		s.Records = filepath.Join(g.dir, "copy")
		if err := os.CopyFS(s.Records, os.DirFS(g.records())); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.Records)) }()
	}
	return r, with(s, func(p *images.Prover) error {
		v, err := p.Verify(ctx, nil)
		for _, note := range v.Notes {
			switch {
			case strings.Contains(note, "it was made anew"):
				r.Links++
			case strings.Contains(note, "it was moved aside"):
				r.Aside++
			}
		}
		for _, f := range v.Findings {
			text := fmt.Sprintf("%s %s:%s %s: %s", f.Kind, f.Repository, f.Tag, f.Digest.Short(), f.Text)
			if f.Unfinished {
				r.Unfinished = append(r.Unfinished, text)
			} else {
				r.Findings = append(r.Findings, text)
			}
		}
		return err
	})
}

// with calls do with a prover.
func with(s images.Setup, do func(*images.Prover) error) error {
	p, err := images.NewProver(s)
	if err != nil {
		return err
	}
	return errors.Join(do(p), p.Close())
}
