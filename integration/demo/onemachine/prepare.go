package main

import (
	"cmp"
	"context"
	_ "embed" // for the compose file
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/client"
	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/internal/admin"
)

//go:embed compose.yaml
var composeFile string

const (
	policyName    = "SW=2"
	policyContent = `(("stripeWidth" i2))`
)

// names returns the story's three volumes.
func names() []string { return []string{"vsanvol1", "vsanvol2", "vsanvol3"} }

func (s *story) lookAround(ctx context.Context) (string, error) {
	var status admin.Status
	if err := s.decode(ctx, &status, "mooring", "status", "-o", "json"); err != nil {
		return "", err
	}
	if !status.VCenter.Reachable {
		return "", fmt.Errorf("vCenter at %s: %s: %w", status.VCenter.URL, status.VCenter.Error, errUnexpected)
	}
	s.vm = status.VM
	engine, err := s.Quiet(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return "", err
	}
	disks, err := client.HardDisks(ctx, s.vm)
	if err != nil {
		return "", err
	}
	s.own = make(map[string]bool)
	for _, disk := range disks {
		s.own[disk.UUID] = true
	}
	if status.Volumes > 0 {
		return "", fmt.Errorf("there are %d volumes before anything was made: %w", status.Volumes, errUnexpected)
	}
	return fmt.Sprintf("this machine is the VM %s at %s, with no volume; Docker Engine %s; mooring %s",
		s.vm, status.VCenter.URL, engine, status.Version), nil
}

func (s *story) makePolicy(ctx context.Context) (string, error) {
	if _, err := s.Show(ctx, "mooring", "policy", "create", "--name", policyName, "--content", policyContent); err != nil {
		return "", err
	}
	s.later("mooring", "policy", "rm", policyName)
	shown, err := s.Show(ctx, "mooring", "policy", "show", policyName)
	if err != nil {
		return "", err
	}
	if !strings.Contains(shown, "stripeWidth") {
		return "", fmt.Errorf("policy show %s printed %q: %w", policyName, shown, errUnexpected)
	}
	return "vCenter has the storage policy " + policyName + " with " + policyContent, nil
}

func (s *story) makeVolumes(ctx context.Context) (string, error) {
	create := []string{"docker", "volume", "create", "--driver=vmdk"}
	for _, args := range [][]string{
		{"--name=vsanvol1", "-o", "size=50gb"},
		{"--name=vsanvol2", "-o", "size=20gb"},
		{"--name=vsanvol3", "-o", "size=20gb", "-o", "vsan-policy-name=" + policyName},
	} {
		if _, err := s.Show(ctx, append(slices.Clip(create), args...)...); err != nil {
			return "", err
		}
		s.later("docker", "volume", "rm", strings.TrimPrefix(args[0], "--name="))
	}
	views, err := s.volumes(ctx)
	if err != nil {
		return "", err
	}
	var got []string
	for _, view := range views {
		got = append(got, string(view.Name))
		s.Talk.Note("%s  %s  policy: %s", view.Backing, view.Size, cmp.Or(string(view.Policy), "the datastore's default"))
	}
	slices.Sort(got)
	if !slices.Equal(got, names()) {
		return "", fmt.Errorf("the volumes are %v, want %v: %w", got, names(), errUnexpected)
	}
	disks, err := s.attached(ctx)
	if err != nil {
		return "", err
	}
	if len(disks) > 0 {
		return "", fmt.Errorf("nobody uses a volume, and %s has %v: %w", s.vm, disks, errUnexpected)
	}
	return "three VMDKs in dockvols, attached to no VM while no container uses them", nil
}

func (s *story) makeImages(ctx context.Context) (string, error) {
	for _, r := range services() {
		tarball, err := r.tarball(ctx, s.Commands, s.cache)
		if err != nil {
			return "", err
		}
		entrypoint, err := json.Marshal(r.Entrypoint)
		if err != nil {
			return "", fmt.Errorf("encode the entry point of %s: %w", r.Name, err)
		}
		argv := []string{"docker", "import", "-c", "ENTRYPOINT " + string(entrypoint)}
		if r.User != "" {
			argv = append(argv, "-c", "USER "+r.User)
		}
		if _, err := s.Quiet(ctx, append(argv, tarball, "mooring-demo/"+r.Name)...); err != nil {
			return "", err
		}
		s.later("docker", "image", "rm", "mooring-demo/"+r.Name)
	}
	return "docker-registry, MariaDB and a job-log writer, as Debian packages them", nil
}

func (s *story) startStack(ctx context.Context) (string, error) {
	s.Talk.Line("     (compose.yaml: three services, each on a volume that is external: true)")
	s.undo = append(s.undo, func(ctx context.Context) error { return s.showComposed(ctx, "down") })
	if err := s.showComposed(ctx, "up", "-d"); err != nil {
		return "", err
	}
	if err := s.allServing(ctx); err != nil {
		return "", err
	}
	disks, err := s.attachedAll(ctx)
	if err != nil {
		return "", err
	}
	for _, disk := range disks {
		s.Talk.Note("%s of %s: %s  policy: %s", disk.Label, s.vm, disk.Backing, cmp.Or(disk.Policy, "the datastore's default"))
	}
	return fmt.Sprintf("all three serve; vCenter shows the VMDKs as %s, %s and %s, the last with the policy %s",
		disks[0].Label, disks[1].Label, disks[2].Label, disks[2].Policy), nil
}

// allServing waits until each service does what it is for.
func (s *story) allServing(ctx context.Context) error {
	const limit = 90 * time.Second
	if err := play.Wait(ctx, "the registry", limit, s.registry.ready); err != nil {
		return err
	}
	err := play.Wait(ctx, "the database", limit, func(ctx context.Context) error {
		_, err := s.sql(ctx, "SELECT 1")
		return err
	})
	if err != nil {
		return err
	}
	return s.nextJob(ctx, limit)
}
