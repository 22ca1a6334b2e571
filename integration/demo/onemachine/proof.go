package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// proveImages pulls each image again after every local copy is gone, and hashes what came; then it reads each blob from
// the registry and hashes that.
func (s *story) proveImages(ctx context.Context) (string, error) {
	blobs := 0
	var read int64
	for _, i := range s.images { // all of them first: they have a layer in common
		if _, err := s.Show(ctx, "docker", "image", "rm", s.ref(i)); err != nil {
			return "", err
		}
	}
	for _, i := range s.images {
		if err := s.pullAgain(ctx, i); err != nil {
			return "", err
		}
		for _, reference := range []string{i.tag, i.manifest.Digest} {
			m, err := s.registry.manifest(ctx, i.repository, reference)
			if err != nil {
				return "", err
			}
			if m.Digest != i.manifest.Digest || !slices.Equal(m.blobs(), i.manifest.blobs()) {
				return "", fmt.Errorf("%s:%s is %s, acknowledged was %s: %w", i.repository, reference, m.Digest, i.manifest.Digest, errUnexpected)
			}
		}
		for _, b := range i.manifest.blobs() {
			if err := s.registry.rehash(ctx, i.repository, b); err != nil {
				return "", err
			}
			blobs++
			read += b.Size
		}
	}
	return fmt.Sprintf("%d images pulled again, same digests; %d blobs, %.1f MB, rehashed: all as acknowledged",
		len(s.images), blobs, float64(read)/1e6), nil
}

func (s *story) pullAgain(ctx context.Context, i image) error {
	if _, err := s.Quiet(ctx, "docker", "image", "inspect", i.id); err == nil {
		return fmt.Errorf("%s is still here after its removal: a pull would prove nothing: %w", i.id, errUnexpected)
	}
	said, err := s.Show(ctx, "docker", "pull", s.ref(i))
	if err != nil {
		return err
	}
	if digest := acknowledgedDigest.FindStringSubmatch(said); digest == nil || digest[1] != i.manifest.Digest {
		return fmt.Errorf("docker pull said %q, acknowledged was %s: %w", play.Tail(said, 200), i.manifest.Digest, errUnexpected)
	}
	id, err := s.Quiet(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", s.ref(i))
	if err != nil {
		return err
	}
	sum, err := s.Quiet(ctx, "docker", "run", "--rm", "--network", "none", s.ref(i))
	if err != nil {
		return err
	}
	if id != i.id || !strings.HasPrefix(sum, i.sum) {
		return fmt.Errorf("%s came back as %s with the payload %s, it was %s with %s: %w", s.ref(i), id, sum, i.id, i.sum, errUnexpected)
	}
	return nil
}

func (s *story) proveRows(ctx context.Context) (string, error) {
	text, err := s.sql(ctx, "SELECT content FROM shop.orders ORDER BY id")
	if err != nil {
		return "", err
	}
	if got := strings.Fields(text); !slices.Equal(got, s.rows) {
		return "", fmt.Errorf("the database has %d rows that differ from the %d committed: %w", len(got), len(s.rows), errUnexpected)
	}
	checked, err := s.sql(ctx, "CHECK TABLE shop.orders EXTENDED")
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(checked, "OK") {
		return "", fmt.Errorf("CHECK TABLE says %q: %w", checked, errUnexpected)
	}
	return fmt.Sprintf("all %d rows are there as committed, and the table is sound", len(s.rows)), nil
}

func (s *story) proveLog(ctx context.Context) (string, error) {
	lines, err := s.jobLog(ctx)
	if err != nil {
		return "", err
	}
	if err := inOrder(lines); err != nil {
		return "", err
	}
	if len(lines) < s.jobs {
		return "", fmt.Errorf("the log has %d lines, %d were seen before: %w", len(lines), s.jobs, errUnexpected)
	}
	return fmt.Sprintf("all %d lines are there, none torn, none missing", len(lines)), nil
}

// takeDown undoes what the story did, the last first, as far as it got, and looks whether anything stayed.
func (s *story) takeDown(ctx context.Context) (string, error) {
	var failed []error
	for _, undo := range slices.Backward(s.undo) {
		failed = append(failed, undo(ctx))
	}
	failed = append(failed, s.nothingLeft(ctx), s.stopDocker())
	return "no volume, disk, container or image of the demo is left", errors.Join(failed...)
}

// nothingLeft returns an error if the plugin, vCenter or the lab knows of anything that stayed, or of a disk that was ever
// taken from this machine while it was mounted.
func (s *story) nothingLeft(ctx context.Context) error {
	var failed []error
	views, err := s.volumes(ctx)
	failed = append(failed, err)
	status, err := s.labStatus(ctx)
	failed = append(failed, err)
	if len(status.Violations) > 0 {
		failed = append(failed, fmt.Errorf("detached while mounted: %+v: %w", status.Violations, errUnexpected))
	}
	disks, err := s.attached(ctx)
	failed = append(failed, err)
	if len(views)+len(disks) > 0 {
		failed = append(failed, fmt.Errorf("%d volumes and %d attached disks are left: %w", len(views), len(disks), errUnexpected))
	}
	return errors.Join(failed...)
}

// later has takeDown run the command, in the reverse of the order in which later was called.
func (s *story) later(argv ...string) {
	s.undo = append(s.undo, func(ctx context.Context) error {
		_, err := s.Show(ctx, argv...)
		return err
	})
}
