package images_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// distribution is the real registry, of the distribution project.
type distribution struct {
	t            *testing.T
	bin, dir     string
	config, addr string
}

func newDistribution(t *testing.T) *distribution {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("needs docker-registry, which make setup unpacks and make has in PATH")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &distribution{t: t, bin: bin, dir: t.TempDir(), addr: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.config = filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %s}\n", d.dir, d.addr)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// serve runs the registry while f does something.
func (d *distribution) serve(f func()) {
	d.t.Helper()
	ctx, stop := context.WithCancel(d.t.Context())
	cmd := exec.CommandContext(ctx, d.bin, "serve", d.config)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		if res, err := http.Get("http://" + d.addr + "/v2/"); err == nil {
			_ = res.Body.Close()
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			d.t.Fatalf("the registry does not answer: %s", said.String())
		}
	}
	f()
}

// collect runs its garbage collection.
func (d *distribution) collect(options ...string) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), d.bin, append(append([]string{"garbage-collect"}, options...), d.config)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}

// do sends a request and wants that status.
func (d *distribution) do(status int, method, url, mediaType string, body []byte) http.Header {
	d.t.Helper()
	if url[0] == '/' {
		url = "http://" + d.addr + url
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", registry.OCIIndex+", "+registry.OCIManifest)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if said, _ := io.ReadAll(res.Body); res.StatusCode != status {
		d.t.Fatalf("%s %s: %s: %s", method, url, res.Status, said)
	}
	return res.Header
}

func (d *distribution) blob(repository string, content []byte) registry.Descriptor {
	d.t.Helper()
	digest := registry.DigestOf(content)
	at := d.do(http.StatusAccepted, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", nil).Get("Location")
	d.do(http.StatusCreated, http.MethodPut, at+"&digest="+string(digest), "application/octet-stream", content)
	return registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: digest, Size: int64(len(content))}
}

func (d *distribution) put(repository, reference, mediaType string, manifest any) registry.Descriptor {
	d.t.Helper()
	body, err := json.Marshal(manifest)
	if err != nil {
		d.t.Fatal(err)
	}
	digest := registry.DigestOf(body)
	if reference == "" {
		reference = string(digest)
	}
	d.do(http.StatusCreated, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, mediaType, body)
	return registry.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(body))}
}

func (d *distribution) image(repository, tag string, layers ...string) registry.Descriptor {
	d.t.Helper()
	all := []registry.Descriptor{}
	for _, l := range layers {
		all = append(all, d.blob(repository, []byte(l)))
	}
	config := d.blob(repository, fmt.Appendf(nil, `{"layers": %q}`, layers))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	return d.put(repository, tag, registry.OCIManifest, map[string]any{"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": config, "layers": all})
}

func (d *distribution) delete(repository string, img registry.Descriptor) {
	d.t.Helper()
	d.do(http.StatusAccepted, http.MethodDelete, "/v2/"+repository+"/manifests/"+string(img.Digest), "", nil)
}

// G26: What the real registry leaves when users push, delete and tag again, and when what they deleted is collected, is no damage; and all that they did is told. Its option --delete-untagged takes the parts of
// indexes, too, which is damage indeed: who pulls such an index gets nothing.
func TestWhatTheRealRegistryLeavesIsNoDamage(t *testing.T) {
	for _, c := range []struct {
		options, found []string
		gone           int // images of library/app: the deleted one, and what 2.0 was before
		part           int // the status of the index's part
	}{
		{nil, nil, 1, http.StatusOK},
		{[]string{"--delete-untagged"}, []string{"part-missing library/multi:latest"}, 2, http.StatusNotFound},
	} {
		d := newDistribution(t)
		var first, part registry.Descriptor
		p := newProver(t, images.Setup{Storage: d.dir})
		d.serve(func() {
			first = d.image("library/app", "1.0", "shared", "first")
			d.image("library/app", "2.0", "shared", "second")
			part = d.image("library/multi", "", "part")
			d.put("library/multi", "latest", registry.OCIIndex, map[string]any{"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": []registry.Descriptor{part}})
			d.image("team/other", "v1", "shared", "other")
			refresh(t, p)
			if v := verify(t, p); v.Damaged() || v.Images != 5 || v.Intact != 5 {
				t.Fatalf("got %+v", v)
			}
			d.delete("library/app", first)
			d.delete("team/other", registry.Descriptor{Digest: imageOfTag(t, p, "team/other", "v1")})
			d.image("library/app", "2.0", "shared", "third")
			d.image("brand/new", "v1", "new")
		})
		if v := verify(t, p); v.Damaged() {
			t.Errorf("before the collection: %+v", v)
		}
		d.collect(c.options...)
		v := verify(t, p)
		if got := said(v); !slices.Equal(got, c.found) {
			t.Errorf("%v: got %q, want %q", c.options, got, c.found)
		}
		gone := slices.Concat([]string{"library/app:1.0"}, slices.Repeat([]string{"library/app:image"}, c.gone), []string{"team/other:image", "team/other:v1"})
		if got := differences(v.Gone); !slices.Equal(got, gone) {
			t.Errorf("%v: gone: got %q, want %q", c.options, got, gone)
		}
		if got, want := differences(v.New), []string{"brand/new:image", "brand/new:v1", "library/app:2.0", "library/app:image"}; !slices.Equal(got, want) {
			t.Errorf("%v: new: got %q, want %q", c.options, got, want)
		}
		refresh(t, p)
		if v := verify(t, p); !slices.Equal(said(v), c.found) || len(v.Gone)+len(v.New) > 0 {
			t.Errorf("%v: after a refresh: %+v", c.options, v)
		}
		// And what is left can be pushed to, and pulled from as far as it was found whole.
		d.serve(func() {
			d.do(http.StatusOK, http.MethodGet, "/v2/library/multi/manifests/latest", "", nil)
			d.do(c.part, http.MethodGet, "/v2/library/multi/manifests/"+string(part.Digest), "", nil)
			d.image("library/app", "1.0", "shared", "first")
		})
		if v := verify(t, p); !slices.Equal(said(v), c.found) {
			t.Errorf("%v: pushed again: %+v", c.options, v)
		}
	}
}

// imageOfTag returns what a tag names, by the manifest.
func imageOfTag(t *testing.T, p *images.Prover, repository, tag string) registry.Digest {
	t.Helper()
	for _, e := range p.Entries() {
		if e.Repository == repository && e.Tag == tag {
			return e.Digest
		}
	}
	t.Fatalf("no tag %s:%s", repository, tag)
	return ""
}
