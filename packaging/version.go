package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// commit is what git tells of the tree.
type commit struct {
	tag   string // the nearest release before it, as v1.2.3 or v1.2.3-rc.1; empty if there is none
	since string // commits since then
	hash  string
	when  time.Time
	dirty bool // the tree has changes that are not committed
}

// described matches what `git describe --long` prints.
var described = regexp.MustCompile(`^(v[0-9].*)-([0-9]+)-g[0-9a-f]+$`)

// look asks git for the commit that is checked out in dir.
func look(ctx context.Context, dir string) (commit, error) {
	var c commit
	shown, err := git(ctx, dir, "log", "-1", "--format=%cI %h", "--abbrev=12")
	if err != nil {
		return c, err
	}
	when, hash, _ := strings.Cut(shown, " ")
	if c.when, err = time.Parse(time.RFC3339, when); err != nil {
		return c, fmt.Errorf("time of the commit: %w", err)
	}
	c.when, c.hash = c.when.UTC(), hash
	changes, err := git(ctx, dir, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return c, err
	}
	c.dirty = changes != ""
	// Without a release before it the command fails, and the commit's own time and hash must do.
	if text, err := git(ctx, dir, "describe", "--tags", "--long", "--match=v[0-9]*"); err == nil {
		if m := described.FindStringSubmatch(text); m != nil {
			c.tag, c.since = m[1], m[2]
		}
	}
	return c, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var talk strings.Builder
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(talk.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// version returns a version that deb and rpm both sort rightly: that of a later commit is higher, that of a candidate lower than its release's
// (~ sorts before everything), and that of a changed tree higher than its commit's.
func (c commit) version() string {
	v := "0.0.0~git" + c.when.Format("20060102150405") + "." + c.hash
	plus := "+"
	if c.tag != "" {
		v = strings.Replace(strings.TrimPrefix(c.tag, "v"), "-", "~", 1)
		v = strings.ReplaceAll(v, "-", ".") // a hyphen parts version and revision
		switch {
		case c.since != "0":
			v += plus + c.since + "." + c.hash
			plus = "."
		case c.dirty:
			v += plus + "0"
			plus = "."
		}
	}
	if c.dirty {
		v += plus + "dirty"
	}
	return v
}
