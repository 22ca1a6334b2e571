package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// jobEvery is how often there is something to write down.
const jobEvery = time.Second

// playJobservice writes a log on its volume, a new one with each start, and answers its own questions. Whatever else it is asked, it refuses: so a proxy
// that takes its address for core's is told 401, and not by core.
func playJobservice(ctx context.Context, log *slog.Logger) error {
	if err := askCore(ctx, setting("CORE_URL", "http://core:8080")); err != nil {
		return err
	}
	name := filepath.Join(setting("JOB_LOGS", "/var/log/jobs"), time.Now().UTC().Format("20060102T150405.000000000Z")+".log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // a log that all may read
	if err != nil {
		return fmt.Errorf("open job log: %w", err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	var written error
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer end() // no jobservice without its log
		written = writeJobs(ctx, f)
	}()
	served := serve(ctx, log, newJobservice())
	end()
	<-done
	return errors.Join(served, written, f.Close())
}

// askCore asks once: jobservice takes its configuration from core, and ends without it.
func askCore(ctx context.Context, core string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, core+"/api/v2.0/ping", nil)
	if err != nil {
		return fmt.Errorf("load configuration from core: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("load configuration from core: %w", err)
	}
	_ = resp.Body.Close() // the status says it
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("load configuration from core: %s", resp.Status)
	}
	return nil
}

func writeJobs(ctx context.Context, w io.Writer) error {
	tick := time.NewTicker(jobEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if _, err := fmt.Fprintf(w, "%s job %d done\n", now.UTC().Format(time.RFC3339Nano), n); err != nil {
				return fmt.Errorf("write job log: %w", err)
			}
		}
	}
}

func newJobservice() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/stats", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "application/json", `{"worker_pools":[{"concurrency":10,"status":"Healthy"}]}`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		message := "header 'Authorization' missing"
		if r.Header.Get("Authorization") != "" {
			message = "'Authorization' should start with 'Harbor-Secret'"
		}
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", message)
	})
	return mux
}
