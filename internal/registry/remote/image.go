package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/manifest"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Resolve returns what the tag names: the digest, size and media type that the registry says, of which nothing is proved. It asks by HEAD, which no
// registry counts as a pull; one that leaves the digest out is asked for the image's manifest itself.
func (r *Registry) Resolve(ctx context.Context, repository, tag string) (registry.Descriptor, error) {
	op := fmt.Sprintf("resolve %s:%s", repository, tag)
	at := r.at(repository).SetTag(tag)
	if err := errors.Join(checkRepository(repository), checkTag(tag)); err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrInvalid)
	}
	x := &exchange{limit: maxAnswer}
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		_, err := c.ManifestHead(ctx, at)
		return err
	})
	if !x.ok() { // what regclient makes of the headers of a media type that it does not know is of no interest
		return registry.Descriptor{}, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	d := registry.Descriptor{MediaType: mediaType(x.header), Size: registry.UnknownSize}
	if size, err := strconv.ParseInt(x.header.Get("Content-Length"), 10, 64); err == nil && size >= 0 {
		d.Size = size
	}
	said := x.header.Get("Docker-Content-Digest")
	if said == "" {
		return r.resolveByContent(ctx, op, repository, tag)
	}
	if d.Digest, err = registry.ParseDigest(said); err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", op, err)
	}
	return d, nil
}

// resolveByContent hashes what the tag names.
func (r *Registry) resolveByContent(ctx context.Context, op, repository, tag string) (registry.Descriptor, error) {
	x := &exchange{limit: registry.MaxManifest}
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		_, err := c.ManifestGet(ctx, r.at(repository).SetTag(tag))
		return err
	})
	if !x.ok() {
		return registry.Descriptor{}, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	return registry.Descriptor{MediaType: mediaType(x.header), Digest: registry.DigestOf(x.body), Size: int64(len(x.body))}, nil
}

// ImageManifest returns an image's manifest, the bytes of which have that digest. If they have another, or there are more than any manifest has, the error
// wraps [mooring.ErrCorrupt].
func (r *Registry) ImageManifest(ctx context.Context, repository string, d registry.Digest) ([]byte, error) {
	op := fmt.Sprintf("read image manifest %s@%s", repository, d)
	if err := errors.Join(checkRepository(repository), checkDigest(d)); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrInvalid)
	}
	if err := r.meet(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	x := &exchange{limit: registry.MaxManifest}
	var parsed manifest.Manifest
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		m, err := c.ManifestGet(ctx, r.at(repository).SetDigest(string(d)))
		parsed = m
		return err
	})
	switch {
	case errors.Is(x.err, errTooLong):
		return nil, fmt.Errorf("%s: more than %d bytes: %w", op, registry.MaxManifest, mooring.ErrCorrupt)
	case !x.ok():
		return nil, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	got := registry.DigestOf(x.body)
	// The digest of schema 1 is of the text without its signatures, which regclient takes off, and compares.
	if err == nil && got != d && mediaType(x.header) == registry.DockerManifest1 && parsed.GetDescriptor().MediaType == registry.DockerManifest1 {
		got = registry.Digest(parsed.GetDescriptor().Digest)
	}
	if got != d {
		return nil, fmt.Errorf("%s: got %d bytes with the digest %s: %w", op, len(x.body), got, mooring.ErrCorrupt)
	}
	return x.body, nil
}

// meet has the registry asked what it is, once, before the first request that depends on it. Whatever it answers is fine.
func (r *Registry) meet(ctx context.Context) error {
	select {
	case r.met <- struct{}{}:
		defer func() { <-r.met }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.known || r.transport.counted || r.transport.harbor.Load() {
		return nil
	}
	x := &exchange{limit: maxAnswer}
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		_, err := c.Ping(ctx, r.at(""))
		return err
	})
	if x.status == 0 {
		return r.failed(ctx, "ask "+r.name+" what it is", x, "", err)
	}
	r.known = true
	return nil
}

// Referrers returns the image manifests that say that they are about this one: signatures, SBOMs, attestations. It asks the referrers API, and where there
// is none the index under the tag that the specification lays down for that case. Nothing of it is proved.
func (r *Registry) Referrers(ctx context.Context, repository string, d registry.Digest) ([]registry.Descriptor, error) {
	all, _, err := r.referrers(ctx, repository, d)
	return all, err
}

// referrers also tells whether the registry has the API.
func (r *Registry) referrers(ctx context.Context, repository string, d registry.Digest) (all []registry.Descriptor, api bool, err error) {
	op := fmt.Sprintf("list referrers of %s@%s", repository, d)
	if err := errors.Join(checkRepository(repository), checkDigest(d)); err != nil {
		return nil, false, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrInvalid)
	}
	x := &exchange{limit: registry.MaxManifest}
	err = r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		list, err := c.ReferrerList(ctx, r.at(repository).SetDigest(string(d)))
		for _, l := range list.Descriptors {
			all = append(all, registry.Descriptor{MediaType: l.MediaType, Digest: registry.Digest(l.Digest), Size: l.Size})
		}
		return err
	})
	if a := x.referrers; a.err != nil || a.status != 0 && a.status != http.StatusOK && !withoutAPI(a.status) {
		r.renew() // regclient takes a failure for a registry without the API, and remembers
		x.answer = a
		return nil, false, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	if err != nil {
		return nil, false, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	for _, l := range all {
		if err := checkDigest(l.Digest); err != nil {
			return nil, false, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrCorrupt)
		}
	}
	return all, x.referrers.status == http.StatusOK, nil
}

// withoutAPI tells whether a registry that knows no referrers API answers like this: 404 by the specification, and other things that mean the same.
func withoutAPI(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	default:
		return false
	}
}

func mediaType(h http.Header) string {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.TrimSpace(mediaType)
}

func checkDigest(d registry.Digest) error {
	_, err := registry.ParseDigest(string(d))
	return err
}

// checkTag refuses what the specification allows no tag to be.
func checkTag(tag string) error {
	for i, c := range []byte(tag) {
		word := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("tag %q: want letters, digits, _, . and -", tag)
		}
	}
	if tag == "" || len(tag) > 128 {
		return errors.New("a tag has 1 to 128 characters")
	}
	return nil
}
