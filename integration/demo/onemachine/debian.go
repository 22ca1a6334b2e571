package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// recipe says what a service's image is made of: Debian packages with all that they depend on, unpacked and not
// configured, every command of busybox that they lack, and a few files.
type recipe struct {
	Name       string
	Packages   []string
	Files      map[string]string // texts by path; those that begin with #! can be run
	Dirs       map[string]int    // directories by path, and the user that each belongs to
	Entrypoint []string
	User       string
}

// tarball returns the path of an archive with the recipe's files, from the cache if it was made before.
func (r recipe) tarball(ctx context.Context, c *play.Commands, cache string) (string, error) {
	key, err := r.key()
	if err != nil {
		return "", err
	}
	tarball := filepath.Join(cache, r.Name+"-"+key+".tar")
	if _, err := os.Stat(tarball); err == nil {
		c.Talk.Note("%s: as cached in %s", r.Name, tarball)
		return tarball, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(cache, r.Name+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(scratch) }() // at worst it lies in the cache
	root := filepath.Join(scratch, "root")
	if err := r.unpack(ctx, c, scratch, root); err != nil {
		return "", err
	}
	if err := r.furnish(ctx, c, root); err != nil {
		return "", err
	}
	made := filepath.Join(scratch, "image.tar")
	if _, err := c.Quiet(ctx, "tar", "--sort=name", "--numeric-owner", "-C", root, "-cf", made, "."); err != nil {
		return "", err
	}
	return tarball, os.Rename(made, tarball)
}

// key tells apart what would be made of different recipes, or on different releases of Debian.
func (r recipe) key() (string, error) {
	recipe, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode the recipe of %s: %w", r.Name, err)
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("find out the release: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(nil, runtime.GOARCH, string(recipe), string(release)))
	return hex.EncodeToString(sum[:6]), nil
}

// unpack downloads the packages with all that they depend on, as if nothing were installed, and unpacks them into root.
func (r recipe) unpack(ctx context.Context, c *play.Commands, scratch, root string) error {
	scratch, err := filepath.Abs(scratch) // apt takes a relative path for one below /var
	if err != nil {
		return err
	}
	archives := filepath.Join(scratch, "archives")
	for _, dir := range []string{root, filepath.Join(archives, "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	nothing := filepath.Join(scratch, "status")
	if err := os.WriteFile(nothing, nil, 0o600); err != nil {
		return err
	}
	c.Talk.Note("%s: Debian's %s and what they depend on", r.Name, strings.Join(r.Packages, ", "))
	download := append([]string{
		"apt-get", "-q", "-y", "--no-install-recommends", "--download-only",
		"-o", "Dir::State::status=" + nothing,
		"-o", "Dir::Cache::archives=" + archives,
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install",
	}, r.Packages...)
	if _, err := c.Quiet(ctx, download...); err != nil { // perhaps only for want of fresh lists
		c.Talk.Note("%s: updating apt's lists first", r.Name)
		if _, err := c.Quiet(ctx, "apt-get", "-q", "update"); err != nil {
			return err
		}
		if _, err := c.Quiet(ctx, download...); err != nil {
			return err
		}
	}
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range packages {
		if _, err := c.Quiet(ctx, "dpkg-deb", "-x", file, root); err != nil {
			return err
		}
	}
	return nil
}

// furnish adds what packages leave to their maintainer scripts, and what the recipe wants besides.
func (r recipe) furnish(ctx context.Context, c *play.Commands, root string) error {
	if err := linkMerged(root); err != nil {
		return err
	}
	for _, dir := range []string{"usr/share/doc", "usr/share/man", "usr/share/locale"} {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	if err := linkBusybox(ctx, c, root); err != nil {
		return err
	}
	for dir, owner := range r.Dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
		if err := os.Chown(filepath.Join(root, dir), owner, owner); err != nil {
			return err
		}
	}
	for name, text := range r.Files {
		if err := writeFile(filepath.Join(root, name), text); err != nil {
			return err
		}
	}
	tmp := filepath.Join(root, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	return os.Chmod(tmp, os.ModeSticky|0o777)
}

// linkMerged makes the links from /bin, /lib and so on into /usr, where the packages' files lie since Debian 13.
func linkMerged(root string) error {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		_, direct := os.Lstat(filepath.Join(root, dir))
		_, merged := os.Lstat(filepath.Join(root, "usr", dir))
		if direct == nil || merged != nil {
			continue
		}
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file with the directories above it; a script can be run.
func writeFile(name, text string) error {
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), mode)
}

// linkBusybox makes a link in bin for each of busybox's commands that no package brought.
func linkBusybox(ctx context.Context, c *play.Commands, root string) error {
	busybox := filepath.Join(root, "bin/busybox")
	if _, err := exec.LookPath(busybox); err != nil {
		return fmt.Errorf("busybox-static has no bin/busybox: %w", err)
	}
	applets, err := c.Quiet(ctx, busybox, "--list")
	if err != nil {
		return err
	}
	for applet := range strings.FieldsSeq(applets) {
		if brought(root, applet) {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			return err
		}
	}
	return nil
}

func brought(root, command string) bool {
	for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin"} {
		if _, err := os.Lstat(filepath.Join(root, dir, command)); err == nil {
			return true
		}
	}
	return false
}
