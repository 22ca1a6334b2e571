package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// recovered waits until the supervisor has settled in the new boot, and shows its report. Nobody logs in to help.
func (s *story) recovered(ctx context.Context) (string, error) {
	var rep admin.Recovery
	err := play.Wait(ctx, "the stack to settle", 19*time.Minute, func(ctx context.Context) error {
		rep = admin.Recovery{} // what is left out is not what it was
		if err := s.decode(ctx, &rep, "mooring-lab", "vm", "exec", vm, "--", "mooring", "recovery", "show", "-o", "json"); err != nil {
			return err
		}
		if string(rep.Boot) == s.boot || rep.Ended.IsZero() {
			return fmt.Errorf("%s: %w", rep.Phase, errUnexpected)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	s.back = time.Now()
	text, err := s.inside(ctx, "mooring", "recovery", "show")
	if err != nil {
		return "", err
	}
	for line := range lines(text) {
		s.Talk.Note("%s", line)
	}
	if rep.Phase != "settled" || rep.Damaged || rep.Origin != "failover" {
		return "", fmt.Errorf("the recovery after a %s is %s, damaged: %t: %w", rep.Origin, rep.Phase, rep.Damaged, errUnexpected)
	}
	if rep.Images == nil || rep.Images.State != admin.ImagesProved {
		return "", fmt.Errorf("the images are not proved: %+v: %w", rep.Images, errUnexpected)
	}
	if err := s.well(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("settled: nine services up in order, the proxy last, and Pong; %s after the power cut", play.Seconds(s.back.Sub(s.killed))), nil
}

// verify hashes everything that is on the registry's volume. What a push that died with the host has left is no damage: nobody was told that it had succeeded.
func (s *story) verify(ctx context.Context) (string, error) {
	dir, err := s.inside(ctx, "docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "vsanvol1")
	if err != nil {
		return "", err
	}
	out, err := s.inside(ctx, "sh", "-c", "mooring images verify "+dir+" -o json || test $? = 3")
	if err != nil {
		return "", err
	}
	var v images.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return "", fmt.Errorf("read the verdict: %w", err)
	}
	cutOff := 0
	for _, f := range v.Findings {
		if !f.Unfinished {
			return "", fmt.Errorf("%s:%s %s: %s: %w", f.Repository, f.Tag, f.Digest, f.Text, errUnexpected)
		}
		cutOff++
	}
	if want := acknowledged(s.pushed); v.Intact < want || len(v.Gone) > 0 {
		return "", fmt.Errorf("%d images are whole and %d gone, %d were acknowledged: %w", v.Intact, len(v.Gone), want, errUnexpected)
	}
	return fmt.Sprintf("%d of %d images whole, %d blobs, %.1f MB hashed; %d pushes were cut off by the power cut", v.Intact, v.Images, v.Blobs, float64(v.HashedBytes)/1e6, cutOff), nil
}

// pull pulls every image that was ever acknowledged, through the proxy, and hashes every byte.
func (s *story) pull(ctx context.Context) (string, error) {
	var records bytes.Buffer
	for _, r := range s.pushed {
		if err := push.WriteRecord(&records, r); err != nil {
			return "", err
		}
	}
	if err := s.write(ctx, "/var/tmp/pushed", records.String()); err != nil {
		return "", err
	}
	out, err := s.inside(ctx, "harborlike", "pull", "/var/tmp/pushed")
	if err != nil {
		return "", err
	}
	var v push.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return "", fmt.Errorf("read the verdict: %w", err)
	}
	if want := acknowledged(s.pushed); v.Images != want || len(v.Misses) > 0 {
		return "", fmt.Errorf("%d images of %d are there; missing: %v: %w", v.Images, want, v.Misses, errUnexpected)
	}
	return fmt.Sprintf("%d of %d images, %d tags, %d blobs, %.1f MB pulled and hashed: all as acknowledged", v.Images, v.Images, v.Tags, v.Blobs, float64(v.Bytes)/1e6), nil
}

// lines returns the lines of a text.
func lines(text string) iter.Seq[string] { return strings.SplitSeq(strings.TrimSpace(text), "\n") }
