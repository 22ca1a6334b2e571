package main_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	main "github.com/mooring-sh/mooring/packaging"
)

var rewrite = flag.Bool("rewrite", false, "write the lists of contents anew") //nolint:gochecknoglobals // a flag of the tests

const (
	older = "1.0.0"
	newer = "1.1.0~rc.1"
)

// made is what the tests look at: built once, because that takes a while.
type made struct{ dir string }

// file returns the path of a package for this machine's architecture.
func (m made) file(kind, version string) string {
	return filepath.Join(m.dir, main.Name(kind, version, runtime.GOARCH))
}

// make makes packages of the tree in source.
func (m made) make(t *testing.T, source, version string, more ...string) {
	t.Helper()
	args := append([]string{"-source", source, "-out", m.dir, "-version", version}, more...)
	var said bytes.Buffer
	if err := main.Run(t.Context(), args, io.Discard, &said); err != nil {
		t.Fatalf("make packages: %v\n%s", err, said.String())
	}
}

// The packages are what users install, so that they are looked at as they are, by the package managers' own tools.
func TestPackages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795000000")
	m := made{t.TempDir()}
	m.make(t, "..", older)
	m.make(t, "..", newer, "-arch", runtime.GOARCH)
	t.Run("reproducible", func(t *testing.T) { reproducible(t, m) })
	t.Run("contents of the deb", func(t *testing.T) {
		needs(t, "dpkg-deb")
		listed(t, "deb", output(t, "dpkg-deb", "-c", m.file("deb", older)))
	})
	t.Run("contents of the rpm", func(t *testing.T) {
		needs(t, "rpm")
		listed(t, "rpm", output(t, "rpm", "-qp", "--qf", `[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES} %{FILEFLAGS:fflags}\n]`, m.file("rpm", older)))
	})
	t.Run("deb", func(t *testing.T) { describesDeb(t, m) })
	t.Run("rpm", func(t *testing.T) { describesRPM(t, m) })
	t.Run("manual", func(t *testing.T) { manual(t, m.file("deb", older)) })
	t.Run("lintian", func(t *testing.T) {
		needs(t, "lintian")
		lintian(t, m.file("deb", older))
	})
	t.Run("units", func(t *testing.T) { lintUnits(t, m.file("deb", older)) })
	t.Run("scripts", func(t *testing.T) { scripts(t, m.file("deb", older)) })
	t.Run("life of a deb", func(t *testing.T) { lifeOfDeb(t, m) })
	t.Run("life of an rpm", func(t *testing.T) { lifeOfRPM(t, m) })
}

