package esx

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// httpError is an answer of vCenter's file service that is no success.
type httpError struct {
	code   int
	status string
}

// Error returns the status, as "503 Service Unavailable".
func (e *httpError) Error() string { return e.status }

// httpStatus returns the status code in err, 0 if there is none.
func httpStatus(err error) int {
	if e, ok := errors.AsType[*httpError](err); ok {
		return e.code
	}
	return 0
}

// transfer sends a request for a file to vCenter's file service (https://vcenter/folder/...), which passes it to a host. It does not go to
// the host itself, as govmomi would: a guest need not reach hosts, and their certificates are not configured.
func (h *Host) transfer(ctx context.Context, p *place, method string, file mooring.Backing, body []byte) (content []byte, err error) {
	send := func(l *link) error {
		u := object.NewDatastoreURL(*l.vim.URL(), p.dcPath, file.Datastore(), file.File())
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", userAgent)
		return limited(ctx, func(ctx context.Context) error {
			res, err := l.vim.Client.Client.Do(req.WithContext(ctx))
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode/100 != 2 {
				return &httpError{res.StatusCode, res.Status}
			}
			content, err = io.ReadAll(io.LimitReader(res.Body, maxSidecar+1))
			return err
		})
	}
	l, err := h.session.after(ctx, 0)
	if err != nil {
		return nil, explain(err)
	}
	err = send(l)
	if httpStatus(err) == http.StatusUnauthorized {
		if l, err = h.session.after(ctx, l.number); err != nil {
			return nil, explain(err)
		}
		err = send(l)
	}
	return content, explain(err)
}

// download returns the file's content; the error wraps [mooring.ErrNotFound] if it is absent.
func (h *Host) download(ctx context.Context, p *place, file mooring.Backing) (content []byte, err error) {
	err = read(ctx, func() error {
		content, err = h.transfer(ctx, p, http.MethodGet, file, nil)
		if httpStatus(err) == http.StatusNotFound {
			return fmt.Errorf("%s: %w", file, mooring.ErrNotFound)
		}
		return err
	})
	return content, err
}

