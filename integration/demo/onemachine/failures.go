package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// killPlugin kills the volume driver while the stack works, and looks whether anybody forgot anything.
func (s *story) killPlugin(ctx context.Context) (string, error) {
	disks, err := s.attachedAll(ctx)
	if err != nil {
		return "", err
	}
	before, err := s.labStatus(ctx)
	if err != nil {
		return "", err
	}
	if _, err := s.Show(ctx, "mooring-lab", "plugin", "kill"); err != nil {
		return "", err
	}
	s.Talk.Note("kill -9; the lab starts it again, as systemd would")
	if err := s.insert(ctx, rowsMeanwhile); err != nil {
		return "", fmt.Errorf("just after the kill: %w", err)
	}
	if err := s.nextJob(ctx, 10*time.Second); err != nil {
		return "", fmt.Errorf("just after the kill: %w", err)
	}
	if err := play.Wait(ctx, "the driver to hold the three volumes again", 30*time.Second, s.held); err != nil {
		return "", err
	}
	if err := s.dockerRemembers(ctx); err != nil {
		return "", err
	}
	now, err := s.labStatus(ctx)
	if err != nil {
		return "", err
	}
	if now.Plugin.Starts != before.Plugin.Starts+1 || now.Plugin.PID == before.Plugin.PID {
		return "", fmt.Errorf("the driver was started %d times, and %d before the kill: %w", now.Plugin.Starts, before.Plugin.Starts, errUnexpected)
	}
	after, err := s.attachedAll(ctx)
	if err != nil {
		return "", err
	}
	if !slices.Equal(disks, after) {
		return "", fmt.Errorf("the VM had %+v and has %+v: %w", disks, after, errUnexpected)
	}
	return "kill -9: the stack worked on; afterwards every volume is held and mounted, no disk moved, Docker forgot nothing", nil
}

// held returns an error unless each volume is attached, mounted, and held by one container, once.
func (s *story) held(ctx context.Context) error {
	views, err := s.volumes(ctx)
	if err != nil {
		return err
	}
	if len(views) != len(names()) {
		return fmt.Errorf("%d volumes, want %d: %w", len(views), len(names()), errUnexpected)
	}
	for _, v := range views {
		if !v.Attached || !v.Mounted || len(v.Holders) != 1 || v.Holders[0].Count != 1 || len(v.Conditions) > 0 {
			return fmt.Errorf("%s: attached %t, mounted %t, holders %v, conditions %v: %w",
				v.Name, v.Attached, v.Mounted, v.Holders, v.Conditions, errUnexpected)
		}
	}
	return nil
}

// dockerRemembers returns an error unless dockerd knows the options that each volume was made with, and that it is in use.
func (s *story) dockerRemembers(ctx context.Context) error {
	for i, size := range []string{"50gb", "20gb", "20gb"} {
		name := names()[i]
		want := map[string]string{"size": size}
		if name == "vsanvol3" {
			want["vsan-policy-name"] = policyName
		}
		var got map[string]string
		if err := s.decode(ctx, &got, "docker", "volume", "inspect", "--format", "{{json .Options}}", name); err != nil {
			return err
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("docker has the options %v for %s, it was made with %v: %w", got, name, want, errUnexpected)
		}
		switch _, err := s.Quiet(ctx, "docker", "volume", "rm", name); {
		case err == nil:
			return fmt.Errorf("docker removed %s under a running container: %w", name, errUnexpected)
		case !strings.Contains(err.Error(), "in use"):
			return fmt.Errorf("docker refuses to remove %s, but not because it is in use: %w", name, err)
		}
	}
	return nil
}

// killDocker kills dockerd if the lab started it. One that ran before the lab is somebody's: then only the stack's
// containers are restarted.
func (s *story) killDocker(ctx context.Context) (string, error) {
	pid, err := s.labDocker(ctx)
	if err != nil {
		return "", err
	}
	proof := "kill -9: after its restart the containers run again by themselves, each volume held once"
	if pid != 0 {
		if err := s.replaceDocker(ctx, pid); err != nil {
			return "", err
		}
	} else {
		proof = "left alone, for it ran before the demo: only the stack's containers were restarted; each volume is held once"
		s.Talk.Note("this machine's dockerd ran before the demo and may run other things: it is NOT killed")
		if err := s.showComposed(ctx, "restart", "-t", "20"); err != nil {
			return "", err
		}
	}
	if err := s.allServing(ctx); err != nil {
		return "", err
	}
	if err := play.Wait(ctx, "each volume to be held once", 30*time.Second, s.held); err != nil {
		return "", err
	}
	if err := s.dockerRemembers(ctx); err != nil {
		return "", err
	}
	_, err = s.attachedAll(ctx)
	return proof, err
}

// stopAndStart stops the stack until no disk is attached, and starts it again: what is read afterwards comes from the disks.
func (s *story) stopAndStart(ctx context.Context) (string, error) {
	if err := s.showComposed(ctx, "stop", "-t", "20"); err != nil {
		return "", err
	}
	err := play.Wait(ctx, "the disks to be detached", 60*time.Second, func(ctx context.Context) error {
		disks, err := s.attached(ctx)
		if err == nil && len(disks) > 0 {
			err = fmt.Errorf("%s still has %+v: %w", s.vm, disks, errUnexpected)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	s.Talk.Note("vCenter: %s has none of the three disks", s.vm)
	if err := s.showComposed(ctx, "start"); err != nil {
		return "", err
	}
	if err := s.allServing(ctx); err != nil {
		return "", err
	}
	if err := s.held(ctx); err != nil {
		return "", err
	}
	_, err = s.attachedAll(ctx)
	return "stopped: all three were unmounted and detached; started: attached and mounted again, and everything serves", err
}
