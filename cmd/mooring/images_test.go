package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// typed is what a command printed where, and its exit status.
type typed struct {
	stdout, stderr string
	status         int
}

// mooring runs the command as people type it, with nothing of this machine's in its environment.
func mooringCommand(t *testing.T, stdin string, args ...string) typed {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "mooring", args...)
	home := t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TZ=UTC", "GORACE=atexit_sleep_ms=0"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	got := typed{}
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		got.status = exit.ExitCode()
	}
	got.stdout, got.stderr = stdout.String(), stderr.String()
	return got
}

func (got typed) want(t *testing.T, what string, status int, stdout ...string) {
	t.Helper()
	if got.status != status {
		t.Errorf("%s: exit status %d, want %d", what, got.status, status)
	}
	for _, want := range stdout {
		if !regexp.MustCompile(want).MatchString(got.stdout) {
			t.Errorf("%s: standard output lacks %q", what, want)
		}
	}
	if t.Failed() {
		t.Logf("%s: standard output:\n%s\nstandard error:\n%s", what, got.stdout, got.stderr)
	}
}

// On a laptop, without vSphere, Docker or configuration: what is whole is said to be, what is not is named and the status says so, and another registry puts it right.
func TestImagesOfADirectoryAreVerifiedAndRepaired(t *testing.T) {
	s := layouttest.New(t)
	img := s.Image("library/app", "1.0", []byte("one layer"), []byte("another layer"))
	s.Image("team/other", "v1", []byte("one layer"))
	mooringCommand(t, "", "images", "verify", s.Dir).want(t, "whole", 0, `^2 of 2 images are whole, with 6 blobs of 1.28 kB; 6 were hashed, 1.28 kB, in [0-9.]+m?s\n$`)

	other := remotetest.New(t, remotetest.Rules{Scheme: remotetest.Basic, User: "me", Password: "secret"})
	other.Image("mirror/library/app", "1.0", []byte("one layer"), []byte("another layer"))
	s.Flip(s.Data(img.Layers[1].Digest), 4)
	s.Truncate(s.TagLink("team/other", "v1"), 0)
	damaged := mooringCommand(t, "", "images", "verify", s.Dir)
	damaged.want(t, "damaged", 3, `(?m)^damaged +library/app:1\.0 +`+img.Layers[1].Digest.Short()+` +- +the blob is damaged: its 13 bytes are sha256:`,
		`(?m)^damaged +team/other:v1 .*the tag's link is not valid: empty$`, `(?m)^1 of 2 images are whole`)

	var parsed struct {
		Target   string
		Images   int
		Findings []images.Finding
	}
	script := mooringCommand(t, "", "images", "verify", s.Dir, "-o", "json")
	if err := json.Unmarshal([]byte(script.stdout), &parsed); err != nil || parsed.Target != s.Dir || parsed.Images != 2 || len(parsed.Findings) != 2 || script.status != 3 {
		t.Errorf("got %+v, %v, status %d", parsed, err, script.status)
	}

	flushed := filepath.Join(t.TempDir(), "flushed")
	args := []string{"images", "repair", s.Dir, "--from", other.Host() + "/mirror", "--username", "me", "--password-stdin", "--flush", "echo yes >" + flushed}
	mooringCommand(t, "wrong\n", args...).want(t, "wrong password", 3, `(?m)^left +library/app:1\.0 `)
	mooringCommand(t, "secret\n", args...).want(t, "repair", 0, `(?m)^repaired +library/app:1\.0 .*read back`, `(?m)^2 of 2 images are whole$`)
	if said, err := os.ReadFile(flushed); err != nil || string(said) != "yes\n" {
		t.Errorf("the cache was not flushed: %q, %v", said, err)
	}
	mooringCommand(t, "", "images", "verify", s.Dir).want(t, "repaired", 0)
}

