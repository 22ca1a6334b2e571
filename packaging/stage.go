package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// layOut puts everything that is the same for all architectures where nfpm.yaml looks for it.
func (b *build) layOut(ctx context.Context) error {
	for _, file := range []string{
		"nfpm.yaml", "mooring.yaml", "supervisor.yaml", "mooring-plugin.socket", "mooring-plugin.service", "mooring-supervisor.service",
		"80-mooring.preset", "copyright", "lintian-overrides",
	} {
		text, err := b.read("packaging/" + file)
		if err != nil {
			return err
		}
		if err := b.write(file, text); err != nil {
			return err
		}
	}
	// The command describes itself, in its own words: so it is built for this machine, too.
	if err := b.compile(ctx, runtime.GOARCH); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.scripts, b.manual, b.completion, b.changelog} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) read(file string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(b.source, file))
	if err != nil {
		return nil, fmt.Errorf("read what goes into the packages: %w", err)
	}
	return text, nil
}

func (b *build) write(file string, text []byte) error {
	file = filepath.Join(b.stage, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("lay out: %w", err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return fmt.Errorf("lay out: %w", err)
	}
	return nil
}

// scripts puts the head and what they share in front of the maintainer scripts.
func (b *build) scripts(context.Context) error {
	shared, err := b.read("packaging/scripts/volumes.sh")
	if err != nil {
		return err
	}
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		body, err := b.read("packaging/scripts/" + name)
		if err != nil {
			return err
		}
		text := "#!/bin/sh\nset -e\n\n"
		if name != "postinst" {
			text += string(shared) + "\n"
		}
		if err := b.write("scripts/"+name, append([]byte(text), body...)); err != nil {
			return err
		}
	}
	return nil
}

// manual compresses the pages of docs/man, and those that the command writes of itself.
func (b *build) manual(ctx context.Context) error {
	generated := filepath.Join(b.stage, "man-source")
	if err := os.MkdirAll(generated, 0o755); err != nil {
		return fmt.Errorf("lay out: %w", err)
	}
	if _, err := b.mooring(ctx, "manual", generated); err != nil {
		return fmt.Errorf("write the manual: %w", err)
	}
	for _, pattern := range []string{filepath.Join(b.source, "docs/man/*.[58]"), filepath.Join(generated, "*.1")} {
		pages, err := filepath.Glob(pattern)
		if err != nil || len(pages) == 0 {
			return fmt.Errorf("no pages %s: %w", pattern, os.ErrNotExist)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				return fmt.Errorf("read page: %w", err)
			}
			title := fmt.Sprintf("%s\" \"mooring %s", b.when.Format("2006-01-02"), b.version)
			text = bytes.Replace(text, []byte("@DATE@"), []byte(title), 1)
			if err := b.compress("man/"+filepath.Base(page)+".gz", text); err != nil {
				return err
			}
		}
	}
	return nil
}

// mooring runs the command that was built for this machine, and returns what it prints.
func (b *build) mooring(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.stage, "bin-"+runtime.GOARCH, "mooring"), args...)
	cmd.Stderr = b.log
	return cmd.Output()
}

// compress writes text as gzip -9n would, without a name and a time.
func (b *build) compress(file string, text []byte) error {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return b.write(file, packed.Bytes())
}

// completion writes what each shell reads when it completes the command's words.
func (b *build) completion(ctx context.Context) error {
	for shell, file := range map[string]string{"bash": "mooring", "zsh": "_mooring", "fish": "mooring.fish"} {
		text, err := b.mooring(ctx, "completion", shell)
		if err != nil {
			return fmt.Errorf("write the completion for %s: %w", shell, err)
		}
		if err := b.write("completion/"+file, text); err != nil {
			return err
		}
	}
	return nil
}

// changelog writes the newest section of CHANGELOG.md as Debian wants a package's changes.
func (b *build) changelog(context.Context) error {
	text, err := b.read("CHANGELOG.md")
	if err != nil {
		return err
	}
	var entry strings.Builder
	fmt.Fprintf(&entry, "mooring (%s) unstable; urgency=medium\n\n", b.version)
	_, newest, _ := strings.Cut(string(text), "\n## [")
	newest, _, _ = strings.Cut(newest, "\n## [")
	for line := range strings.Lines(newest) {
		if change, ok := strings.CutPrefix(line, "- "); ok {
			entry.WriteString(fold("  * ", "    ", strings.TrimSpace(change)))
		}
	}
	fmt.Fprintf(&entry, "\n -- The Mooring authors <mooring-sh@users.noreply.github.com>  %s\n", b.when.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return b.compress("changelog.gz", []byte(entry.String()))
}

// fold breaks text into lines of at most 80 characters, the first with one indentation and the others with another.
func fold(first, other, text string) string {
	const width = 80
	var lines strings.Builder
	line := first
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > width && line != first && line != other {
			lines.WriteString(strings.TrimRight(line, " ") + "\n")
			line = other
		}
		line += word + " "
	}
	return lines.String() + strings.TrimRight(line, " ") + "\n"
}
