package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mooring-sh/mooring/integration/lab/cpio"
)

// What an image's directory holds.
const (
	kernelFile  = "vmlinuz"
	initrdFile  = "initrd"
	rootFile    = "root.img"
	consoleFile = "prepare.log" // what the first boot said
)

// rootSize is what the guest's root filesystem has; the file takes what is in it.
const rootSize = 4 << 30

// keyring has the keys that Debian's packages must be signed with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// builder makes one image in a directory that is empty to begin with.
type builder struct {
	recipe recipe
	mirror string
	dir    string
	talk   *talk
}

func (b builder) tree() string { return filepath.Join(b.dir, "tree") }

func (b builder) build(ctx context.Context) error {
	if err := check(searched()); err != nil {
		return err
	}
	b.talk.step("building, which takes some minutes; Debian's packages come from %s", b.mirror)
	for _, step := range []struct {
		says string
		does func(ctx context.Context) error
	}{
		{"installing Debian's packages", b.bootstrap},
		{"adding the kernel and the lab's own files", b.furnish},
		{"making the initramfs", b.initramfs},
		{"making the root filesystem", b.filesystem},
		{"booting it once, to load Docker's images", b.prepare},
	} {
		b.talk.step("%s", step.says)
		if err := step.does(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.says, err)
		}
	}
	b.talk.step("built")
	return nil
}

// check says, all at once, what this machine lacks, with commands looked for in these directories.
func check(dirs string) error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("building an image needs root, to change the root directory and to make device nodes"))
	}
	for _, need := range []struct{ command, pkg string }{
		{"debootstrap", "debootstrap"},
		{"unshare", "util-linux"},
		{"chroot", "coreutils"},
		{"mkfs.ext4", "e2fsprogs"},
		{qemu, "qemu-system-x86"},
	} {
		if _, err := find(need.command, dirs); err != nil {
			errs = append(errs, fmt.Errorf("the command %s is missing (Debian's package %s has it)", need.command, need.pkg))
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		errs = append(errs, fmt.Errorf("%s is missing (Debian's package debian-archive-keyring has it)", keyring))
	}
	return errors.Join(errs...)
}

// bootstrap installs the packages into the tree. What debootstrap mounts there is seen by itself only, and gone when it ends.
func (b builder) bootstrap(ctx context.Context) error {
	return b.apart(ctx, "debootstrap", "--variant=minbase", "--force-check-gpg", "--keyring="+keyring, "--include="+strings.Join(b.recipe.packages, ","),
		string(b.recipe.suite), b.tree(), b.mirror)
}

// furnish lays the recipe's files over the tree and runs the script that does the rest.
func (b builder) furnish(ctx context.Context) error {
	guest, err := fs.Sub(b.recipe.files, "recipe/guest")
	if err != nil {
		return err
	}
	if err := overlay(guest, b.tree()); err != nil {
		return err
	}
	script, err := fs.ReadFile(b.recipe.files, "recipe/furnish")
	if err != nil {
		return err
	}
	inside := filepath.Join("/usr/lib/mooring-lab", "furnish")
	if err := os.WriteFile(filepath.Join(b.tree(), inside), script, 0o700); err != nil {
		return err
	}
	if err := errors.Join(
		b.apart(ctx, "sh", "-euc", `mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/tmp"; exec chroot "$1" "$2"`, "sh", b.tree(), inside),
		os.Remove(filepath.Join(b.tree(), inside)),
	); err != nil {
		return err
	}
	return errors.Join(unsignAll(filepath.Join(b.tree(), "usr/lib/modules")), unsignAll(filepath.Join(b.tree(), "boot/modules")))
}

// overlay copies a tree of files; scripts can be run.
func overlay(from fs.FS, to string) error {
	return fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(content), "#!") {
			mode = 0o755
		}
		return os.WriteFile(target, content, mode)
	})
}

// initramfs takes the kernel out of the tree, and packs the drivers that the root disk needs with the one program that the initramfs has.
func (b builder) initramfs(context.Context) error {
	boot := filepath.Join(b.tree(), "boot")
	if err := os.Rename(filepath.Join(boot, "vmlinuz"), filepath.Join(b.dir, kernelFile)); err != nil {
		return err
	}
	init, err := fs.ReadFile(b.recipe.files, "recipe/init")
	if err != nil {
		return err
	}
	busybox, err := os.ReadFile(filepath.Join(b.tree(), "bin/busybox"))
	if err != nil {
		return err
	}
	entries := []cpio.Entry{{Path: "init", Mode: 0o755, Content: init}}
	for _, dir := range []string{"bin", "dev", "modules", "proc", "root", "sys"} {
		entries = append(entries, cpio.Entry{Path: dir, Mode: fs.ModeDir | 0o755})
	}
	entries = append(entries, cpio.Entry{Path: "bin/busybox", Mode: 0o755, Content: busybox})
	modules, err := os.ReadDir(filepath.Join(boot, "modules"))
	if err != nil {
		return err
	}
	for _, module := range modules {
		content, err := os.ReadFile(filepath.Join(boot, "modules", module.Name()))
		if err != nil {
			return err
		}
		entries = append(entries, cpio.Entry{Path: "modules/" + module.Name(), Mode: 0o644, Content: content})
	}
	f, err := os.Create(filepath.Join(b.dir, initrdFile))
	if err != nil {
		return err
	}
	return errors.Join(cpio.Write(f, entries), f.Close(), os.RemoveAll(filepath.Join(boot, "modules")))
}

// filesystem makes the tree a filesystem in a file, without mounting it.
func (b builder) filesystem(ctx context.Context) error {
	root := filepath.Join(b.dir, rootFile)
	f, err := os.Create(root)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(rootSize), f.Close()); err != nil {
		return err
	}
	if err := b.run(ctx, "mkfs.ext4", "-q", "-F", "-L", "root", "-d", b.tree(), root); err != nil {
		return err
	}
	return os.RemoveAll(b.tree())
}