// With records of one's own the next verification tells what has gone and what is new; ls and manifest show them; damage to them is said.
func TestImagesAreComparedWithOnesOwnRecords(t *testing.T) {
	s := layouttest.New(t)
	records := filepath.Join(t.TempDir(), "records")
	s.Image("library/app", "1.0", []byte("one"))
	s.Image("library/app", "2.0", []byte("two"))
	mooringCommand(t, "", "images", "manifest", "--records", records).want(t, "none yet", 10)
	mooringCommand(t, "", "images", "verify", s.Dir, "--records", records).want(t, "first", 0, `^2 of 2`)
	s.Remove(filepath.Dir(filepath.Dir(s.TagLink("library/app", "1.0"))))
	mooringCommand(t, "", "images", "verify", s.Dir, "--records", records, "--quick").want(t, "gone", 0, `(?m)^gone +library/app:1\.0 .*the tag: deleted, or lost$`)
	mooringCommand(t, "", "images", "ls", "--records", records).want(t, "ls", 0, `^REPOSITORY +TAG +IMAGE +TYPE +SIZE +PUSHED +VERIFIED\n`, `(?m)^library/app +1\.0 +sha256:[0-9a-f]{12} +application/vnd\.oci\.image\.manifest\.v1\+json +\d+ B +20\d\d-`)
	mooringCommand(t, "", "images", "ls", s.Dir).want(t, "ls of a directory", 0, `(?m)^library/app +2\.0 `)
	mooringCommand(t, "", "images", "manifest", "--records", records).want(t, "manifest", 0, `(?m)^tags +2$`, `(?m)^hashed +6 of 6$`)
	file := filepath.Join(records, "manifest.0")
	if err := os.Truncate(file, 30); err != nil {
		t.Fatal(err)
	}
	got := mooringCommand(t, "", "images", "manifest", "--records", records)
	got.want(t, "damaged", 16)
	if !strings.Contains(got.stderr, file) {
		t.Errorf("standard error does not name %s: %s", file, got.stderr)
	}
}

// On the machine of a supervisor the storage is compared with the manifest that lies in it, and everything is hashed although a round of the supervisor's is under way.
func TestImagesAreComparedWithTheManifestBesideTheData(t *testing.T) {
	s := layouttest.New(t)
	img := s.Image("library/app", "1.0", []byte("one"))
	s.Image("library/app", "2.0", []byte("two"))
	p, err := images.NewProver(images.Setup{Storage: s.Dir, Records: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rehash(t.Context(), layout.Pace{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	s.Remove(filepath.Dir(filepath.Dir(s.TagLink("library/app", "2.0"))))
	s.Flip(s.Data(img.Layers[0].Digest), 1)
	got := mooringCommand(t, "", "images", "verify", s.Dir)
	got.want(t, "beside the data", 3, `(?m)^gone +library/app:2\.0 `, `(?m)^damaged +library/app:1\.0 +\S+ +20\d\d-`, `1 of 2 images are whole, with 6 blobs of .*; 5 were hashed`)
	if !strings.Contains(got.stderr, "compared with the manifest in the storage, of 20") {
		t.Errorf("standard error %q", got.stderr)
	}
}

// A registry is verified over HTTP by everything that its tags lead to; what is wrong with how it was called is said before it is asked.
func TestImagesOfARegistryAreVerified(t *testing.T) {
	r := remotetest.New(t, remotetest.Rules{Scheme: remotetest.Token, User: "robot", Password: "secret", Harbor: true, Catalogue: true})
	r.Image("library/app", "1.0", []byte("one"))
	r.Image("team/other", "v1", []byte("two"))
	who := []string{"--username", "robot", "--password-stdin"}
	verify := func(more ...string) typed {
		return mooringCommand(t, "secret\n", append(append([]string{"images", "verify"}, more...), who...)...)
	}
	verify(r.Host()).want(t, "all", 0, `^2 of 2 images are whole`)
	verify(r.Host()+"/team/other").want(t, "one", 0, `^1 of 1 images are whole`)
	r.Damage(layouttestDigest("two"), []byte("TWO"))
	verify(r.Host()).want(t, "damaged", 3, `(?m)^damaged +team/other:v1 `)
	mooringCommand(t, "", "images", "verify", r.Host()).want(t, "nobody", 2)
	verify(r.Host(), "--quick").want(t, "quick", 2)
	r.Server.Close()
	verify(r.Host()).want(t, "gone", 75)
}

// Each way to be wrong has its status and its cure.
func TestImagesAreAskedForWrongly(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"verify"}, 2, "hint: mooring images verify --help"},
		{[]string{"verify", "/nowhere/at/all"}, 10, "hint: name the directory that contains docker/registry/v2"},
		{[]string{"verify", t.TempDir()}, 10, "no docker/registry/v2 in it"},
		{[]string{"verify", "registry.example.com", "--password-stdin"}, 2, "--password-stdin wants --username"},
		{[]string{"verify", "registry.example.com", "--username", "me"}, 2, "no terminal"},
		{[]string{"verify", ".", "--workers", "-1"}, 2, "--workers"},
		{[]string{"verify", "http://registry.example.com"}, 2, "clear text"},
		{[]string{"repair", t.TempDir(), "--from", "x"}, 10, "name the directory"},
		{[]string{"ls", "--records", t.TempDir()}, 10, "no manifest was ever written"},
		{[]string{"prove"}, 2, "mooring images has no command"},
	} {
		got := mooringCommand(t, "", append([]string{"images"}, c.args...)...)
		if got.status != c.status || !strings.Contains(got.stderr, c.stderr) || got.stdout != "" {
			t.Errorf("%q: got %+v, want status %d and %q", c.args, got, c.status, c.stderr)
		}
	}
}
