// Command roles plays the programs that are Harbor's own in a stack built like Harbor's: core, jobservice and registryctl. Each fails where the real one does:
// core ends when the database is not ready yet, though its port is open; jobservice ends when core does not answer, and refuses whatever is not meant for it.
//
// It promises that a push is answered only after the database has committed it, as Harbor from 2.15 on does, where a tag is in the database and nowhere else.
//
// It has no users and no rights: whoever reaches it may do everything.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := play(ctx, log, os.Args[1:]); err != nil {
		log.Error("ended", "err", err)
		os.Exit(1)
	}
}

func play(ctx context.Context, log *slog.Logger, args []string) error {
	const roles = "core, jobservice or registryctl"
	if len(args) != 1 {
		return errors.New("name one role: " + roles)
	}
	switch args[0] {
	case "core":
		return playCore(ctx, log)
	case "jobservice":
		return playJobservice(ctx, log)
	case "registryctl":
		return playRegistryctl(ctx, log)
	default:
		return fmt.Errorf("no role %q: it is %s", args[0], roles)
	}
}

// setting returns the environment's value.
func setting(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }

// serve answers on port 8080, as all of Harbor's programs do, until the context ends.
func serve(ctx context.Context, log *slog.Logger, h http.Handler) error {
	server := &http.Server{Addr: ":8080", Handler: h, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Info("serving")
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// answer writes a short text.
func answer(w http.ResponseWriter, status int, contentType, text string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // who asked is gone
}