// reproducible makes the packages again from a copy of the tree that lies elsewhere, and compares the bytes.
func reproducible(t *testing.T, m made) {
	copied := t.TempDir()
	copyTree(t, "..", copied)
	again := made{t.TempDir()}
	again.make(t, copied, older)
	for _, arch := range []string{"amd64", "arm64"} {
		for _, kind := range []string{"deb", "rpm"} {
			name := main.Name(kind, older, arch)
			first, err := os.ReadFile(filepath.Join(m.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			second, err := os.ReadFile(filepath.Join(again.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, second) {
				t.Errorf("%s: two builds differ (%d and %d bytes)", name, len(first), len(second))
			}
			for _, trace := range []string{copied, m.dir} {
				if bytes.Contains(second, []byte(trace)) {
					t.Errorf("%s names %s", name, trace)
				}
			}
		}
	}
}

// copyTree copies the sources, with other modes and other times than they have.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		inside := strings.TrimPrefix(path, from)
		if d.IsDir() && path != from && (strings.HasPrefix(name, ".") || inside == "/bin" || inside == "/dist") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return os.MkdirAll(to+inside, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to+inside, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listed compares a listing with the one that was reviewed. Sizes and times do not count, and neither does which pages there are of the
// command, see manual.
func listed(t *testing.T, kind, listing string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(listing) {
		line = regexp.MustCompile(` +[0-9]+ 20[0-9-]+ [0-9:]+ `).ReplaceAllString(strings.TrimSpace(line), " ")
		line = regexp.MustCompile(`man1/mooring.*\.1\.gz`).ReplaceAllString(line, "man1/*")
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	got, golden := strings.Join(lines, "\n")+"\n", "testdata/"+kind+".txt"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("contents differ from %s (-rewrite writes it anew): got\n%s", golden, got)
	}
}

func describesDeb(t *testing.T, m made) {
	needs(t, "dpkg-deb")
	for arch := range map[string]bool{"amd64": true, "arm64": true} {
		deb := filepath.Join(m.dir, main.Name("deb", older, arch))
		for field, want := range map[string]string{
			"Package": "mooring", "Version": older, "Architecture": arch, "Depends": "e2fsprogs, xfsprogs, systemd, udev", "Recommends": "docker.io | docker-ce",
		} {
			if got := strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, field)); got != want {
				t.Errorf("%s of %s: got %q, want %q", field, deb, got, want)
			}
		}
	}
	control := t.TempDir()
	output(t, "dpkg-deb", "-e", m.file("deb", older), control)
	if got, err := os.ReadFile(filepath.Join(control, "conffiles")); err != nil || strings.TrimSpace(string(got)) != "/etc/mooring/mooring.yaml\n/etc/mooring/supervisor.yaml" {
		t.Errorf("conffiles: got %q, %v, want the two configurations alone", got, err)
	}
}

func describesRPM(t *testing.T, m made) {
	needs(t, "rpm")
	for arch, theirs := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		file := filepath.Join(m.dir, main.Name("rpm", older, arch))
		got := output(t, "rpm", "-qp", "--qf", `%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST}\n`, file)
		if want := "mooring " + older + " 1 " + theirs + " Apache-2.0 mooring\n"; got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
		if requires := output(t, "rpm", "-qpR", file); !strings.Contains(requires, "xfsprogs") || !strings.Contains(requires, "e2fsprogs") {
			t.Errorf("%s requires %q, want what makes filesystems", file, requires)
		}
	}
}

// manual looks at the pages: every command has one, they say of which version they are, and groff has nothing against them.
func manual(t *testing.T, deb string) {
	root := unpack(t, deb)
	pages, err := filepath.Glob(filepath.Join(root, "usr/share/man/man*/*.gz"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: got %v, %v", pages, err)
	}
	command := filepath.Join(root, "usr/bin/mooring")
	if got, want := output(t, command, "version"), "mooring "+older+"\n"; got != want {
		t.Errorf("the command's version: got %q, want the package's, %q", got, want)
	}
	for _, words := range [][]string{{}, {"volume"}, {"volume", "ls"}, {"policy", "create"}, {"status"}} {
		page := filepath.Join(root, "usr/share/man/man1", strings.Join(append([]string{"mooring"}, words...), "-")+".1.gz")
		if !slices.Contains(pages, page) {
			t.Errorf("mooring %s has no page %s", strings.Join(words, " "), page)
		}
	}
	for _, page := range pages {
		text := gunzip(t, page)
		head, _, _ := strings.Cut(text, "\n")
		if !strings.Contains(head, `"2026-11-18" "mooring `+older+`"`) {
			t.Errorf("%s: got head %q, want date and version", page, head)
		}
		needs(t, "man")
		if said := output(t, "man", "--warnings", "-l", page); !strings.Contains(said, "NAME") {
			t.Errorf("%s: man shows %q, want sections", page, said)
		}
	}
}

func gunzip(t *testing.T, file string) string {
	t.Helper()
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func lintian(t *testing.T, deb string) {
	out, err := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput()
	if err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// scripts lets the shells read the scripts: a mistake in one of them would leave a package half installed.
func scripts(t *testing.T, deb string) {
	control := t.TempDir()
	output(t, "dpkg-deb", "-e", deb, control)
	for _, shell := range []string{"dash", "bash"} {
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			if _, err := exec.LookPath(shell); err != nil {
				t.Fatal(err)
			}
			output(t, shell, "-n", filepath.Join(control, script))
		}
	}
}

// unpack returns a directory with what is in the deb.
func unpack(t *testing.T, deb string) string {
	t.Helper()
	needs(t, "dpkg-deb")
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	return root
}

// output runs a command that has to succeed silently, and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out.String(), said.String())
	}
	return out.String()
}
