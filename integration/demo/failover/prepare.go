package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/client"
	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	policyName    = "SW=2"
	policyContent = `(("stripeWidth" i2))`

	project    = "/opt/harbor"               // the compose project's directory in the machine
	harborlike = "/usr/local/bin/harborlike" // the program that pushes and pulls, in the machine
)

func (s *story) lookAround(ctx context.Context) (string, error) {
	m, _, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	s.host = m.Host
	engine, err := s.inside(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return "", err
	}
	if s.disks, err = client.HardDisks(ctx, vm); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s runs on %s under vSphere HA, with Docker Engine %s and %d disk of its own", vm, s.host, engine, len(s.disks)), nil
}

// install installs the package as an administrator would. vCenter's address and the plugin's account are in the configuration that the lab put there.
func (s *story) install(ctx context.Context) (string, error) {
	file := "/var/tmp/" + filepath.Base(s.deb)
	if err := s.copyIn(ctx, s.deb, file); err != nil {
		return "", err
	}
	before, err := s.quietly(ctx, "systemctl show -P MainPID docker")
	if err != nil {
		return "", err
	}
	if _, err := s.inside(ctx, "dpkg", "--force-confold", "-i", file); err != nil {
		return "", err
	}
	if err := play.Wait(ctx, "the plugin to reach vCenter", time.Minute, func(ctx context.Context) error {
		var status admin.Status
		err := s.decode(ctx, &status, "mooring-lab", "vm", "exec", vm, "--", "mooring", "status", "-o", "json")
		if err == nil && (!status.VCenter.Reachable || status.VM != vm) {
			err = fmt.Errorf("it takes itself for %q, vCenter: %s: %w", status.VM, status.VCenter.Error, errUnexpected)
		}
		return err
	}); err != nil {
		return "", err
	}
	after, err := s.quietly(ctx, "systemctl show -P MainPID docker")
	if err == nil && after != before {
		err = fmt.Errorf("dockerd was restarted by the installation: %w", errUnexpected)
	}
	return "the plugin serves, and knows its machine; nothing was restarted", err
}

func (s *story) makePolicy(ctx context.Context) (string, error) {
	_, err := s.Show(ctx, "mooring", "policy", "create", "--name", policyName, "--content", policyContent)
	return "as the administrator, from the command line", err
}

func (s *story) makeVolumes(ctx context.Context) (string, error) {
	for _, create := range [][]string{
		{"--name=vsanvol1", "-o", "size=50gb"},
		{"--name=vsanvol2", "-o", "size=20gb"},
		{"--name=vsanvol3", "-o", "size=20gb", "-o", "vsan-policy-name=" + policyName},
	} {
		if _, err := s.inside(ctx, append([]string{"docker", "volume", "create", "--driver=vmdk"}, create...)...); err != nil {
			return "", err
		}
	}
	now, err := client.HardDisks(ctx, vm)
	if err == nil && len(now) != len(s.disks) {
		err = fmt.Errorf("%d disks are attached before anybody uses one: %w", len(now)-len(s.disks), errUnexpected)
	}
	return "made under dockvols on the vSAN datastore; while no container uses them they are attached to no machine", err
}

// supervisorConfig is what is to be said of a stack: where it is, and what it is.
const supervisorConfig = "stack: {directory: " + project + ", profile: harbor}\n"

func (s *story) startStack(ctx context.Context) (string, error) {
	if err := s.copyIn(ctx, s.harborlike, harborlike); err != nil {
		return "", err
	}
	s.Talk.Note("Debian's registry, PostgreSQL, redis, nginx and rsyslog, built like Harbor's nine services; on the volumes, each external: true")
	if err := s.loadImages(ctx); err != nil {
		return "", err
	}
	if _, err := s.quietly(ctx, "chmod 755 "+harborlike+"; "+harborlike+" project "+project); err != nil {
		return "", err
	}
	if _, err := s.inside(ctx, "sh", "-c", "cd "+project+" && ./prepare && docker compose up -d"); err != nil {
		return "", err
	}
	if err := s.write(ctx, "/etc/mooring/supervisor.yaml", supervisorConfig); err != nil {
		return "", err
	}
	if _, err := s.inside(ctx, "systemctl", "restart", "mooring-supervisor"); err != nil {
		return "", err
	}
	if err := play.Wait(ctx, "the stack", 10*time.Minute, s.well); err != nil {
		return "", err
	}
	return "nine services are up, and /api/v2.0/ping answers Pong; the supervisor looks after them", nil
}

func (s *story) loadImages(ctx context.Context) error {
	if err := s.copyIn(ctx, s.images, "/var/tmp/images.tar"); err != nil {
		return err
	}
	_, err := s.quietly(ctx, "docker load -q -i /var/tmp/images.tar; rm /var/tmp/images.tar")
	return err
}

// well returns an error unless every service is ready and the doors answer right.
func (s *story) well(ctx context.Context) error {
	var st admin.Stack
	if err := s.decode(ctx, &st, "mooring-lab", "vm", "exec", vm, "--", "mooring", "stack", "ps", "-o", "json"); err != nil {
		return err
	}
	var waits []string
	for _, v := range st.Services {
		if !v.Ready {
			waits = append(waits, v.Name)
		}
	}
	if len(waits) > 0 || len(st.Services) == 0 || !st.Doors.Right || st.Phase != "settled" {
		return fmt.Errorf("%s; not ready: %s; the doors: %s: %w", st.Phase, cmp.Or(strings.Join(waits, ", "), "none"), st.Doors.Text, errUnexpected)
	}
	return nil
}

// lookAtDisks is step 5 of the article: the vSphere client shows the three disks. There their policy was "None".
func (s *story) lookAtDisks(ctx context.Context) (string, error) {
	all, err := client.HardDisks(ctx, vm)
	if err != nil {
		return "", err
	}
	own := make(map[string]bool)
	for _, d := range s.disks {
		own[d.UUID] = true
	}
	s.disks = nil
	for _, d := range all {
		if !own[d.UUID] {
			s.disks = append(s.disks, d)
			s.Talk.Note("%s of %s: %s  policy: %s", d.Label, vm, d.Backing, cmp.Or(d.Policy, "the datastore's default"))
		}
	}
	if len(s.disks) != 3 || s.disks[2].Policy != policyName {
		return "", fmt.Errorf("vCenter shows %+v, want three, the last with the policy %s: %w", s.disks, policyName, errUnexpected)
	}
	return "vCenter shows the three as disks of the machine, and the third with its policy", nil
}
