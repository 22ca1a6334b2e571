package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Reports are the reports on the last recoveries, in a directory: of each a file for programs, ID.json, and a page for people, ID.txt.
type Reports struct {
	Dir  string
	Keep int // so many, the newest
}

// Save writes the report, or writes it anew, and removes those that are too many.
func (s Reports) Save(rep admin.Recovery) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	data, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	for ext, content := range map[string][]byte{".json": append(data, '\n'), ".txt": []byte(Page(rep))} {
		if err := durable.WriteFile(filepath.Join(s.Dir, rep.ID+ext), content, 0o600); err != nil {
			return fmt.Errorf("save report: %w", err)
		}
	}
	ids, err := s.ids()
	for len(ids) > s.Keep {
		oldest := filepath.Join(s.Dir, ids[len(ids)-1])
		err = errors.Join(err, os.Remove(oldest+".json"))
		if e := os.Remove(oldest + ".txt"); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		ids = ids[:len(ids)-1]
	}
	return err
}

// renew returns the report on the recovery, and whether it is another one than was saved last. How everything was when the recovery ended stays as it was; what became
// of the images is told until all of them have been hashed, and what was seen of the restart whenever that comes.
func renew(saved admin.Recovery, r Recovery, found ImagesState) (admin.Recovery, bool) {
	if saved.ID != r.ID || saved.Phase != string(r.Phase) {
		return ReportOf(r, found), true
	}
	rep := saved
	rep.Evidence = append([]mooring.Sighting{}, r.Evidence...)
	news := len(rep.Evidence) != len(saved.Evidence)
	if was := saved.Images; was == nil || !was.Rehashed.After(saved.Began) {
		if was != nil && !r.Images.Verdict.At.IsZero() && found.Verdict.At.IsZero() { // a supervisor that was started since knows no more than its findings
			found.New, found.Gone = was.New, was.Gone
			if len(found.Findings) == 0 {
				found.Findings = was.Findings
			}
		}
		rep.Images = imagesOf(r.Images, found)
		news = news || !sameProof(was, rep.Images)
	}
	rep.Damaged = rep.Damaged || r.Phase.final() && r.Images.Damage.grave()
	return rep, news
}

// sameProof says whether both tell the same of the images, but for the findings, which are many.
func sameProof(a, b *admin.Images) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.State == b.State && a.Text == b.Text && a.Verified.Equal(b.Verified) && a.Damaged == b.Damaged && a.Others == b.Others && a.Unfinished == b.Unfinished && a.Rehashed.Equal(b.Rehashed) && a.Tags == b.Tags
}

// ids returns the IDs of the reports, the newest first.
func (s Reports) ids() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids, err
}

// Find returns the report of that ID, or the newest for [admin.LastRecovery].
func (s Reports) Find(id string) (admin.Recovery, error) {
	ids, err := s.ids()
	if err != nil {
		return admin.Recovery{}, err
	}
	if id == admin.LastRecovery && len(ids) > 0 {
		id = ids[0]
	}
	if !slices.Contains(ids, id) { // and nothing else that may be asked for is a file's name
		return admin.Recovery{}, fmt.Errorf("recovery %s: %w", id, mooring.ErrNotFound)
	}
	var rep admin.Recovery
	data, err := os.ReadFile(filepath.Join(s.Dir, id+".json"))
	if err == nil {
		err = json.Unmarshal(data, &rep)
	}
	if err != nil {
		return rep, fmt.Errorf("read report %s: %w", id, err)
	}
	return rep, nil
}

// List returns the reports that can be read, the newest first.
func (s Reports) List() ([]admin.Recovery, error) {
	ids, err := s.ids()
	list := []admin.Recovery{}
	for _, id := range ids {
		if rep, e := s.Find(id); e == nil {
			list = append(list, rep)
		}
	}
	return list, err
}
