package image

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// files is what Debian's packages do not bring: recipe/guest is laid over the guest's tree.
//
//go:embed recipe
var files embed.FS

// version is part of every key: it changes with what the code of this package does to an image.
const version = "1"

// recipe says what an image is made of.
type recipe struct {
	suite    Suite
	packages []string
	files    fs.FS
}

// packages are what both suites' guests consist of, beyond Debian's minimal base.
func packages() []string {
	return []string{
		"systemd", "systemd-sysv", "udev", "kmod", "util-linux", "procps", "psmisc", "less", // a machine to log in to
		"e2fsprogs", "xfsprogs", "busybox-static", "xz-utils", // what volumes, initramfs and images need
		"iproute2", "iptables", "docker.io", "docker-compose",
	}
}

func newRecipe(s Suite) (recipe, error) {
	r := recipe{suite: s, packages: packages(), files: files}
	switch s {
	case Trixie:
		r.packages = append(r.packages, "docker-cli") // a package of its own since then
	case Bookworm:
	default:
		return recipe{}, fmt.Errorf("no images of Debian %q; there are %s and %s", string(s), Trixie, Bookworm)
	}
	return r, nil
}

// key tells apart what different recipes make.
func (r recipe) key() (string, error) {
	sum := sha256.New()
	sum.Write(fmt.Appendln(nil, version, r.suite, strings.Join(slices.Sorted(slices.Values(r.packages)), " "), appendLine))
	err := fs.WalkDir(r.files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(r.files, name)
		sum.Write(fmt.Appendln(nil, name, len(content)))
		sum.Write(content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the recipe: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}
