package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

func TestProfilesThatAreBuiltIn(t *testing.T) {
	if got, want := stack.Profiles(), []string{"generic", "harbor", "registry"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, name := range stack.Profiles() {
		if _, err := stack.LoadProfile(name); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("entry: web\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := stack.LoadProfile(file); err != nil || p.Entry != "web" {
		t.Errorf("a profile of one's own: got %+v, %v", p, err)
	}
}

// A key that is misspelt would be a question that is never asked.
func TestProfileIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"entrie: web": "entrie",
		"services: {db: {ready: {exec: [true], tcp: 1}}}":                         "services.db.ready: want one of",
		"services: {db: {ready: {}}}":                                             "services.db.ready: want one of",
		"services: {db: {ready: {tcp: 70000}}}":                                   "1 to 65535",
		"services: {db: {ready: {tcp: 5, says: x}}}":                              "nothing is read",
		"services: {db: {ready: {http: {port: 80, path: x}}}}":                    "begins with /",
		"services: {db: {ready: {tcp: 80, user: root}}}":                          "belongs to exec",
		"services: {db: {ready: {exec: [true], within: -1s}}}":                    "within",
		"services: {db: {ready: {exec: [true], within: soon}}}":                   "soon",
		"services: {db: {flush: {user: root}}}":                                   "services.db.flush: want exec",
		"services: {db: {writes: {data: 5}}}":                                     "absolute",
		"services: {db: {writes: {/data: -5}}}":                                   "user ID",
		"services: {db: {after: [db]}}":                                           "names itself",
		"registry: {service: registry}":                                           "registry.service, registry.storage: want",
		"registry: {service: r, storage: data}":                                   "absolute path",
		"registry: {service: r, storage: /data, tags: {service: db, as: gitlab}}": "registry.tags: want",
		"answer: {path: /x}":                                                      "answer: want ports",
		"answer: {ports: [{port: 1}], path: x}":                                   "answer: want ports",
		"entry: a\n---\nentry: b":                                                 "second document",
		"services: {a: {ready: {}}, b: {after: [b]}}":                             "services.b.after",
	} {
		if _, err := stack.ParseProfile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want something with %q", text, err, want)
		}
	}
	if _, err := stack.LoadProfile("gitlab"); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "generic, harbor, registry") {
		t.Errorf("no such profile: got %v, want the names of those there are", err)
	}
	if _, err := stack.LoadProfile("/nowhere/x.yaml"); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("no such file: got %v, want ErrInvalid", err)
	}
	if p, err := stack.ParseProfile(nil); err != nil || p.Entry != "" {
		t.Errorf("an empty profile: got %+v, %v", p, err)
	}
}
