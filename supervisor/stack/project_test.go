package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

type name = supervisor.ServiceName

// The two versions of compose print the same project in different ways; here they are the same project. The files are what they printed.
func TestBothVersionsOfComposeSayTheSame(t *testing.T) {
	for _, file := range []string{"harbor-2.15.2", "harbor-1.1.2", "shop-2.4", "shop"} {
		first, second := recorded(t, file+".v1.yaml"), recorded(t, file+".v2.yaml")
		for n, s := range first.Services {
			other := second.Services[n]
			for i := range s.Mounts { // v2 keeps a slash at the end
				s.Mounts[i].Source = strings.TrimSuffix(s.Mounts[i].Source, "/")
			}
			for i := range other.Mounts {
				other.Mounts[i].Source = strings.TrimSuffix(other.Mounts[i].Source, "/")
			}
			if !reflect.DeepEqual(s, other) {
				t.Errorf("%s: %s:\nv1 %+v\nv2 %+v", file, n, s, other)
			}
		}
		if len(first.Services) != len(second.Services) || len(first.Services) == 0 {
			t.Errorf("%s: got %d and %d services", file, len(first.Services), len(second.Services))
		}
	}
}

func recorded(t *testing.T, file string) stack.Project {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	base, _, _ := strings.Cut(file, "-")
	base, _, _ = strings.Cut(base, ".")
	p, err := stack.ParseProject(text, base)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

func TestProjectIsReadWhole(t *testing.T) {
	shop := recorded(t, "shop-2.4.v1.yaml")
	want := stack.Service{
		Restart: "unless-stopped", User: "999:998",
		Mounts: []stack.Mount{
			{Volume: "proddata", Target: "/var/lib/postgresql/data"},
			{Volume: "shop_scratch", Target: "/scratch"},
			{Source: "/srv/conf", Target: "/etc/conf", ReadOnly: true},
			{Volume: "shop_anon", Driver: "vmdk", Target: "/x"},
		},
	}
	if got := shop.Services["db"]; !reflect.DeepEqual(got, want) {
		t.Errorf("db:\ngot  %+v\nwant %+v", got, want)
	}
	if got, want := shop.Services["web"].Ports, []int{80, 9000, 9001, 53, 7000}; !reflect.DeepEqual(got, want) {
		t.Errorf("ports: got %v, want %v", got, want)
	}
	if got := shop.Services["web"].Restart; got != "on-failure" {
		t.Errorf("restart policy: got %q, want on-failure without its count", got)
	}
	if s := recorded(t, "shop.v2.yaml").Services["migrate"]; !s.Once || s.Restart != "no" {
		t.Errorf("a service that another waits for to end: got %+v, want one that runs once", s)
	}
	if m := recorded(t, "harbor-1.1.2.v1.yaml").Services["mysql"].Mounts; len(m) != 1 || m[0].Volume != "vsanvol2" {
		t.Errorf("an external volume in the old form: got %+v, want vsanvol2", m)
	}
}

// Harbor's jobservice depends on the core only, and gets the order of all others by it; its proxy is the door.
func TestOrderAndEntry(t *testing.T) {
	harbor, err := stack.LoadProfile("harbor")
	if err != nil {
		t.Fatal(err)
	}
	graph, entry := stack.Order(recorded(t, "harbor-2.15.2.v2.yaml"), harbor, "")
	if entry != "proxy" {
		t.Errorf("entry: got %q, want proxy", entry)
	}
	if got, want := graph["registry"], []name{"log", "redis"}; !reflect.DeepEqual(got, want) {
		t.Errorf("registry comes after %v, want %v", got, want)
	}
	for _, c := range []struct {
		file    string
		profile stack.Profile
		asked   name
		want    name
	}{
		{file: "harbor-2.15.2.v1.yaml", want: "proxy"},                                   // found by its ports
		{file: "harbor-1.1.2.v1.yaml", profile: harbor, want: "proxy"},                   //
		{file: "shop.v1.yaml", want: "web"},                                              //
		{file: "shop.v1.yaml", profile: harbor, want: "web"},                             // the profile's is not there
		{file: "shop.v1.yaml", asked: "db", want: "db"},                                  //
		{file: "harbor-2.15.2.v1.yaml", asked: stack.NoEntry, profile: harbor, want: ""}, //
	} {
		if _, got := stack.Order(recorded(t, c.file), c.profile, c.asked); got != c.want {
			t.Errorf("%s, asked for %q: got entry %q, want %q", c.file, c.asked, got, c.want)
		}
	}
}

// A project with two services that publish ports has no door of which anybody could know.
func TestTwoDoorsAreNoEntry(t *testing.T) {
	p := stack.Project{Services: map[name]stack.Service{"a": {After: []name{"c"}, Ports: []int{80}}, "b": {After: []name{"c"}, Ports: []int{81}}, "c": {}}}
	if _, got := stack.Order(p, stack.Profile{}, ""); got != "" {
		t.Errorf("entry: got %q, want none", got)
	}
}

// Compose refuses circles, but a profile may close one: the compose file's word stands, and nobody waits for ever.
func TestCircleIsBroken(t *testing.T) {
	p := stack.Project{Services: map[name]stack.Service{"a": {After: []name{"b"}}, "b": {After: []name{"c"}}, "c": {}}}
	profile := stack.Profile{Services: map[name]stack.Instruction{"c": {After: []name{"a", "gone"}}}}
	graph, _ := stack.Order(p, profile, "")
	if want := map[name][]name{"a": {"b"}, "b": {"c"}}; !reflect.DeepEqual(graph, want) {
		t.Errorf("got %v, want %v", graph, want)
	}
}

// Whoever reads the error has to know the file, and what to do.
func TestUnreadableProjectNamesFileAndCure(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := errors.Join(os.Mkdir(empty, 0o755), os.WriteFile(filepath.Join(empty, "docker-compose.yml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	broken := "#!/bin/sh\ncase \"$*\" in *version*) ;; *) echo 'services.a Additional property imagee is not allowed' >&2; exit 15;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-compose"), []byte(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, path, cure string
		files            stack.Files
		want             []string
	}{
		{what: "no compose", path: t.TempDir(), files: stack.Files{Dir: dir}, want: []string{"neither docker compose nor docker-compose"}, cure: "apt-get install docker-compose"},
		{what: "no directory", path: bin, files: stack.Files{Dir: dir + "/gone"}, want: []string{dir + "/gone"}, cure: "mount"},
		{what: "no file", path: bin, files: stack.Files{Dir: dir}, want: []string{dir, "docker-compose.yml"}, cure: "mount"},
		{what: "named file missing", path: bin, files: stack.Files{Dir: dir, Compose: []string{"a.yml"}}, want: []string{dir + "/a.yml"}, cure: "ls -l " + dir + "/a.yml"},
		{what: "empty file", path: bin, files: stack.Files{Dir: empty}, want: []string{empty + "/docker-compose.yml"}, cure: "restore"},
		{what: "a directory", path: bin, files: stack.Files{Dir: dir, Compose: []string{"empty"}}, want: []string{dir + "/empty"}, cure: "restore"},
	} {
		t.Run(c.what, func(t *testing.T) { mustExplain(t, c.path, c.files, c.want, c.cure) })
	}
	if err := os.WriteFile(filepath.Join(empty, "docker-compose.yml"), []byte("services: {a: {imagee: x}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("bad file", func(t *testing.T) {
		mustExplain(t, bin, stack.Files{Dir: empty}, []string{empty, "imagee"}, "config -q")
	})
}

func mustExplain(t *testing.T, path string, files stack.Files, want []string, cure string) {
	t.Helper()
	t.Setenv("PATH", path)
	_, err := stack.ReadProject(t.Context(), files)
	if err == nil {
		t.Fatal("got no error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want something with %q", err, w)
		}
	}
	if h, ok := errors.AsType[*mooring.HintError](err); !ok || !strings.Contains(h.Hint, cure) {
		t.Errorf("%v: got the hint %+v, want something with %q", err, h, cure)
	}
}
