package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
)

// playRegistryctl has the registry's volume mounted a second time, and answers whether it can be read.
func playRegistryctl(ctx context.Context, log *slog.Logger) error {
	storage := setting("STORAGE", "/storage")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/health", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.ReadDir(storage); err != nil {
			answer(w, http.StatusInternalServerError, "text/plain; charset=utf-8", fmt.Sprintf("read %s: %v", storage, err))
			return
		}
		answer(w, http.StatusOK, "application/json", `"healthy"`)
	})
	return serve(ctx, log, mux)
}
