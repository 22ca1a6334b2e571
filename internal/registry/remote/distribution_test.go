package remote_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote"
)

// bcryptOfSecret is what htpasswd makes of "s3cr3t", as cheaply as it can.
const bcryptOfSecret = "$2b$04$abcdefghijklmnopqrstuu35fBIWlNgF8BcAW/t2cO158N8svSFHy"

// distribution runs Debian's docker-registry on this machine, and returns its address and its storage.
func distribution(tb testing.TB, settings string) (url, dir string) {
	tb.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		tb.Skip("needs docker-registry, which make setup unpacks and make has in PATH")
	}
	dir = tb.TempDir()
	conf := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage:\n  cache: {blobdescriptor: inmemory}\n  filesystem: {rootdirectory: %s}\nhttp: {addr: '127.0.0.1:0'}\n%s", dir, settings)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "serve", conf) //nolint:gosec // it is named above
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	address := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		close(address)
	})
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		reading.Wait()
		_ = cmd.Wait() // it was killed
	})
	at, ok := <-address
	if !ok {
		tb.Fatal("docker-registry ended before it listened")
	}
	return "http://" + at, filepath.Join(dir, "docker/registry/v2")
}

// pusher pushes to a registry, as docker does.
type pusher struct {
	testing.TB
	url string
}

func (p pusher) send(method, url, mediaType string, body []byte, wanted int) http.Header {
	p.Helper()
	q, err := http.NewRequestWithContext(p.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	q.SetBasicAuth("ann", "s3cr3t")
	q.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		p.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	said, _ := io.ReadAll(res.Body)
	if res.StatusCode != wanted {
		p.Fatalf("%s %s: got status %d, want %d: %s", method, url, res.StatusCode, wanted, said)
	}
	return res.Header
}

func (p pusher) blob(repo string, content []byte) registry.Descriptor {
	p.Helper()
	d := registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: registry.DigestOf(content), Size: int64(len(content))}
	at := p.send(http.MethodPost, p.url+"/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted).Get("Location")
	p.send(http.MethodPut, at+"&digest="+string(d.Digest), "application/octet-stream", content, http.StatusCreated)
	return d
}

func (p pusher) manifest(repo, tag string, content map[string]any) registry.Descriptor {
	p.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		p.Fatal(err)
	}
	mediaType, _ := content["mediaType"].(string)
	p.send(http.MethodPut, p.url+"/v2/"+repo+"/manifests/"+tag, mediaType, text, http.StatusCreated)
	return registry.Descriptor{MediaType: mediaType, Digest: registry.DigestOf(text), Size: int64(len(text))}
}

