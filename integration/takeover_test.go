package integration_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/integration/lab"
)

// What a machine meets that was off, or was put back, while others went on.
func TestTakeover(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"released from a machine that is powered off", releasedVolume},
		{"ledger from before the volume was formatted", oldLedger},
		{"what the doctor says", doctorsWord},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, r)
			r.clear(t)
		})
	}
}

// releasedVolume is in another machine's configuration. It is refused until that machine is off and its claim released; then both machines work.
func releasedVolume(t *testing.T, r *rig) {
	newVolume(t, "va")
	docker(t, "start", "va")
	docker(t, "exec", "va", "touch", "/d/kept")
	docker(t, "stop", "va")
	r.detached(t, "va")
	other := esx.NewHost(session(t, r.VCenter, r.Plugin()), esx.Where{VM: lab.OtherBIOS}, slog.New(slog.DiscardHandler))
	vol, err := other.Find(t.Context(), "va")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	release := func(want int, says string) {
		t.Helper()
		if code, out := r.mooring(t, r.Plugin(), "volume", "release", "va", "--from", lab.OtherVM, "--yes"); code != want || !strings.Contains(out, says) {
			t.Errorf("release: got exit status %d, want %d with %q\n%s", code, want, says, out)
		}
	}
	release(12, "may still write")
	if err := r.PowerOff(lab.OtherVM); err != nil {
		t.Fatal(err)
	}
	fails(t, "mooring volume release va --from "+lab.OtherVM, "start", "va")
	release(0, "is released")
	release(0, "nothing to release")
	docker(t, "start", "va")
	docker(t, "exec", "va", "test", "-e", "/d/kept")
	if err := r.PowerOn(lab.OtherVM); err != nil {
		t.Errorf("the other machine cannot be powered on: %v", err)
	}
	docker(t, "exec", "va", "touch", "/d/both-run")
}

// oldLedger puts the ledger back to where the volume was made and not formatted, as a machine's restore does. What is on the disk by then is not formatted over.
func oldLedger(t *testing.T, r *rig) {
	newVolume(t, "va")
	r.stopPlugin(t)
	kept := make(map[string][]byte)
	for _, file := range r.ledgers(t) {
		kept[file] = read(t, file)
	}
	r.startPlugin(t)
	docker(t, "start", "va")
	docker(t, "exec", "va", "sh", "-c", "echo row > /d/kept; sync")
	docker(t, "stop", "va")
	r.detached(t, "va")
	r.stopPlugin(t)
	for file, content := range kept {
		write(t, file, content, 0o600)
	}
	r.startPlugin(t)
	docker(t, "start", "va")
	if got := docker(t, "exec", "va", "cat", "/d/kept"); strings.TrimSpace(got) != "row" {
		t.Errorf("got %q, want what was written", got)
	}
	if got := r.view(t, "va").Format; got != mooring.FormatDone {
		t.Errorf("the ledger says %q about formatting, want done", got)
	}
}

// doctorsWord names what deleting this machine would delete, and finds nothing wrong with what the lab has right.
func doctorsWord(t *testing.T, r *rig) {
	newVolume(t, "va")
	docker(t, "start", "va")
	_, out := r.mooring(t, r.Plugin(), "doctor")
	for _, want := range []string{
		"note      what goes with the machine", "attached now: va",
		"ok        vCenter answers", "ok        disks show their UUIDs", "ok        four PVSCSI controllers", "ok        no snapshots",
		"ok        the ledger is this machine's", "ok        systemd holds the sockets", "ok        Docker's live restore", "ok        mount directories are protected",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the doctor does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// G2, G20: the plugin is killed 30 times in 10 seconds, at whatever it is doing. Its sockets take requests all the time (none is refused), a container writes on, and in the end labels,
// references and holders are as they were.
func TestG2KilledThirtyTimesInTenSeconds(t *testing.T) {
	r := newRig(t)
	newVolume(t, "va")
	newVolume(t, "vb")
	docker(t, "start", "va")
	docker(t, "exec", "-d", "va", "sh", "-c", "while true; do echo row >> /d/rows; sync /d/rows; done")
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asked := 0
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked++
			// A request that dies with the plugin dockerd repeats without its body, which gets no answer, so that dockerd keeps what it knows.
			out, err := tryDocker(t, "volume", "inspect", "-f", "{{.Labels.keep}}", "va")
			if err == nil && strings.TrimSpace(out) != "me" || err != nil && !strings.Contains(out, "EOF") {
				t.Errorf("inspect: got %q, %v, want the label", out, err)
				return
			}
		}
	})
	starts := r.unit.Starts()
	tick := time.NewTicker(time.Second / 3)
	defer tick.Stop()
	for range 30 {
		<-tick.C
		r.killPlugin(t)
	}
	close(stop)
	asking.Wait()
	r.ready(t)
	if n := r.unit.Starts() - starts; n < 20 || asked == 0 {
		t.Errorf("the plugin was started %d times and dockerd asked %d times, want many of both", n, asked)
	}
	if got := inspect(t, "va", "{{.Labels.keep}}"); got != "me" {
		t.Errorf("got label %q, want me", got)
	}
	r.mustHold(t, "va", 1)
	fails(t, "in use", "volume", "rm", "va")
	rows := func() int { return len(docker(t, "exec", "va", "cat", "/d/rows")) }
	before := rows()
	until(t, "the container writes on", func() bool { return rows() > before })
	docker(t, "start", "vb")
	docker(t, "stop", "va", "vb")
	r.detached(t, "va")
	log := r.log(t, 0)
	if n := strings.Count(log, "msg=restore"); n != 0 {
		t.Errorf("restored %d times what was mounted all the time", n)
	}
	t.Logf("%d starts, %d questions of dockerd", r.unit.Starts()-starts, asked)
}
