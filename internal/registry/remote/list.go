package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/scheme/reg"

	"github.com/mooring-sh/mooring"
)

const (
	// page is how many repositories are asked for at a time: distribution's largest allowed by default.
	page = 1000
	// maxList is the size in bytes of a page of repositories or tags. Harbor and distribution send all tags of a repository on one.
	maxList = 64 << 20
)

// Repositories returns the names of the catalogue, sorted. Nobody but an administrator may list Harbor's.
func (r *Registry) Repositories(ctx context.Context) ([]string, error) {
	op := "list repositories of " + r.name
	x := &exchange{limit: maxList} // one for all pages: it notices when they go in a circle
	var all []string
	n, last := page, ""
	for more := true; more; {
		var names []string
		err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
			list, err := c.RepoList(ctx, r.name, scheme.WithRepoLimit(n), scheme.WithRepoLast(last))
			if err == nil {
				names = list.Repositories
			}
			return err
		})
		switch {
		case x.status == http.StatusBadRequest && n > 0:
			n = 0 // the administrator allows smaller pages only: whatever size it likes, then
			continue
		case err != nil || !x.ok():
			return nil, r.failed(ctx, op, x, r.rightToList(), err)
		}
		all = append(all, names...)
		last, more = nextPage(x.header.Values("Link"))
		if last == "" && len(names) > 0 {
			last = names[len(names)-1]
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// nextPage returns the entry after which a list goes on, from the Links of its page (RFC 8288; their URLs may be relative), which may leave it out, and
// whether it goes on.
func nextPage(headers []string) (last string, more bool) {
	for _, rest := range headers {
		for rest != "" {
			var target, parameters string
			target, rest, _ = strings.Cut(rest, ">")
			parameters, rest, _ = strings.Cut(rest, "<")
			if !isNext(parameters) {
				continue
			}
			u, err := url.Parse(strings.TrimLeft(target, " <"))
			if err != nil {
				return "", true
			}
			return u.Query().Get("last"), true
		}
	}
	return "", false
}

// isNext tells whether a link's parameters have rel=next, with or without quotes.
func isNext(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		key, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(key), "rel") && strings.EqualFold(strings.Trim(value, `", `), "next") {
			return true
		}
	}
	return false
}

// Tags returns the names of the repository's tags, sorted. A repository that has none may be answered with [mooring.ErrNotFound].
func (r *Registry) Tags(ctx context.Context, repository string) ([]string, error) {
	op := "list tags of " + repository
	if err := checkRepository(repository); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", op, err, mooring.ErrInvalid)
	}
	x := &exchange{limit: maxList}
	var tags []string
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		list, err := c.TagList(ctx, r.at(repository))
		if err == nil {
			tags = list.Tags
		}
		return err
	})
	if err != nil || !x.ok() {
		return nil, r.failed(ctx, op, x, r.rightToPull(repository), err)
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}
