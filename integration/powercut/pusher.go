package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/mooring-sh/mooring/internal/registry"
)

// errRefused is an answer that is not the one that was wanted.
var errRefused = errors.New("refused")

// Pushers push to one registry as Docker does, and keep what it answers.
type Pushers struct {
	Address  string // host:port
	Client   *http.Client
	Receipts *Receipts
	Eager    bool // counts a push as acknowledged when it begins: an error on purpose, for which an experiment that works must find losses
}

// Run makes the chooser's choices, one after another, until the context ends, which is no error, or one of them fails.
func (p Pushers) Run(ctx context.Context, c *Chooser) error {
	for ctx.Err() == nil {
		choice := c.Next()
		if err := p.push(ctx, choice); err != nil && ctx.Err() == nil {
			return fmt.Errorf("push %s %s: %w", choice.Repository, choice.Tags, err)
		}
	}
	return nil
}

// push makes one choice.
func (p Pushers) push(ctx context.Context, choice Choice) error {
	c, err := choice.Image.build()
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	if choice.Kind != AtOnce {
		for _, tag := range choice.Tags {
			if err := p.pushImage(ctx, choice.under(tag, c), c); err != nil {
				return err
			}
		}
		return nil
	}
	return together(choice.Tags, func(tag string) error { return p.pushImage(ctx, choice.under(tag, c), c) })
}

// under returns the push of a choice under one of its tags.
func (choice Choice) under(tag string, c content) Push {
	return Push{Repository: choice.Repository, Tag: tag, Manifest: registry.DigestOf(c.manifest), Blobs: c.blobs(), Kind: choice.Kind, Image: choice.Image}
}

// again makes a push again.
func (p Pushers) again(ctx context.Context, push Push) error {
	c, err := push.Image.build()
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	return p.pushImage(ctx, push, c)
}

// pushImage pushes the image under one tag: its layers at once, then its configuration, then the manifest.
func (p Pushers) pushImage(ctx context.Context, push Push, c content) error {
	if p.Eager {
		p.Receipts.Acknowledge(p.Receipts.Send(push))
	}
	err := together(c.layers, func(blob []byte) error { return p.pushBlob(ctx, push.Repository, blob) })
	if err != nil {
		return err
	}
	if err := p.pushBlob(ctx, push.Repository, c.config); err != nil {
		return err
	}
	n := p.Receipts.Send(push)
	to := p.url("/v2/" + push.Repository + "/manifests/" + push.Tag)
	if _, err := p.send(ctx, http.MethodPut, to, registry.DockerManifest, c.manifest, http.StatusCreated); err != nil {
		return err
	}
	p.Receipts.Acknowledge(n)
	return nil
}

// pushBlob uploads the blob unless the registry says that the repository has it.
func (p Pushers) pushBlob(ctx context.Context, repository string, blob []byte) error {
	digest := registry.DigestOf(blob)
	_, err := p.send(ctx, http.MethodHead, p.url("/v2/"+repository+"/blobs/"+string(digest)), "", nil, http.StatusOK)
	if err == nil || !errors.Is(err, errRefused) {
		return err
	}
	to := p.url("/v2/" + repository + "/blobs/uploads/")
	for _, step := range []struct {
		method, contentType string
		body                []byte
		want                int
	}{
		{http.MethodPost, "", nil, http.StatusAccepted},
		{http.MethodPatch, "application/octet-stream", blob, http.StatusAccepted},
		{http.MethodPut, "", nil, http.StatusCreated},
	} {
		if step.method == http.MethodPut {
			query := to.Query()
			query.Set("digest", string(digest))
			to.RawQuery = query.Encode()
		}
		header, err := p.send(ctx, step.method, to, step.contentType, step.body, step.want)
		if err != nil {
			return err
		}
		if to, err = to.Parse(header.Get("Location")); err != nil {
			return fmt.Errorf("read where the upload goes on: %w", err)
		}
	}
	p.Receipts.Uploaded(repository, digest)
	return nil
}

func (p Pushers) url(path string) *url.URL {
	return &url.URL{Scheme: "http", Host: p.Address, Path: path}
}

// send returns the answer's header if it has that status, once the answer was read to its end.
func (p Pushers) send(ctx context.Context, method string, to *url.URL, contentType string, body []byte, want int) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := p.Client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, to.Path, err)
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %w: %s", method, to.Path, resp.Status, errRefused, bytes.TrimSpace(text))
	}
	return resp.Header, nil
}

// together calls do for each of them at the same time, and returns all errors.
func together[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for n, one := range all {
		wait.Go(func() { errs[n] = do(one) })
	}
	wait.Wait()
	return errors.Join(errs...)
}
