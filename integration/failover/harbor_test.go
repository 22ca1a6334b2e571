//go:build machines

package failover_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/harborlike"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	// stackDir is where the project lies, and pusherBinary the program that pushes and pulls.
	stackDir     = "/opt/harbor"
	pusherBinary = "/usr/local/bin/harborlike"

	// toldAddress is where the supervisor's messages go, and toldFile gets a line of JSON for each.
	toldAddress = "127.0.0.1:9999"
	toldFile    = "/var/lib/told"

	// The volumes of the stack, as the story has them.
	registryVolume = "vsanvol1"
	databaseVolume = "vsanvol2"
	jobLogsVolume  = "vsanvol3"

	// stackTime is how long the stack may take to come up, or to settle after a boot: in software emulation on a busy machine.
	stackTime = 20 * time.Minute
)

// stack is the stack built like Harbor's on a machine of the fleet, with what was pushed to it. It lasts as long as the fleet does: what was acknowledged in
// one case is pulled again at the end of all that follow.
type stack struct {
	vm   string
	runs int // of the pusher; each pushes something else

	mu      sync.Mutex
	records []push.Record
}

// stackBuild is what goes into a machine with a stack, and is made once for a run.
type stackBuild struct {
	program []byte // that pushes and pulls
	images  string // file with the stack's images
	problem error
}

//nolint:gochecknoglobals // what is built is built once
var stackOnce = sync.OnceValue(func() (b stackBuild) {
	b.program, b.problem = compile("harborlike", "../harborlike/harborlike")
	if b.problem == nil {
		b.images, b.problem = harborlike.Get(context.Background(), harborlike.Options{Say: os.Stderr})
	}
	return b
})

// supervisorConfig is what the package's configuration does not say by default.
const supervisorConfig = `stack: {directory: ` + stackDir + `, profile: harbor, must_be_mounted: [/data]}
notify: {webhooks: [{url: "http://` + toldAddress + `/"}]}
`

// toldUnit is whom the supervisor tells.
const toldUnit = `[Unit]
After=network.target
[Service]
ExecStart=` + writerBinary + ` listen ` + toldAddress + ` ` + toldFile + `
Restart=always
[Install]
WantedBy=multi-user.target
`

// dataMount mounts what is on no volume: a directory of the same disk, which may be absent as any other disk may.
const dataMount = `[Unit]
Before=docker.service
[Mount]
What=/srv/data
Where=/data
Type=none
Options=bind
[Install]
WantedBy=multi-user.target
`

// overrideFile is what an administrator of this stack has written: restart policies of each kind, and, for the suite, two services that crash as often as a
// file says. The supervisor adds the proxy's policy to it.
const overrideFile = `services:
  registryctl:
    restart: unless-stopped
  core:
    entrypoint: [sh, -c, ` + "'" + `n=$$(cat /data/crashes 2>/dev/null || echo 0); [ "$$n" -le 0 ] || { echo $$((n-1)) >/data/crashes; exit 1; }; exec roles core` + "'" + `]
  jobservice:
    restart: "no"
    entrypoint: [sh, -c, ` + "'" + `n=$$(cat /var/log/jobs/crashes 2>/dev/null || echo 0); [ "$$n" -le 0 ] || { echo $$((n-1)) >/var/log/jobs/crashes; exit 1; }; exec roles jobservice` + "'" + `]
`

// newStack puts a stack on the machine, as docs/lab.md says, and waits until the supervisor has found it to be up.
func newStack(ctx context.Context, f *fleet, vm string) (*stack, error) {
	built := stackOnce()
	if built.problem != nil {
		return nil, built.problem
	}
	begun := time.Now()
	st := &stack{vm: vm}
	if err := f.VM(vm).CopyIn(ctx, bytes.NewReader(built.program), pusherBinary, 0o755); err != nil {
		return nil, fmt.Errorf("copy the pusher to %s: %w", vm, err)
	}
	if err := f.load(ctx, vm, built.images); err != nil {
		return nil, err
	}
	say("  the images are loaded after %s", time.Since(begun).Round(time.Second))
	script := pusherBinary + ` project ` + stackDir + `
cat >/etc/systemd/system/told.service <<'END'
` + toldUnit + `END
cat >` + stackDir + `/docker-compose.override.yml <<'END'
` + overrideFile + `END
cat >/etc/systemd/system/data.mount <<'END'
` + dataMount + `END
mkdir -p /srv/data /data
chattr +i /data
systemctl daemon-reload
systemctl enable --now data.mount told.service 2>&1
` + createVolume(registryVolume, "xfs") + createVolume(databaseVolume, "ext4") + createVolume(jobLogsVolume, "ext4") + `
cd ` + stackDir + `
# On a machine that is starved of processor time an attach, or the format at a first mount, takes longer than dockerd waits.
often() { tries=0; until "$@" 2>&1; do tries=$((tries+1)); test $tries -lt 20; sleep 3; done; }
often ./prepare
often ` + f.compose() + ` up -d
cat >/etc/mooring/supervisor.yaml <<'END'
` + supervisorConfig + `END
systemctl restart mooring-supervisor`
	if out, err := f.VM(vm).Shell(ctx, script); err != nil {
		return nil, fmt.Errorf("put the stack on %s: %w\n%s", vm, err, out)
	}
	say("  the stack is up after %s", time.Since(begun).Round(time.Second))
	limit, cancel := context.WithTimeout(ctx, stackTime)
	defer cancel()
	if err := f.awaitWell(limit, vm); err != nil {
		return nil, err
	}
	say("  the stack has settled after %s", time.Since(begun).Round(time.Second))
	return st, nil
}

