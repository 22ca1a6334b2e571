package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

// acknowledgedDigest is how `docker push` and `docker pull` say which manifest they mean.
var acknowledgedDigest = regexp.MustCompile(`[Dd]igest: (sha256:[0-9a-f]{64})`)

func (s *story) push(ctx context.Context) (string, error) {
	busybox, err := os.ReadFile(filepath.Join(filepath.Dir(s.cache), "busybox")) // of make setup
	if err != nil {
		return "", fmt.Errorf("find busybox: %w", err)
	}
	total := 0
	for _, i := range []struct {
		repository string
		size       int
	}{{"shop/web", 3 << 20}, {"shop/worker", 5 << 20}} {
		pushed, err := s.pushOne(ctx, image{repository: i.repository, tag: "1.0"}, busybox, i.size)
		if err != nil {
			return "", err
		}
		s.images = append(s.images, pushed)
		total += len(pushed.manifest.blobs())
	}
	return fmt.Sprintf("the registry acknowledged two images, %d blobs", total), nil
}

func (s *story) pushOne(ctx context.Context, i image, busybox []byte, size int) (image, error) {
	p, err := newPayload(s.ref(i), busybox, size)
	if err != nil {
		return image{}, err
	}
	if _, err := s.Run(ctx, bytes.NewReader(p.archive), "docker", "load"); err != nil {
		return image{}, err
	}
	s.later("docker", "image", "rm", s.ref(i))
	i.sum = p.sum
	if i.id, err = s.Quiet(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", s.ref(i)); err != nil {
		return image{}, err
	}
	said, err := s.Show(ctx, "docker", "push", s.ref(i))
	if err != nil {
		return image{}, err
	}
	if i.manifest, err = s.registry.manifest(ctx, i.repository, i.tag); err != nil {
		return image{}, err
	}
	if digest := acknowledgedDigest.FindStringSubmatch(said); digest == nil || digest[1] != i.manifest.Digest {
		return image{}, fmt.Errorf("docker push said %q, the registry has %s: %w", play.Tail(said, 200), i.manifest.Digest, errUnexpected)
	}
	s.Talk.Note("acknowledged: %s", i.manifest.Digest)
	return i, nil
}

const rowsAtFirst, rowsMeanwhile = 1000, 100

func (s *story) writeRows(ctx context.Context) (string, error) {
	if _, err := s.sql(ctx, "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, content VARCHAR(64) NOT NULL) ENGINE=InnoDB"); err != nil {
		return "", err
	}
	if err := s.insert(ctx, rowsAtFirst); err != nil {
		return "", err
	}
	return fmt.Sprintf("MariaDB committed %d rows", len(s.rows)), nil
}

// insert writes n more rows of random content in one transaction, and remembers them once it is committed.
func (s *story) insert(ctx context.Context, n int) error {
	rows := slices.Clone(s.rows)
	var values []string
	for range n {
		rows = append(rows, rand.Text())
		values = append(values, fmt.Sprintf("(%d,'%s')", len(rows), rows[len(rows)-1]))
	}
	_, err := s.sql(ctx, "START TRANSACTION; INSERT INTO shop.orders VALUES "+strings.Join(values, ",")+"; COMMIT")
	if err == nil {
		s.rows = rows
	}
	return err
}

// sql has MariaDB's own client run the statements, and returns what it printed: a line for each row, without headings.
func (s *story) sql(ctx context.Context, statements string) (string, error) {
	id, err := s.container(ctx, "database")
	if err != nil {
		return "", err
	}
	return s.Run(ctx, strings.NewReader(statements), "docker", "exec", "-i", id, "mariadb", "--batch", "--skip-column-names")
}

// jobLog returns the log's lines.
func (s *story) jobLog(ctx context.Context) ([]string, error) {
	id, err := s.container(ctx, "joblog")
	if err != nil {
		return nil, err
	}
	text, err := s.Quiet(ctx, "docker", "exec", id, "cat", "/var/log/jobs/job.log")
	if err != nil {
		return nil, err
	}
	return strings.Split(text, "\n"), nil
}

// nextJob waits until a job ends that was not seen before: the log can be written. Lines that are there must be in order.
func (s *story) nextJob(ctx context.Context, limit time.Duration) error {
	return play.Wait(ctx, "the next job", limit, func(ctx context.Context) error {
		lines, err := s.jobLog(ctx)
		if err != nil {
			return err
		}
		if len(lines) <= s.jobs {
			return fmt.Errorf("the log has %d lines, as before: %w", len(lines), errUnexpected)
		}
		s.jobs = len(lines)
		return inOrder(lines)
	})
}

// inOrder returns an error unless the lines are those of job 1, 2, 3 and so on, each whole.
func inOrder(lines []string) error {
	for i, line := range lines {
		if line != strconv.Itoa(i+1)+" job done" {
			return fmt.Errorf("line %d of the job log is %q: %w", i+1, line, errUnexpected)
		}
	}
	return nil
}
