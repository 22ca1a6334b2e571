package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/client"
	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// errUnexpected is something that is not as it was acknowledged, or as it must be.
var errUnexpected = errors.New("not as expected")

// vm is the virtual machine of the story.
const vm = "docker1"

// parts are what was made for the demo before it began.
type parts struct {
	deb, harborlike, images string
}

// story is what the steps remember for those that follow.
type story struct {
	*play.Commands
	parts

	host  string // on which the machine runs, until its power is cut
	boot  string // the boot that ended with it
	disks []client.HardDisk

	pushed  []push.Record
	pushing *pusher   // goes on until the host dies
	killed  time.Time // when its power was cut
	back    time.Time // when the stack had settled again
}

// steps is the story, in its order. What they usually take was seen in software emulation on two processors.
func (s *story) steps() []play.Step {
	return []play.Step{
		{Title: "three hosts, one of them with a virtual machine that has Docker", About: 2 * time.Second, Do: s.lookAround},
		{Title: "Mooring's package is installed in the machine", About: 30 * time.Second, Do: s.install},
		{Title: "a storage policy with a stripe width of two", About: 2 * time.Second, Do: s.makePolicy},
		{Title: "three volumes", About: 10 * time.Second, Do: s.makeVolumes},
		{Title: "a stack like Harbor's on them", About: 3 * time.Minute, Limit: 15 * time.Minute, Do: s.startStack},
		{Title: "the volumes in vSphere", About: 2 * time.Second, Do: s.lookAtDisks},
		{Title: "images are pushed", About: 30 * time.Second, Do: s.push},
		{Title: "the host's power is cut, while images are pushed", About: 10 * time.Second, Do: s.killHost},
		{Title: "vSphere HA starts the machine on another host", About: time.Minute, Do: s.restarted},
		{Title: "the stack comes back by itself, in order", About: 3 * time.Minute, Limit: 20 * time.Minute, Do: s.recovered},
		{Title: "every image proved, on the volume", About: 20 * time.Second, Do: s.verify},
		{Title: "every image pulled", About: 30 * time.Second, Do: s.pull},
	}
}

// inside shows a command and runs it in the machine.
func (s *story) inside(ctx context.Context, argv ...string) (string, error) {
	return s.Show(ctx, append([]string{"mooring-lab", "vm", "exec", vm, "--"}, argv...)...)
}

// quietly runs a shell script in the machine without showing it.
func (s *story) quietly(ctx context.Context, script string) (string, error) {
	return s.Quiet(ctx, "mooring-lab", "vm", "exec", vm, "--", "sh", "-ec", script)
}

// copyIn copies a file of this machine into the virtual machine.
func (s *story) copyIn(ctx context.Context, file, to string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = s.Run(ctx, f, "mooring-lab", "vm", "exec", vm, "--", "sh", "-ec", "cat >"+to)
	return err
}

// write writes a text into a file of the virtual machine.
func (s *story) write(ctx context.Context, to, text string) error {
	_, err := s.Run(ctx, strings.NewReader(text), "mooring-lab", "vm", "exec", vm, "--", "sh", "-ec", "cat >"+to)
	return err
}

// decode runs a command and decodes the JSON that it prints.
func (s *story) decode(ctx context.Context, into any, argv ...string) error {
	out, err := s.Quiet(ctx, argv...)
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(into); err != nil {
		return fmt.Errorf("decode what %s printed: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// look returns what vCenter and what the lab know of the machine.
func (s *story) look(ctx context.Context) (vcenter.Machine, control.Guest, error) {
	var st control.Status
	if err := s.decode(ctx, &st, "mooring-lab", "status", "-o", "json"); err != nil {
		return vcenter.Machine{}, control.Guest{}, err
	}
	for _, m := range st.Machines {
		if m.Name == vm {
			return m, st.Guests[vm], nil
		}
	}
	return vcenter.Machine{}, control.Guest{}, fmt.Errorf("vCenter has no virtual machine %s: %w", vm, errUnexpected)
}
