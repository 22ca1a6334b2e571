package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/cmd/internal/version"
	command "github.com/mooring-sh/mooring/cmd/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mooring": command.Main})
}

// The scripts are the command's specification: what is typed, what is printed where, and the exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv(admin.SocketEnv, filepath.Join(env.WorkDir, "admin.sock"))
			env.Setenv(admin.SupervisorSocketEnv, filepath.Join(env.WorkDir, "supervisor.sock"))
			// What is installed on this machine is not looked for, and times are nobody's.
			bin, _, _ := strings.Cut(env.Getenv("PATH"), string(filepath.ListSeparator))
			env.Setenv("PATH", bin)
			env.Setenv("MOORING", filepath.Join(bin, "mooring"))
			env.Setenv("TZ", "UTC")
			env.Setenv("VERSION", version.String())
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command sleeps for a second before it ends
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"plugin":     startPlugin,
			"supervisor": startSupervisor,
			"status":     exitStatus,
			"vcenter":    startVCenter(new(sync.Mutex)),
		},
	})
}

// Scripts branch on the exit status, so the help must not fall behind the errors.
func TestHelpNamesTheExitStatusOfEveryError(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), "mooring", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, exits, _ := strings.Cut(string(help), "EXIT STATUS\n")
	for _, sentinel := range []error{
		nil, errors.New("unforeseen"), mooring.ErrInvalid, mooring.ErrNotFound, mooring.ErrExists, mooring.ErrInUse, mooring.ErrFenced,
		mooring.ErrPolicy, mooring.ErrCapacity, mooring.ErrCorrupt, mooring.ErrUnavailable,
	} {
		if want := fmt.Sprintf("  %-3d  ", mooring.ExitCode(sentinel)); !strings.Contains(exits, want) {
			t.Errorf("%v: no line %q in\n%s", sentinel, want, exits)
		}
	}
}

// exitStatus runs a command and wants the exit status that is given first: status 2 mooring volume lx.
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg {
		ts.Fatalf("usage: status N command [argument ...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// startPlugin answers at the admin socket, as the plugin does, what the named file of the script says.
func startPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: plugin file")
	}
	var answers struct {
		Volumes []admin.View    `json:"volumes"`
		Status  json.RawMessage `json:"status"`
		Doctor  json.RawMessage `json:"doctor"`
		// Claims are the machines that have the disk of every volume: "off", or "silent" where the host does not answer.
		Claims map[string]string `json:"claims"`
		// Reset is why the machine cannot be reset; empty: it can.
		Reset string `json:"reset"`
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$VERSION", ts.Getenv("VERSION"))
	ts.Check(json.Unmarshal([]byte(text), &answers))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.VolumesPath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(admin.Volumes{Volumes: answers.Volumes})
	})
	mux.HandleFunc("GET "+admin.StatusPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answers.Status) })
	mux.HandleFunc("GET "+admin.DoctorPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answers.Doctor) })
	mux.HandleFunc(admin.VolumePattern, func(w http.ResponseWriter, r *http.Request) {
		name := mooring.Name(r.PathValue("name"))
		for _, v := range answers.Volumes {
			if v.Name == name {
				_ = json.NewEncoder(w).Encode(v)
				return
			}
		}
		problem, status := admin.ProblemOf(&mooring.HintError{
			Err:  &mooring.VolumeError{Op: "inspect", Name: name, Err: mooring.ErrNotFound},
			Hint: "mooring volume ls",
		})
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(problem)
	})
	mux.HandleFunc(admin.ReleasePattern, func(w http.ResponseWriter, r *http.Request) {
		var req admin.Release
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		name := mooring.Name(r.PathValue("name"))
		if answers.Claims[req.From] == "silent" {
			err := fmt.Errorf("%s may still write: its host does not answer: %w", req.From, mooring.ErrFenced)
			problem, status := admin.ProblemOf(&mooring.HintError{
				Err: &mooring.VolumeError{Op: "release", Name: name, Err: err}, Hint: "wait until the host answers",
			})
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(problem)
			return
		}
		_, has := answers.Claims[req.From]
		delete(answers.Claims, req.From)
		_ = json.NewEncoder(w).Encode(admin.Released{Volume: name, From: req.From, Released: has})
	})
	mux.HandleFunc("POST "+admin.ResetPath, func(w http.ResponseWriter, _ *http.Request) {
		if answers.Reset == "" {
			_, _ = w.Write([]byte("{}"))
			return
		}
		problem, status := admin.ProblemOf(&mooring.HintError{Err: fmt.Errorf("reset this machine: %s: %w", answers.Reset, mooring.ErrInvalid), Hint: "mooring status"})
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(problem)
	})
	serve(ts, admin.SocketEnv, mux)
}

// serve serves a socket, and sets the variable that names it.
func serve(ts *testscript.TestScript, env string, mux *http.ServeMux) {
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such page", http.StatusBadGateway) })

	// A socket's path may have 108 bytes, which the script's own directory may well exceed.
	dir, err := os.MkdirTemp("", "mooring")
	ts.Check(err)
	socket := filepath.Join(dir, "admin.sock")
	listener, err := net.Listen("unix", socket)
	ts.Check(err)
	ts.Setenv(env, socket)
	server := &http.Server{Handler: mux} //nolint:gosec // the only client is the script
	served := make(chan struct{})
	go func() { _ = server.Serve(listener); close(served) }()
	ts.Defer(func() {
		_ = server.Close()
		<-served
		_ = os.RemoveAll(dir)
	})
}
