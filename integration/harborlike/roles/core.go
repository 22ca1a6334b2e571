package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

const (
	// portPoll is how often core looks whether the database's port is open.
	portPoll = 2 * time.Second
	// manifestLimit is the size of the largest manifest that is taken.
	manifestLimit = 4 << 20
)

// playCore waits for the database's port, and no more than that: a database that is still starting up ends it.
func playCore(ctx context.Context, log *slog.Logger) error {
	address := net.JoinHostPort(setting("POSTGRESQL_HOST", "postgresql"), setting("POSTGRESQL_PORT", "5432"))
	if err := waitForPort(ctx, log, address); err != nil {
		return err
	}
	store, err := openStore(ctx, address, setting("POSTGRESQL_USERNAME", "postgres"), setting("POSTGRESQL_PASSWORD", ""),
		setting("POSTGRESQL_DATABASE", "registry"))
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // the program ends
	registry, err := url.Parse(setting("REGISTRY_URL", "http://registry:5000"))
	if err != nil {
		return fmt.Errorf("read REGISTRY_URL: %w", err)
	}
	return serve(ctx, log, newCore(log, store, registry))
}

func waitForPort(ctx context.Context, log *slog.Logger, address string) error {
	tick := time.NewTicker(portPoll)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{Timeout: portPoll}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		log.Info("failed to connect, retry after 2 seconds", "address", address, "err", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tags is what core keeps of the images.
type tags interface {
	// Record returns after it is committed that the repository has the manifest, with that tag unless it is empty.
	Record(ctx context.Context, repository, tag string, m manifest) error
	// Forget removes the manifest from the repository, and the tags that it has.
	Forget(ctx context.Context, repository, digest string) error
	// Digest returns what the tag names; "" if there is no such tag.
	Digest(ctx context.Context, repository, tag string) (string, error)
	Repositories(ctx context.Context) ([]string, error)
	// Tags returns none for a repository that there is not.
	Tags(ctx context.Context, repository string) ([]string, error)
}

// core is what answers behind the proxy.
type core struct {
	log      *slog.Logger
	tags     tags
	registry *url.URL
	forward  *httputil.ReverseProxy
}

func newCore(log *slog.Logger, t tags, registry *url.URL) http.Handler {
	c := &core{log: log, tags: t, registry: registry}
	c.forward = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(registry) },
		FlushInterval: -1,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2.0/ping", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "text/plain; charset=utf-8", "Pong")
	})
	mux.HandleFunc("GET /v2/_catalog", c.catalog)
	mux.HandleFunc("/v2/", c.distribution)
	return mux
}

// distribution answers what is about tags from the database, and leaves the rest to the registry.
func (c *core) distribution(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if repository, ok := strings.CutSuffix(path, "/tags/list"); ok {
		c.listTags(w, r, repository)
		return
	}
	at := strings.LastIndex(path, "/manifests/")
	if at < 0 {
		c.forward.ServeHTTP(w, r)
		return
	}
	repository, reference := path[:at], path[at+len("/manifests/"):]
	switch r.Method {
	case http.MethodPut:
		c.push(w, r, repository, reference)
	case http.MethodDelete:
		c.remove(w, r, repository, reference)
	default:
		c.pull(w, r, repository, reference)
	}
}

// isDigest tells a digest from a tag, which cannot have a colon.
func isDigest(reference string) bool { return strings.Contains(reference, ":") }

// pull asks the registry by digest: it has no tags.
func (c *core) pull(w http.ResponseWriter, r *http.Request, repository, reference string) {
	if !isDigest(reference) {
		digest, err := c.tags.Digest(r.Context(), repository, reference)
		if err != nil {
			c.fail(w, err)
			return
		}
		if digest == "" {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", repository+":"+reference+" not found")
			return
		}
		r.URL.Path = "/v2/" + repository + "/manifests/" + digest
	}
	c.forward.ServeHTTP(w, r)
}

// push gives the registry the manifest by its digest, then commits the tag, then answers.
func (c *core) push(w http.ResponseWriter, r *http.Request, repository, reference string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, manifestLimit))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	m, err := readManifest(body, r.Header.Get("Content-Type"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	tag := reference
	if isDigest(reference) {
		if tag = ""; reference != m.Digest {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the manifest is "+m.Digest)
			return
		}
	}
	said, err := c.ask(r.Context(), http.MethodPut, repository, m.Digest, body, m.MediaType)
	if err != nil {
		c.fail(w, err)
		return
	}
	if said.status == http.StatusCreated {
		if err := c.tags.Record(r.Context(), repository, tag, m); err != nil {
			c.fail(w, err)
			return
		}
	}
	said.pass(w)
}

func (c *core) remove(w http.ResponseWriter, r *http.Request, repository, reference string) {
	if !isDigest(reference) {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "a manifest is deleted by its digest")
		return
	}
	said, err := c.ask(r.Context(), http.MethodDelete, repository, reference, nil, "")
	if err != nil {
		c.fail(w, err)
		return
	}
	if said.status == http.StatusAccepted {
		if err := c.tags.Forget(r.Context(), repository, reference); err != nil {
			c.fail(w, err)
			return
		}
	}
	said.pass(w)
}

// said is an answer of the registry, which is passed on when all is done.
type said struct {
	status int
	header http.Header
	body   []byte
}

func (s said) pass(w http.ResponseWriter) {
	maps.Copy(w.Header(), s.header)
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body) // who asked is gone
}

func (c *core) ask(ctx context.Context, method, repository, digest string, body []byte, mediaType string) (said, error) {
	to := c.registry.JoinPath("v2", repository, "manifests", digest)
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return said{}, fmt.Errorf("ask the registry: %w", err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return said{}, fmt.Errorf("ask the registry: %w", err)
	}
	content, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return said{}, fmt.Errorf("ask the registry: %w", err)
	}
	return said{resp.StatusCode, resp.Header, content}, nil
}

func (c *core) catalog(w http.ResponseWriter, r *http.Request) {
	names, err := c.tags.Repositories(r.Context())
	if err != nil {
		c.fail(w, err)
		return
	}
	c.list(w, map[string]any{"repositories": names})
}

func (c *core) listTags(w http.ResponseWriter, r *http.Request, repository string) {
	names, err := c.tags.Tags(r.Context(), repository)
	switch {
	case err != nil:
		c.fail(w, err)
	case len(names) == 0:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository "+repository+" not found")
	default:
		c.list(w, map[string]any{"name": repository, "tags": names})
	}
}

func (c *core) list(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		c.fail(w, err)
		return
	}
	answer(w, http.StatusOK, "application/json", string(text))
}

// fail answers what went wrong behind core.
func (c *core) fail(w http.ResponseWriter, err error) {
	c.log.Error("request failed", "err", err)
	refuse(w, http.StatusInternalServerError, "UNKNOWN", "internal server error")
}

// refuse answers with an error of the distribution API.
func refuse(w http.ResponseWriter, status int, code, message string) {
	text, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
	if err != nil {
		text = []byte("{}")
	}
	answer(w, status, "application/json", string(text))
}