func createVolume(name, fs string) string {
	return "docker volume create -d vmdk -o size=2gb -o fstype=" + fs + " " + name + " >/dev/null\n"
}

// compose is how compose is called in the machines.
func (f *fleet) compose() string {
	if f.kind == harborOld {
		return "docker-compose"
	}
	return "docker compose"
}

// load gives the machine's Docker the images.
func (f *fleet) load(ctx context.Context, vm, archive string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	var said bytes.Buffer
	exit, err := f.VM(vm).Exec(ctx, qemu.Command{Args: []string{"docker", "load", "-q"}, Stdin: in, Stdout: &said, Stderr: &said})
	if err == nil && exit != 0 {
		err = fmt.Errorf("exit status %d: %s", exit, said.String())
	}
	if err != nil {
		return fmt.Errorf("load the stack's images on %s: %w", vm, err)
	}
	return nil
}

// stackView is what the supervisor says.
type stackView struct {
	stack  admin.Stack
	report admin.Recovery
}

// askSupervisor asks how the stack is, and for the last report.
func (f *fleet) askSupervisor(ctx context.Context, vm string) (v stackView, err error) {
	text, err := f.VM(vm).Shell(ctx, "SOCKET="+admin.SupervisorSocket+" "+writerBinary+" api GET "+admin.StackPath+" GET "+admin.RecoveryPath(admin.LastRecovery))
	if err != nil {
		return v, err
	}
	said := answers(text)
	if len(said) != 2 || said[0].status != "200" || said[1].status != "200" {
		return v, fmt.Errorf("the supervisor answers %q", text)
	}
	return v, errors.Join(json.Unmarshal(said[0].body, &v.stack), json.Unmarshal(said[1].body, &v.report))
}

// service returns what the supervisor says of one; nothing, of one that it does not know.
func (v stackView) service(name string) admin.Service {
	for _, s := range v.stack.Services {
		if s.Name == name {
			return s
		}
	}
	return admin.Service{}
}

// well says that this supervisor has seen the doors to answer right and every service to be ready, and that nothing else is wrong.
func (v stackView) well() bool {
	if v.stack.Looked.IsZero() {
		return false // it has just started, and says what the one before it saw
	}
	for _, s := range v.stack.Services {
		if !s.Ready {
			return false
		}
	}
	return v.stack.Phase == "settled" && len(v.stack.Services) == len(failover.After()) && v.stack.Doors.Right && len(v.stack.Conditions) == 0
}

// String says what is missing.
func (v stackView) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "phase %s; doors right: %t, %s", v.stack.Phase, v.stack.Doors.Right, v.stack.Doors.Text)
	for _, s := range v.stack.Services {
		if !s.Ready {
			fmt.Fprintf(&b, "\n  %s is %s: %s", s.Name, s.State, s.Why)
		}
	}
	for _, c := range v.stack.Conditions {
		fmt.Fprintf(&b, "\n  %s: %s (%s)", c.Code, c.Text, c.Cure)
	}
	return b.String()
}

// awaitWell waits until all of the stack is up.
func (f *fleet) awaitWell(ctx context.Context, vm string) error {
	return f.awaitStack(ctx, vm, "the stack is well", stackView.well)
}

// awaitStack waits until ok holds for what the supervisor says. One that does not answer yet is asked again.
func (f *fleet) awaitStack(ctx context.Context, vm, what string, ok func(stackView) bool) error {
	tick := time.NewTicker(2 * time.Second) // each question costs an emulated processor part of one
	defer tick.Stop()
	var last stackView
	var problem error
	shown := ""
	for {
		v, err := f.askSupervisor(ctx, vm)
		if err == nil {
			last = v
		}
		if problem = err; err == nil && ok(v) {
			return nil
		}
		if text := last.String(); os.Getenv("TRACE") != "" && text != shown {
			shown = text
			say("  %s", text)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s on %s: %w (%w)\n%s", what, vm, ctx.Err(), errors.Join(problem, errors.New("last seen")), last)
		}
	}
}

// compile builds a static program of this module.
func compile(name, dir string) ([]byte, error) {
	scratch, err := os.MkdirTemp("", "mooring-"+name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a directory of its own
	out := filepath.Join(scratch, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return os.ReadFile(out)
}