func (p pusher) image(repo, tag string, layers ...[]byte) registry.Descriptor {
	p.Helper()
	var below []registry.Descriptor
	for _, l := range layers {
		below = append(below, p.blob(repo, l))
	}
	conf := p.blob(repo, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]},"created_by":"%s:%s"}`, registry.DigestOf(nil), repo, tag))
	conf.MediaType = "application/vnd.oci.image.config.v1+json"
	return p.manifest(repo, tag, map[string]any{"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": conf, "layers": below})
}

func openAt(tb testing.TB, url string) *remote.Registry {
	tb.Helper()
	r, err := remote.Open(remote.Access{
		Registry: url, Credentials: remote.Credentials{User: "ann", Password: "s3cr3t"}, Patience: quick(),
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Close)
	return r
}

// The registry that people run answers as the one in these tests does: its challenge, its pages, its damage.
func TestARealRegistry(t *testing.T) {
	passwords := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(passwords, []byte("ann:"+bcryptOfSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, dir := distribution(t, "auth: {htpasswd: {realm: basic-realm, path: "+passwords+"}}\ncatalog: {maxentries: 5}\n")
	push := pusher{t, url}
	base := pattern(200_000)
	for i := range 7 {
		push.image(fmt.Sprintf("library/r%02d", i), "1", base, fmt.Appendf(nil, "layer %d", i))
	}
	amd, arm := push.image("library/index", "amd64", base), push.image("library/index", "arm64", base, []byte("arm"))
	push.manifest("library/index", "latest", map[string]any{"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": []registry.Descriptor{amd, arm}})
	r := openAt(t, url)
	s, p := walk(t, r, remote.Order{})
	wantMisses(t, s)
	if p.Repositories != 8 || p.Tags != 10 || p.Manifests != 10 || p.Blobs != p.AllBlobs || p.Bytes < int64(len(base)) {
		t.Errorf("got %+v, want all of 8 repositories", p)
	}

	nobody, err := remote.Open(remote.Access{Registry: url, Patience: quick()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	_, err = nobody.Repositories(t.Context())
	wantError(t, err, mooring.ErrInvalid, "refuses whoever gives no account", "UNAUTHORIZED")

	file := func(d registry.Digest) string {
		return filepath.Join(dir, "blobs/sha256", d.Hex()[:2], d.Hex(), "data")
	}
	for _, err := range []error{
		os.Truncate(file(registry.DigestOf(base)), 1000),                     // of all, and remembered with its size
		os.WriteFile(file(registry.DigestOf([]byte("layer 3"))), nil, 0o600), // emptied
		os.Remove(file(registry.DigestOf([]byte("layer 4")))),                // deleted
		os.WriteFile(file(arm.Digest), []byte(`{"schemaVersion":2,`), 0o600), // torn
		os.Remove(filepath.Join(dir, "repositories/library/r05/_manifests/tags/1/current/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, _ = walk(t, r, remote.Order{})
	got := make(map[string]int)
	for _, f := range s.facts {
		if f.Err != nil {
			got[f.Repository+" "+string(f.Content.Digest)]++
			t.Log(line(f), f.Err)
		}
	}
	for i := range 7 {
		if repo := fmt.Sprintf("library/r%02d %s", i, registry.DigestOf(base)); i != 5 && got[repo] == 0 {
			t.Errorf("the truncated blob is not named for %s", repo)
		}
	}
	for repo, digest := range map[string]registry.Digest{
		"library/r03": registry.DigestOf([]byte("layer 3")), "library/r04": registry.DigestOf([]byte("layer 4")), "library/r05": "", "library/index": registry.DigestOf(base),
	} {
		if got[repo+" "+string(digest)] == 0 {
			t.Errorf("%s %s is not named", repo, digest)
		}
	}
	if !slices.ContainsFunc(s.facts, func(f remote.Fact) bool {
		return f.Err != nil && f.Repository == "library/index" && (slices.Equal(f.Needed, []string{"arm64", "latest"}) || f.Tag == "arm64")
	}) {
		t.Error("the torn image manifest is not named")
	}
}

// content is what the benchmarks read: 60 blobs of 8 MB in 20 images, all in the page cache.
func content(b *testing.B) (*remote.Registry, string, []registry.Descriptor, int64) {
	b.Helper()
	url, _ := distribution(b, "")
	push := pusher{b, url}
	var all []registry.Descriptor
	var bytes int64
	for i := range 20 {
		var layers [][]byte
		for k := range 3 {
			l := pattern(8 << 20)
			copy(l, fmt.Sprintf("%d %d", i, k))
			layers = append(layers, l)
			all = append(all, registry.Descriptor{Digest: registry.DigestOf(l), Size: int64(len(l))})
			bytes += int64(len(l))
		}
		push.image("library/bench", strconv.Itoa(i), layers...)
	}
	return openAt(b, url), url, all, bytes
}

// BenchmarkVerify compares a walk with as many workers that do nothing but GET and SHA-256: `go test -bench Verify -run - ./internal/registry/remote`. On a
// machine that does other things, too, the processor's time for a gigabyte, without the registry's, says more than the speed.
func BenchmarkVerify(b *testing.B) {
	r, url, all, bytes := content(b)
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("walk/%d", workers), func(b *testing.B) {
			measure(b, bytes, func() error {
				p, err := r.Walk(b.Context(), remote.Order{Workers: workers})
				if p.Misses > 0 || p.Bytes < bytes {
					err = errors.Join(err, fmt.Errorf("got %+v", p))
				}
				return err
			})
		})
		b.Run(fmt.Sprintf("bare/%d", workers), func(b *testing.B) {
			measure(b, bytes, func() error { return bare(b, url, all, workers) })
		})
	}
}

func measure(b *testing.B, bytes int64, verify func() error) {
	b.Helper()
	b.SetBytes(bytes)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before) // it cannot fail
	for b.Loop() {
		if err := verify(); err != nil {
			b.Fatal(err)
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/float64(b.N)/float64(bytes), "cpu-s/GB")
}

// bare gets the blobs and hashes them, by the same buffers.
func bare(b *testing.B, url string, all []registry.Descriptor, workers int) error {
	b.Helper()
	next := make(chan registry.Descriptor)
	errs := make([]error, workers)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var done sync.WaitGroup
	for i := range workers {
		done.Go(func() {
			buffer := make([]byte, 1<<20)
			for d := range next {
				errs[i] = errors.Join(errs[i], bareBlob(b, client, url+"/v2/library/bench/blobs/"+string(d.Digest), d, buffer))
			}
		})
	}
	for _, d := range all {
		next <- d
	}
	close(next)
	done.Wait()
	return errors.Join(errs...)
}

func bareBlob(b *testing.B, client *http.Client, url string, d registry.Descriptor, buffer []byte) error {
	b.Helper()
	q, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(q)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	sum := sha256.New()
	for {
		n, err := res.Body.Read(buffer)
		sum.Write(buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if got := registry.SumDigest([sha256.Size]byte(sum.Sum(nil))); got != d.Digest {
		return fmt.Errorf("got %s, want %s", got, d.Digest)
	}
	return nil
}
