package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// pullers is how many blobs are read at once.
const pullers = 4

// Verdict is what came of pulling all that was acknowledged.
type Verdict struct {
	Images int    `json:"images"` // manifests, by digest
	Tags   int    `json:"tags"`
	Blobs  int    `json:"blobs"`
	Bytes  int64  `json:"bytes"` // that were read and hashed
	Misses []Miss `json:"misses"`
}

// Miss is something that was acknowledged and is not there, or is something else.
type Miss struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"` // a tag, or a digest
	What       string `json:"what"`
}

// String returns the miss as a line.
func (m Miss) String() string { return m.Repository + " " + m.Reference + ": " + m.What }

// item is one thing to pull.
type item struct {
	repository string
	kind       string // "manifests" or "blobs"
	reference  string
	digests    []string // that it may have
	size       int64    // that it must have, unless it is a tag
}

// expect returns what must be there after these pushes. A tag is what was acknowledged last, or what was sent since.
func expect(records []Record) []item {
	var items []item
	seen := map[string]bool{}
	add := func(i item) {
		if key := i.repository + "/" + i.kind + "/" + i.reference; !seen[key] {
			seen[key] = true
			items = append(items, i)
		}
	}
	type name struct{ repository, tag string }
	may := map[name][]string{} // the one that was acknowledged first
	var tags []name
	for _, r := range records {
		tag := name{r.Repository, r.Tag}
		if r.State == Sent {
			if may[tag] != nil {
				may[tag] = append(may[tag], r.Manifest.Digest)
			}
			continue
		}
		if may[tag] == nil {
			tags = append(tags, tag)
		}
		may[tag] = []string{r.Manifest.Digest}
		add(item{r.Repository, "manifests", r.Manifest.Digest, []string{r.Manifest.Digest}, r.Manifest.Size})
		for _, b := range r.Blobs {
			add(item{r.Repository, "blobs", b.Digest, []string{b.Digest}, b.Size})
		}
	}
	for _, tag := range tags {
		add(item{tag.repository, "manifests", tag.tag, may[tag], 0})
	}
	return items
}

// Check pulls everything that the records say was acknowledged, each manifest by its digest and each tag by its name, and hashes it. What cannot be read is
// a miss; an error is returned only when the context ends.
func (r Registry) Check(ctx context.Context, records []Record) (Verdict, error) {
	type result struct {
		item
		read int64
		miss string
	}
	work, results := make(chan item), make(chan result)
	go func() {
		defer close(work)
		for _, i := range expect(records) {
			select {
			case work <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	var all sync.WaitGroup
	for range pullers {
		all.Go(func() {
			for i := range work {
				read, miss := r.pull(ctx, i)
				results <- result{i, read, miss}
			}
		})
	}
	go func() {
		all.Wait()
		close(results)
	}()
	v := Verdict{Misses: []Miss{}}
	for got := range results {
		v.Bytes += got.read
		switch {
		case got.miss != "":
			v.Misses = append(v.Misses, Miss{got.repository, got.reference, got.miss})
		case got.kind == "blobs":
			v.Blobs++
		case got.size == 0:
			v.Tags++
		default:
			v.Images++
		}
	}
	slices.SortFunc(v.Misses, func(a, b Miss) int { return strings.Compare(a.String(), b.String()) })
	return v, context.Cause(ctx)
}

// pull reads the item to its end. It returns what is wrong with it, if anything is.
func (r Registry) pull(ctx context.Context, i item) (read int64, miss string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("/v2/"+i.repository+"/"+i.kind+"/"+i.reference).String(), nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Accept", manifestType)
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	if resp.StatusCode != http.StatusOK {
		return 0, resp.Status
	}
	sum := sha256.New()
	read, err = io.Copy(sum, resp.Body)
	if err != nil {
		return read, fmt.Sprintf("after %d bytes: %v", read, err)
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if !slices.Contains(i.digests, digest) {
		return read, fmt.Sprintf("is %s of %d bytes, not %s", digest, read, strings.Join(i.digests, " or "))
	}
	if i.size != 0 && read != i.size {
		return read, fmt.Sprintf("has %d bytes, not %d", read, i.size)
	}
	return read, ""
}
