// Package push pushes images to a registry as Docker does, and writes down what the registry has acknowledged; and it pulls all of that again, hashing every
// byte.
//
// It promises that a record of state [Acknowledged] was written only after the registry answered 201 to the manifest, and one of state [Sent] before the
// manifest was sent: whatever is found under a tag later is the last that was acknowledged, or one that was sent since. An image's bytes follow from its
// seed. They are random, so no two images share a blob by chance, and yet whole: `docker pull` takes them.
//
// It believes no answer to a HEAD, and no length.
package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// State says how far a push has come.
type State string

// The states of a push.
const (
	Sent         State = "sent"         // all blobs are there, and the manifest is about to be sent
	Acknowledged State = "acknowledged" // the registry has answered that the image is there
)

// Record is what is known of one push at one moment.
type Record struct {
	State      State     `json:"state"`
	Time       time.Time `json:"time"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	Manifest   Blob      `json:"manifest"`
	Blobs      []Blob    `json:"blobs"` // the configuration, then the layers
}

// Blob is a piece of content.
type Blob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// Registry is where images are pushed to and pulled from, by plain HTTP and without a login.
type Registry struct {
	address string // host:port
	client  *http.Client
}

// errRefused is an answer that is not the one that was wanted.
var errRefused = errors.New("refused")

// New returns the registry at host:port. A machine that dies does not close its connections: so no answer is waited for longer than patience.
func New(address string, patience time.Duration) Registry {
	return Registry{address, &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: patience, KeepAlive: patience / 4}).DialContext,
		ResponseHeaderTimeout: patience,
		MaxIdleConnsPerHost:   64,
	}}}
}

// Push pushes the image and tells note, twice at most, how far it has come. An error of note's ends the push.
func (r Registry) Push(ctx context.Context, img Image, note func(Record) error) error {
	content, err := img.build()
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	if err := r.push(ctx, img, content, note); err != nil {
		return fmt.Errorf("push %s:%s: %w", img.Repository, img.Tag, err)
	}
	return nil
}

func (r Registry) push(ctx context.Context, img Image, c content, note func(Record) error) error {
	for _, blob := range c.blobs {
		if err := r.pushBlob(ctx, img, blob); err != nil {
			return err
		}
	}
	record := Record{State: Sent, Time: time.Now(), Repository: img.Repository, Tag: img.Tag, Manifest: c.manifest.blob()}
	for _, b := range c.blobs {
		record.Blobs = append(record.Blobs, b.blob())
	}
	if err := note(record); err != nil {
		return err
	}
	to := r.url("/v2/" + img.Repository + "/manifests/" + img.Tag)
	header, err := r.send(ctx, http.MethodPut, to, manifestType, bytes.NewReader(c.manifest), http.StatusCreated)
	if err != nil {
		return err
	}
	if got := header.Get("Docker-Content-Digest"); got != record.Manifest.Digest {
		return fmt.Errorf("the registry acknowledged %q, not %s: %w", got, record.Manifest.Digest, errRefused)
	}
	record.State, record.Time = Acknowledged, time.Now()
	return note(record)
}

// pushBlob begins an upload, sends all in one piece and names its digest, as Docker does.
func (r Registry) pushBlob(ctx context.Context, img Image, b piece) error {
	to := r.url("/v2/" + img.Repository + "/blobs/uploads/")
	var content io.Reader = bytes.NewReader(b)
	if img.Rate > 0 {
		content = &slow{ctx: ctx, left: b, rate: img.Rate}
	}
	for _, step := range []struct {
		method, contentType string
		body                io.Reader
		want                int
	}{
		{http.MethodPost, "", http.NoBody, http.StatusAccepted},
		{http.MethodPatch, "application/octet-stream", content, http.StatusAccepted},
		{http.MethodPut, "", http.NoBody, http.StatusCreated},
	} {
		if step.method == http.MethodPut {
			query := to.Query()
			query.Set("digest", b.digest())
			to.RawQuery = query.Encode()
		}
		header, err := r.send(ctx, step.method, to, step.contentType, step.body, step.want)
		if err != nil {
			return err
		}
		next, err := to.Parse(header.Get("Location"))
		if err != nil {
			return fmt.Errorf("read where the upload goes on: %w", err)
		}
		to = next
	}
	return nil
}

func (r Registry) url(path string) *url.URL {
	return &url.URL{Scheme: "http", Host: r.address, Path: path}
}

// send returns the answer's header if it has that status.
func (r Registry) send(ctx context.Context, method string, to *url.URL, contentType string, body io.Reader, want int) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := r.client.Do(req)
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

// ReadRecords reads the lines that [WriteRecord] wrote. A last line that was cut off is none.
func ReadRecords(r io.Reader) ([]Record, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	all = all[:bytes.LastIndexByte(all, '\n')+1]
	var records []Record
	for line := range bytes.Lines(all) {
		var record Record
		if err := json.Unmarshal(line, &record); err != nil {
			return nil, fmt.Errorf("read record %d: %w", len(records)+1, err)
		}
		records = append(records, record)
	}
	return records, nil
}

// WriteRecord writes a record as one line of JSON.
func WriteRecord(w io.Writer, r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}
