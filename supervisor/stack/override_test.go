package stack_test

import (
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/supervisor/stack"
)

const mark = ` # mooring: the supervisor opens the door last`

// What people wrote themselves stays as it is, to the blank.
func TestSpliceTouchesOneLine(t *testing.T) {
	for what, c := range map[string]struct{ old, want string }{
		"no file":        {"", "services:\n  proxy:\n    restart: \"no\"" + mark + "\n"},
		"only a comment": {"# mine\n", "# mine\nservices:\n  proxy:\n    restart: \"no\"" + mark + "\n"},
		"no line break":  {"# mine", "# mine\nservices:\n  proxy:\n    restart: \"no\"" + mark + "\n"},
		"no services":    {"x-a: 1   # odd\n", "x-a: 1   # odd\nservices:\n  proxy:\n    restart: \"no\"" + mark + "\n"},
		"other services": {
			"services:\n    db:   {user: '5'}  # odd\n", "services:\n    proxy:\n      restart: \"no\"" + mark + "\n    db:   {user: '5'}  # odd\n",
		},
		"the service": {
			"version: '2.3'\nservices:\n  proxy:\n    # ports\n    ports: [ '80:80' ]\nvolumes: {}\n",
			"version: '2.3'\nservices:\n  proxy:\n    # ports\n    restart: \"no\"" + mark + "\n    ports: [ '80:80' ]\nvolumes: {}\n",
		},
		"another policy": {
			"services:\n  proxy:\n    restart:  always # why\n", "services:\n  proxy:\n    restart:  \"no\"" + mark + "; it was always # why\n",
		},
		"right already":       {"services: {proxy: {restart: 'no'}}\n", "services: {proxy: {restart: 'no'}}\n"},
		"right but for YAML":  {"services:\n  proxy:\n    restart: no\n", "services:\n  proxy:\n    restart: \"no\"" + mark + "; it was no\n"},
		"a policy of several": {"services:\n  proxy:\n    restart: on-failure:3\n", "services:\n  proxy:\n    restart: \"no\"" + mark + "; it was on-failure:3\n"},
	} {
		got, err := stack.Splice([]byte(c.old), "proxy")
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", what, err, got, c.want)
			continue
		}
		if again, err := stack.Splice(got, "proxy"); err != nil || string(again) != string(got) {
			t.Errorf("%s, a second time: %v\n%s", what, err, again)
		}
	}
}

// What cannot be put in without rewriting somebody's file is left to that somebody.
func TestSpliceRefuses(t *testing.T) {
	for _, old := range []string{
		"services: {db: {}}\n", "{services: {}}\n", "services:\n  proxy: {ports: [1]}\n", "services:\n  proxy: {restart: always}\n", "- a\n", "a: [\n",
		"services:\n  proxy:\n    <<: *x\n",
	} {
		if got, err := stack.Splice([]byte(old), "proxy"); err == nil {
			t.Errorf("%s: got\n%s\nwant an error", strings.TrimSpace(old), got)
		}
	}
}
