package stack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mooring-sh/mooring"
)

// manifestLimit is what registries allow a manifest to be.
const manifestLimit = 4 << 20

// descriptor names content of a registry.
type descriptor struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// manifestBody is of an image, with a configuration and layers, or of an index, with manifests.
type manifestBody struct {
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`
}

// pull fetches one manifest and the smallest of its blobs, and returns what was proved. Only bytes that were hashed count: registries say that a
// blob is there from a cache.
func (d door) pull(ctx context.Context, v Verify) (string, error) {
	repository, reference := splitImage(v.Image)
	base := "/v2/" + repository
	text, err := d.fetch(ctx, v, base+"/manifests/"+reference, manifestLimit)
	if err != nil {
		return "", err
	}
	if strings.Contains(reference, ":") {
		if err := hashed(text, reference); err != nil {
			return "", err
		}
	}
	var m manifestBody
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("manifest: %w: %w", err, mooring.ErrCorrupt)
	}
	manifest := digestOf(text)
	if len(m.Manifests) > 0 {
		manifest = m.Manifests[0].Digest
		if text, err = d.fetch(ctx, v, base+"/manifests/"+manifest, manifestLimit); err != nil {
			return "", err
		}
		if err := hashed(text, manifest); err != nil {
			return "", err
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return "", fmt.Errorf("manifest %s: %w: %w", manifest, err, mooring.ErrCorrupt)
		}
	}
	blob, err := smallest(m)
	if err != nil {
		return "", err
	}
	if err := d.hash(ctx, v, base+"/blobs/"+blob.Digest, blob); err != nil {
		return "", err
	}
	return fmt.Sprintf("manifest %s of %s and blob %s: %d bytes hashed, right", short(manifest), v.Image, short(blob.Digest), int64(len(text))+blob.Size), nil
}

// splitImage returns the repository, and the tag or digest, which is latest if none is given.
func splitImage(image string) (repository, reference string) {
	if repository, digest, ok := strings.Cut(image, "@"); ok {
		return repository, digest
	}
	slash := strings.LastIndexByte(image, '/')
	if colon := strings.LastIndexByte(image, ':'); colon > slash {
		return image[:colon], image[colon+1:]
	}
	return image, "latest"
}

func smallest(m manifestBody) (descriptor, error) {
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	if len(blobs) == 0 {
		return descriptor{}, fmt.Errorf("the manifest names no blob: %w", mooring.ErrCorrupt)
	}
	least := blobs[0]
	for _, b := range blobs {
		if b.Size < least.Size {
			least = b
		}
	}
	return least, nil
}

// hash fetches the blob and compares its digest and size.
func (d door) hash(ctx context.Context, v Verify, path string, want descriptor) error {
	res, err := d.authorized(ctx, v, path)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(res.Body, want.Size+1))
	if err != nil {
		return fmt.Errorf("GET %s: after %d of %d bytes: %w", path, n, want.Size, err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != want.Digest || n != want.Size {
		return fmt.Errorf("blob %s: got %d bytes with the digest %s, want %d: %w", want.Digest, n, got, want.Size, mooring.ErrCorrupt)
	}
	return nil
}

func hashed(text []byte, digest string) error {
	if got := digestOf(text); got != digest {
		return fmt.Errorf("manifest %s: got %d bytes with the digest %s: %w", digest, len(text), got, mooring.ErrCorrupt)
	}
	return nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func short(digest string) string {
	_, sum, _ := strings.Cut(digest, ":")
	return sum[:min(12, len(sum))]
}

// fetch gets something small.
func (d door) fetch(ctx context.Context, v Verify, path string, limit int64) ([]byte, error) {
	res, err := d.authorized(ctx, v, path)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(res.Body, limit))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return text, nil
}

// authorized gets the path, with whatever authorization the registry's own answer asks for.
func (d door) authorized(ctx context.Context, v Verify, path string) (*http.Response, error) {
	head := http.Header{"Accept": {
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	}}
	for _, last := range []bool{false, true} {
		res, err := d.do(ctx, path, head)
		if err != nil {
			return nil, err
		}
		if res.StatusCode == http.StatusOK {
			return res, nil
		}
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		challenge := res.Header.Get("WWW-Authenticate")
		if err := res.Body.Close(); err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusUnauthorized || last || challenge == "" {
			return nil, fmt.Errorf("GET %s: status %d: %s", path, res.StatusCode, oneLine(string(said)))
		}
		if head["Authorization"], err = d.answer(ctx, v, challenge); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("unreachable")
}

// answer returns the header that answers the challenge.
func (d door) answer(ctx context.Context, v Verify, challenge string) ([]string, error) {
	basic := ""
	if v.Account != "" && v.Password != nil {
		password, err := v.Password()
		if err != nil {
			return nil, err
		}
		basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(v.Account+":"+password))
	}
	scheme, rest, _ := strings.Cut(challenge, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		if basic == "" {
			return nil, fmt.Errorf("the registry asks for an account: set verify.account and verify.password_file: %w", mooring.ErrInvalid)
		}
		return []string{basic}, nil
	}
	params := parameters(rest)
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Path == "" {
		return nil, fmt.Errorf("the registry's challenge %q names no realm", challenge)
	}
	query := realm.Query()
	for _, key := range []string{"service", "scope"} {
		if params[key] != "" {
			query.Set(key, params[key])
		}
	}
	head := http.Header{"Host": {realm.Host}}
	if basic != "" {
		head["Authorization"] = []string{basic}
	}
	text, err := d.get(ctx, realm.Path+"?"+query.Encode(), head, bodyLimit)
	if err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	var token struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &token); err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	return []string{"Bearer " + cmp.Or(token.Token, token.AccessToken)}, nil
}

// parameters reads key="value" pairs, in which a quoted value may hold commas (RFC 9110, 11.2).
func parameters(s string) map[string]string {
	all := make(map[string]string)
	for s != "" {
		key, rest, ok := strings.Cut(strings.TrimLeft(s, ", "), "=")
		if !ok {
			return all
		}
		var value string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			value, s, _ = strings.Cut(quoted, `"`)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		all[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return all
}
