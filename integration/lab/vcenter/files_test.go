package vcenter_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

func (s *site) store() *object.Datastore {
	s.t.Helper()
	ds, err := s.finder.Datastore(s.t.Context(), vcenter.VSANDatastore)
	s.must(err)
	return ds
}

// free returns the free space of vsanDatastore as its summary has it.
func (s *site) free() int64 {
	s.t.Helper()
	ds := s.store()
	var m mo.Datastore
	s.must(ds.Properties(s.t.Context(), ds.Reference(), []string{"summary.freeSpace"}, &m))
	return m.Summary.FreeSpace
}

// The first directory on vSAN is a namespace object, which FileManager cannot make.
func TestTopLevelDirectoryOfVSANNeedsTheNamespaceManager(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		fm := object.NewFileManager(s.c.Client)
		err := fm.MakeDirectory(t.Context(), "[vsanDatastore] dockvols", s.dc, false)
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.CannotCreateFile{})
		wantFault(t, fm.MakeDirectory(t.Context(), "[vsanDatastore] dockvols/default", s.dc, true), &types.CannotCreateFile{})
		s.folder()
		s.must(fm.MakeDirectory(t.Context(), "[vsanDatastore] dockvols/default", s.dc, false))
		s.must(fm.MakeDirectory(t.Context(), "[vmfsDatastore] dockvols", s.dc, false))
	})
}

func (s *site) search(folder string, spec *types.HostDatastoreBrowserSearchSpec) []types.BaseFileInfo {
	s.t.Helper()
	b, err := s.store().Browser(s.t.Context())
	s.must(err)
	task, err := b.SearchDatastore(s.t.Context(), folder, spec)
	s.must(err)
	info, err := task.WaitForResult(s.t.Context())
	s.must(err)
	res, _ := info.Result.(types.HostDatastoreBrowserSearchResults)
	return res.File
}

// A browser shows disks, not the files with their bytes, and knows their capacity.
func TestListingShowsDisksAsDisks(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.disk("web")
		var names []string
		for _, f := range s.search("[vsanDatastore] dockvols", &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}}) {
			names = append(names, f.GetFileInfo().Path)
		}
		slices.Sort(names)
		if right := slices.Equal(names, []string{"web.vmdk"}); right == plain {
			t.Fatalf("got files %q, which is right: %v, want %v", names, right, !plain)
		}
		files := s.search("[vsanDatastore] dockvols", &types.HostDatastoreBrowserSearchSpec{
			MatchPattern: []string{"*.vmdk"},
			Query:        []types.BaseFileQuery{&types.VmDiskFileQuery{Details: &types.VmDiskFileQueryFlags{CapacityKb: true, Thin: new(true)}}},
			Details:      &types.FileQueryFlags{FileType: true, FileSize: true},
		})
		disk, ok := files[0].(*types.VmDiskFileInfo)
		if right := ok && len(files) == 1 && disk.CapacityKb == 32<<10 && disk.Thin != nil && *disk.Thin; right == plain {
			t.Fatalf("got %+v, which is right: %v, want %v", files[0], right, !plain)
		}
	})
}

// Nor does a listing of everything below a folder show them.
func TestListingOfSubfoldersShowsDisksAsDisks(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		s.disk("web")
		b, err := s.store().Browser(s.t.Context())
		s.must(err)
		for _, folder := range []string{"[vsanDatastore] dockvols", "[vsanDatastore]"} {
			task, err := b.SearchDatastoreSubFolders(s.t.Context(), folder, &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"web*"}})
			s.must(err)
			info, err := task.WaitForResult(s.t.Context())
			s.must(err)
			res, _ := info.Result.(types.ArrayOfHostDatastoreBrowserSearchResults)
			var names []string
			for _, r := range res.HostDatastoreBrowserSearchResults {
				for _, f := range r.File {
					names = append(names, f.GetFileInfo().Path)
				}
			}
			if right := slices.Equal(names, []string{"web.vmdk"}); right == plain {
				s.t.Errorf("%s: got files %q, which is right: %v, want %v", folder, names, right, !plain)
			}
		}
	})
}

// The directory of a running machine's disk cannot be deleted from under it, by whatever manager.
func TestFileManagerRespectsLocks(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		fm := object.NewFileManager(s.c.Client)
		moved := s.wait(fm.MoveDatastoreFile(t.Context(), disk, s.dc, strings.Replace(disk, "web", "x", 1), s.dc, false))
		if plain {
			if moved != nil {
				t.Fatalf("plain vcsim has got the rule: %v", moved)
			}
			return
		}
		wantFault(t, moved, &types.FileLocked{})
		wantFault(t, s.wait(fm.DeleteDatastoreFile(t.Context(), "[vsanDatastore] dockvols", s.dc)), &types.FileLocked{})
	})
}

// Files of a datastore are read and written by those who are logged in, and directories are not made on the way.
func TestDatastoreFilesNeedASession(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.folder()
		ds := s.store()
		s.must(ds.Upload(t.Context(), strings.NewReader("hello"), "dockvols/web.json", &soap.DefaultUpload))
		r, _, err := ds.Download(t.Context(), "dockvols/web.json", &soap.DefaultDownload)
		s.must(err)
		b, err := io.ReadAll(r)
		s.must(err)
		if string(b) != "hello" {
			t.Fatalf("got %q, want hello", b)
		}
		want := http.StatusUnauthorized
		if plain {
			want = http.StatusOK
		}
		if code := s.put(t.Context(), s.connect().Client, "dockvols/web.json"); code != want {
			t.Fatalf("without a session: got status %d, want %d", code, want)
		}
		want = http.StatusNotFound
		if plain {
			want = http.StatusOK
		}
		if code := s.put(t.Context(), s.c.Client.Client, "nowhere/web.json"); code != want {
			t.Fatalf("into a directory that is not there: got status %d, want %d", code, want)
		}
	})
}

func (s *site) put(ctx context.Context, c *soap.Client, path string) int {
	s.t.Helper()
	u := object.NewDatastoreURL(*c.URL(), "/"+vcenter.Datacenter, vcenter.VSANDatastore, path)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), strings.NewReader("hello"))
	s.must(err)
	res, err := c.Client.Do(req)
	s.must(err)
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode
}
