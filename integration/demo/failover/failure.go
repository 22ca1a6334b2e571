package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/client"
	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
)

// push pushes the images of the story, and leaves pushers at work that go on until the host dies.
func (s *story) push(ctx context.Context) (string, error) {
	out, err := s.inside(ctx, "harborlike", "push", "--prefix", "library/app-", "--pushers", "2", "--images", "2", "--layers", "3")
	if err != nil {
		return "", err
	}
	for line := range lines(out) {
		var r push.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return "", fmt.Errorf("read what was pushed: %w", err)
		}
		if s.pushed = append(s.pushed, r); r.State == push.Acknowledged {
			s.Talk.Note("acknowledged: %s:%s %s", r.Repository, r.Tag, r.Manifest.Digest)
		}
	}
	if s.pushing, err = s.keepPushing(ctx); err != nil {
		return "", err
	}
	if err := play.Wait(ctx, "pushes to be acknowledged", 3*time.Minute, func(context.Context) error {
		if n := acknowledged(s.pushing.records()); n < 3 {
			return fmt.Errorf("%d so far: %w", n, errUnexpected)
		}
		return nil
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("the registry acknowledged %d images; two pushers go on", acknowledged(s.pushed)+acknowledged(s.pushing.records())), nil
}

// pusher is a program in the machine that pushes until it dies with it.
type pusher struct {
	ended chan struct{} // closed when nothing more can come

	mu  sync.Mutex
	got []push.Record
}

// keepPushing starts the pushers. What they say outlives the machine: each line leaves it at once.
func (s *story) keepPushing(ctx context.Context) (*pusher, error) {
	argv := []string{"vm", "exec", vm, "--", "harborlike", "push", "--pushers", "2", "--images", "0", "--seed", "2"}
	s.Talk.Command(append([]string{"mooring-lab"}, append(argv, "&")...))
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "mooring-lab"), argv...)
	cmd.Env = s.Env
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start pushing: %w", err)
	}
	p := &pusher{ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.listen(out)
		_ = cmd.Wait() // it ends with the machine
	}()
	return p, nil
}

func (p *pusher) listen(out io.Reader) {
	for in := bufio.NewScanner(out); in.Scan(); {
		var r push.Record
		if json.Unmarshal(in.Bytes(), &r) == nil { // the last line may be cut off
			p.mu.Lock()
			p.got = append(p.got, r)
			p.mu.Unlock()
		}
	}
}

func (p *pusher) records() []push.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]push.Record(nil), p.got...)
}

func acknowledged(records []push.Record) int {
	n := 0
	for _, r := range records {
		if r.State == push.Acknowledged {
			n++
		}
	}
	return n
}

func (s *story) killHost(ctx context.Context) (string, error) {
	m, g, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	s.host, s.boot = m.Host, g.Boot
	if _, err := s.Show(ctx, "mooring-lab", "host", "kill", s.host); err != nil {
		return "", err
	}
	s.killed = time.Now()
	select {
	case <-s.pushing.ended:
	case <-ctx.Done():
		return "", errors.Join(errors.New("the pushers go on in a machine that is dead"), context.Cause(ctx))
	}
	late := s.pushing.records()
	s.pushed = append(s.pushed, late...)
	return fmt.Sprintf("%s is dead, and %s with it; %d images were acknowledged until then, %d of them in the last seconds", s.host, vm, acknowledged(s.pushed), acknowledged(late)), nil
}

// restarted waits until HA has started the machine on another host, with the same three disks, and it has booted.
func (s *story) restarted(ctx context.Context) (string, error) {
	host := ""
	err := play.Wait(ctx, "HA to restart the machine", 4*time.Minute, func(ctx context.Context) error {
		m, g, err := s.look(ctx)
		if err == nil && (m.Host == s.host || !m.PoweredOn || g.Boot == "" || g.Boot == s.boot) {
			err = fmt.Errorf("it is on %s, powered on %t, boot %q: %w", m.Host, m.PoweredOn, g.Boot, errUnexpected)
		}
		host = m.Host
		return err
	})
	if err != nil {
		return "", err
	}
	took := time.Since(s.killed)
	if _, err := s.Show(ctx, "mooring-lab", "events"); err != nil {
		return "", err
	}
	all, err := client.HardDisks(ctx, vm)
	if err != nil {
		return "", err
	}
	if len(all) != len(s.disks)+1 {
		return "", fmt.Errorf("it has %d disks there, it had %d: %w", len(all), len(s.disks)+1, errUnexpected)
	}
	return fmt.Sprintf("%s runs on %s with the same disks, %s after the power cut", vm, host, play.Seconds(took)), nil
}
