package harborlike

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// keyring has the keys that Debian's lists of packages must be signed with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// aptConf keeps apt to the directory that it names, and to one architecture.
const aptConf = `Dir "%[1]s";
Dir::State "state";
Dir::State::status "/dev/null";
Dir::Cache "cache";
Dir::Etc "etc";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Log "log";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
`

func (b builder) aptDir() string { return filepath.Join(b.dir, "apt") }

// download fetches the packages of the recipe, and only these, whatever is installed here. apt compares them with Debian's signed lists.
func (b builder) download(ctx context.Context) ([]string, error) {
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("%w (Debian's package debian-archive-keyring has it)", err)
	}
	dir := b.aptDir()
	for _, sub := range []string{"etc", "state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	source := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, b.mirror, suite)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "apt.conf"), fmt.Appendf(nil, aptConf, dir), 0o600),
		os.WriteFile(filepath.Join(dir, "etc/sources.list"), []byte(source), 0o600),
	); err != nil {
		return nil, err
	}
	if err := b.apt(ctx, "update", "-o", "APT::Update::Error-Mode=any"); err != nil {
		return nil, err
	}
	if err := b.apt(ctx, append([]string{"download"}, packages()...)...); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "debs", "*.deb"))
	if err != nil {
		return nil, err
	}
	if len(debs) != len(packages()) {
		return nil, fmt.Errorf("download %d packages: apt has left %d files", len(packages()), len(debs))
	}
	return debs, nil
}

// apt runs apt-get in the directory where downloads are left.
func (b builder) apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Dir = filepath.Join(b.aptDir(), "debs")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(b.aptDir(), "apt.conf"), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, tail(out))
	}
	return nil
}

// unpack reads the files of a package into the tree.
func (b builder) unpack(ctx context.Context, deb string, into tree) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
	}
	readErr := into.read(tar.NewReader(out))
	if readErr != nil {
		_ = cmd.Process.Kill() // it would wait for its reader
	}
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, tail(said.Bytes()))
	}
	return nil
}

// tail returns the end of what a command said.
func tail(said []byte) string {
	const size = 1500
	return strings.TrimSpace(string(said[max(0, len(said)-size):]))
}