// write puts content in a file: first under a name of its own, then, whole, under the name itself. With replace unset an existing file stays and
// the error wraps [mooring.ErrExists]; this is what makes an intent exclusive between hosts.
func (h *Host) write(ctx context.Context, p *place, file mooring.Backing, content []byte, replace bool) error {
	temporary := mooring.Backing(fmt.Sprintf("%s.%s.tmp", file, randomHex()))
	err := h.upload(ctx, p, temporary, content)
	if err == nil {
		err = h.rename(ctx, p, temporary, file, content, replace)
	}
	if err == nil || errors.Is(err, errStalled) || classOf(err) == unreachable {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	if cleanup := h.deleteFile(ctx, p, temporary); cleanup != nil {
		h.log.Debug("remove a temporary sidecar", "backing", string(temporary), "err", cleanup)
	}
	return err
}

// rename gives the file its name. When vCenter is lost on the way, what then lies under that name decides.
func (h *Host) rename(ctx context.Context, p *place, from, to mooring.Backing, content []byte, replace bool) error {
	for attempt := 1; ; attempt++ {
		err := h.move(ctx, p, from, to, replace)
		c := classOf(err)
		if err == nil || c != busy && c != unknown && attempt == 1 || errors.Is(err, errStalled) {
			return err
		}
		if pause(ctx, readPause) != nil {
			return err
		}
		if there, readErr := h.download(ctx, p, to); readErr == nil && bytes.Equal(there, content) {
			return nil
		}
		if attempt == readAttempts || c != busy && c != unknown {
			return err
		}
	}
}

// upload writes the file; since nobody else uses its name, doing it twice does no harm.
func (h *Host) upload(ctx context.Context, p *place, file mooring.Backing, content []byte) error {
	err := read(ctx, func() error {
		_, err := h.transfer(ctx, p, http.MethodPut, file, content)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func (h *Host) move(ctx context.Context, p *place, from, to mooring.Backing, replace bool) error {
	dc := p.dc.Reference()
	res, err := methods.MoveDatastoreFile_Task(ctx, p.client, &types.MoveDatastoreFile_Task{
		This: *p.client.ServiceContent.FileManager, SourceName: string(from), SourceDatacenter: &dc,
		DestinationName: string(to), DestinationDatacenter: &dc, Force: &replace,
	})
	if err == nil {
		_, err = h.session.wait(ctx, p.client, res.Returnval)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", to, explain(err))
	}
	return nil
}

// deleteFile removes a plain file; one that is absent is removed.
func (h *Host) deleteFile(ctx context.Context, p *place, file mooring.Backing) error {
	dc := p.dc.Reference()
	err := read(ctx, func() error {
		res, err := methods.DeleteDatastoreFile_Task(ctx, p.client, &types.DeleteDatastoreFile_Task{
			This: *p.client.ServiceContent.FileManager, Name: string(file), Datacenter: &dc,
		})
		if err == nil {
			_, err = h.session.wait(ctx, p.client, res.Returnval)
		}
		return err
	})
	if err != nil && classOf(err) != done {
		return fmt.Errorf("delete %s: %w", file, err)
	}
	return nil
}

// search lists the files of a folder whose names match the patterns, as disks where query says so. An absent folder is empty.
func (h *Host) search(ctx context.Context, p *place, folder mooring.Backing, query []types.BaseFileQuery, patterns ...string) ([]types.BaseFileInfo, error) {
	req := types.SearchDatastore_Task{
		This: p.browser, DatastorePath: strings.TrimSuffix(string(folder), "/"),
		SearchSpec: &types.HostDatastoreBrowserSearchSpec{
			Query:        query,
			MatchPattern: patterns,
			Details:      &types.FileQueryFlags{FileType: true, FileSize: true, Modification: true},
		},
	}
	var found []types.BaseFileInfo
	err := read(ctx, func() error {
		res, err := methods.SearchDatastore_Task(ctx, p.client, &req)
		if err != nil {
			return err
		}
		result, err := h.session.wait(ctx, p.client, res.Returnval)
		if r, ok := result.(types.HostDatastoreBrowserSearchResults); ok {
			found = r.File
		}
		return err
	})
	if err != nil && classOf(err) != done {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	return found, nil
}

// diskQuery asks for disks, as disks: without it a listing has their extents too, and without details no capacity.
func diskQuery() []types.BaseFileQuery {
	return []types.BaseFileQuery{&types.VmDiskFileQuery{Details: &types.VmDiskFileQueryFlags{
		DiskType: true, CapacityKb: true, HardwareVersion: true, Thin: new(true),
	}}}
}

// literal returns a pattern that matches name. What a pattern would take for more than itself matches any character, so
// that more than name may be found: whoever searches compares names.
func literal(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`*?[]\`, r) {
			return '?'
		}
		return r
	}, name)
}

// makeFolder makes the group's folder, and the folder of groups if it is missing; what exists is fine. vSAN (and whatever else says so) makes top-level
// folders by its namespace manager only, for which the account needs one privilege more: it is not asked where an administrator has made the folder.
func (h *Host) makeFolder(ctx context.Context, p *place, folder mooring.Backing) error {
	topLevel := p.ds.Capability.TopLevelDirectoryCreateSupported == nil || *p.ds.Capability.TopLevelDirectoryCreateSupported
	err := h.makeDirectory(ctx, p, folder, topLevel)
	if err != nil && !topLevel {
		err = read(ctx, func() error {
			ds := object.NewDatastore(p.client, p.ds.Self)
			_, err := object.NewDatastoreNamespaceManager(p.client).CreateDirectory(ctx, ds, topFolder, "")
			return err
		})
		if err != nil && !isExists(err) {
			return fmt.Errorf("make [%s] %s: %w", p.ds.Name, topFolder, err)
		}
		err = h.makeDirectory(ctx, p, folder, false)
	}
	return err
}

func (h *Host) makeDirectory(ctx context.Context, p *place, folder mooring.Backing, parents bool) error {
	err := read(ctx, func() error { return object.NewFileManager(p.client).MakeDirectory(ctx, string(folder), p.dc, parents) })
	if err != nil && !isExists(err) {
		return fmt.Errorf("make %s: %w", folder, err)
	}
	return nil
}

func sidecarOf(b mooring.Backing) mooring.Backing {
	return mooring.Backing(strings.TrimSuffix(string(b), path.Ext(b.File())) + ".json")
}

func randomHex() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
