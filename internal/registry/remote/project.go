package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/regclient/regclient/scheme/reg"

	"github.com/mooring-sh/mooring"
)

// projectPage is how many repositories Harbor's own API gives at a time, at most.
const projectPage = 100

// Expand returns the repositories that are meant, sorted: each name as it is, PROJECT/* as all below it, and nothing at all as the whole catalogue. A project of
// Harbor's is listed through Harbor's own API, so that a robot account of that project is enough, which may not list the catalogue.
func (r *Registry) Expand(ctx context.Context, only []string) ([]string, error) {
	if len(only) == 0 {
		return r.Repositories(ctx)
	}
	var all []string
	for _, name := range only {
		project, whole := strings.CutSuffix(name, "/*")
		if err := checkRepository(project); err != nil {
			return nil, fmt.Errorf("repository %q: %w: want a name, or PROJECT/*: %w", name, err, mooring.ErrInvalid)
		}
		names := []string{name}
		if whole {
			var err error
			if names, err = r.below(ctx, project); err != nil {
				return nil, err
			}
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// below returns the repositories below a path.
func (r *Registry) below(ctx context.Context, path string) ([]string, error) {
	if err := r.meet(ctx); err != nil {
		return nil, err
	}
	if r.transport.harbor.Load() && !strings.Contains(path, "/") {
		return r.project(ctx, path)
	}
	catalogue, err := r.Repositories(ctx)
	return slices.DeleteFunc(catalogue, func(name string) bool { return !strings.HasPrefix(name, path+"/") }), err
}

// project lists a project of Harbor's, by its API 2.0, which takes a password and no token.
func (r *Registry) project(ctx context.Context, project string) ([]string, error) {
	op := "list repositories of the project " + project
	var all []string
	for page := 1; ; page++ {
		x := &exchange{limit: maxList}
		query := url.Values{"page": {strconv.Itoa(page)}, "page_size": {strconv.Itoa(projectPage)}}
		u := url.URL{Scheme: "https", Host: r.home.host, Path: "/api/v2.0/projects/" + project + "/repositories", RawQuery: query.Encode()}
		if r.home.plain {
			u.Scheme = "http"
		}
		err := r.ask(ctx, x, func(ctx context.Context, _ *reg.Reg) error { return r.get(ctx, u) })
		if err != nil || !x.ok() {
			return nil, r.failed(ctx, op, x, `the permission "List Repository" on the project `+project, err)
		}
		var repositories []struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(x.body, &repositories); err != nil {
			return nil, r.failed(ctx, op, x, "", err)
		}
		known := len(all)
		for _, rep := range repositories {
			if !slices.Contains(all[max(0, known-projectPage):known], rep.Name) {
				all = append(all, rep.Name)
			}
		}
		if len(repositories) < projectPage || len(all) == known {
			return all, nil
		}
	}
}

// get sends a request outside the distribution API; the exchange in its context has the answer.
func (r *Registry) get(ctx context.Context, u url.URL) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if r.account.User != "" {
		req.SetBasicAuth(r.account.User, string(r.account.Password))
	}
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
