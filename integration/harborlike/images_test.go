package harborlike_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/harborlike"
)

type tree = map[string]harborlike.Member

func TestPickBringsWhatLinksLeadTo(t *testing.T) {
	t.Parallel()
	all := tree{
		"usr/bin/redis-server":    {Link: "redis-check-rdb"},
		"usr/bin/redis-check-rdb": {Content: "a script"},
		"usr/bin/other":           {Content: "not asked for"},
		"usr/lib64/ld.so":         {Link: "/lib/x86/ld.so"},
		"usr/lib/x86/ld.so":       {Content: "the linker"},
		"usr/share/pg/a.sql":      {}, "usr/share/pg/b.txt": {}, "usr/share/pg/sets/c": {}, "usr/share/pg/sets/d/e": {},
	}
	for pattern, want := range map[string][]string{
		"usr/bin/redis-server": {"usr/bin/redis-check-rdb", "usr/bin/redis-server"},
		"usr/lib64/ld.so":      {"usr/lib/x86/ld.so", "usr/lib64/ld.so"},
		"usr/share/pg/*.sql":   {"usr/share/pg/a.sql"},
		"usr/share/pg/sets/":   {"usr/share/pg/sets/c", "usr/share/pg/sets/d/e"},
	} {
		if got, err := harborlike.Pick(all, pattern); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s picks %q, %v; want %q", pattern, got, err, want)
		}
	}
}

// A library that is missing would be found when the service does not start, in a guest.
func TestPickNamesAllThatNoPackageHas(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	all := tree{"usr/bin/ls": {Content: string(program)}, "usr/bin/dangling": {Link: "nowhere"}}
	for pattern, want := range map[string]string{
		"usr/bin/ls":       "usr/bin/ls: no package has usr/lib",
		"usr/bin/dangling": "no package has usr/bin/nowhere",
		"usr/bin/[":        "no package has usr/bin/[",
		"usr/sbin/":        "no package has usr/sbin/",
	} {
		if _, err := harborlike.Pick(all, pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", pattern, err, want)
		}
	}
	if _, err := harborlike.Pick(all, "one", "two"); err == nil || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
		t.Errorf("%v; want both that are missing", err)
	}
}

func TestFilesOfPackagesAreReadWhereTheyBelong(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir},
		{Name: "./bin/busybox", Typeflag: tar.TypeReg},
		{Name: "./lib/x86_64-linux-gnu/libc.so.6", Typeflag: tar.TypeReg},
		{Name: "./usr/lib/libz.so", Typeflag: tar.TypeSymlink, Linkname: "libz.so.1"},
		{Name: "./usr/share/doc/redis/copyright", Typeflag: tar.TypeReg},
		{Name: "./usr/share/man/man1/redis.1.gz", Typeflag: tar.TypeReg},
		{Name: "./sbin/same", Typeflag: tar.TypeLink, Linkname: "./bin/busybox"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := harborlike.Read(&archive)
	want := []string{"usr/bin/busybox", "usr/lib/libz.so", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/sbin/same"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

// Docker compares what it unpacks with what the configuration says, and refuses the image otherwise.
func TestArchiveIsWhatDockerLoads(t *testing.T) {
	t.Parallel()
	base := tree{"usr/bin/busybox": {Mode: 0o755, Content: "box"}}
	own := tree{
		"bin": {Link: "usr/bin"}, "tmp": {Mode: fs.ModeDir | fs.ModeSticky | 0o777}, "run/postgresql": {Mode: fs.ModeDir | 0o755, UID: 999},
		"etc/passwd": {Mode: 0o644, Content: "root"},
	}
	var archive, again bytes.Buffer
	if err := errors.Join(harborlike.WriteArchive(&archive, base, own), harborlike.WriteArchive(&again, base, own)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive.Bytes(), again.Bytes()) {
		t.Error("the same trees give different archives")
	}
	files := contents(t, &archive)
	var list []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil {
		t.Fatal(err)
	}
	users := map[string]string{}
	for _, entry := range list {
		var c struct {
			Config struct{ User string }
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		if err := json.Unmarshal(files[entry.Config], &c); err != nil {
			t.Fatal(err)
		}
		for n, layer := range entry.Layers {
			sum := sha256.Sum256(files[layer])
			if want := "sha256:" + hex.EncodeToString(sum[:]); c.RootFS.DiffIDs[n] != want {
				t.Errorf("%s: layer %d is called %s; want %s", entry.RepoTags, n, c.RootFS.DiffIDs[n], want)
			}
		}
		users[strings.TrimSuffix(entry.RepoTags[0], ":latest")] = c.Config.User
	}
	if len(users) != len(harborlike.Images()) || users["mooring-lab/harbor-db"] != "999:999" || users["mooring-lab/registry"] != "10000:10000" {
		t.Errorf("images and users %v; want %v", users, harborlike.Images())
	}
	var got []string
	r := tar.NewReader(bytes.NewReader(files[list[0].Layers[1]]))
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name)
		if h.Name == "run/postgresql/" && (h.Uid != 999 || h.Gid != 999) {
			t.Errorf("%s belongs to %d:%d; want 999:999", h.Name, h.Uid, h.Gid)
		}
	}
	want := []string{"L--------- bin", "drwxr-xr-x etc/", "-rw-r--r-- etc/passwd", "drwxr-xr-x run/", "drwxr-xr-x run/postgresql/", "dtrwxrwxrwx tmp/"}
	if !slices.Equal(got, want) {
		t.Errorf("members %q; want %q", got, want)
	}
}

// contents returns the archive's files by name; none may be there twice.
func contents(t *testing.T, archive io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagesAreMadeAnewWhenAProgramChanges(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, program := range []string{"one", "two", "one"} {
		key, err := harborlike.RecipeKey(program)
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
	}
	if len(keys) != 2 {
		t.Errorf("keys %v; want one for each program", keys)
	}
}
