package process_test

import (
	"errors"
	"os"
	"testing"

	"github.com/mooring-sh/mooring/internal/process"
)

func TestFind(t *testing.T) {
	got, err := process.Find(os.Getpid())
	if err != nil || got.PID != os.Getpid() || got.Command != "process.test" || got.Start == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := process.Find(-1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	const fields = " S 1 1234 1234 0 -1 4194560 100 0 0 0 1 1 0 0 20 0 9 0 987654 1 2 3"
	for _, name := range []string{"dockerd", "a b", ")", ") S (1"} {
		got, err := process.Parse([]byte("1234 (" + name + ")" + fields))
		if want := (process.Process{PID: 1234, Command: name, Start: 987654}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for _, stat := range []string{"", "1 (dockerd) S 1", "x (dockerd)" + fields, ")(", "1 (dockerd)" + fields[:len(fields)-12] + "x 1 2 3"} {
		if got, err := process.Parse([]byte(stat)); err == nil {
			t.Errorf("%q: got %+v, want an error", stat, got)
		}
	}
}
