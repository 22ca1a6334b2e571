package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mooring-sh/mooring"
)

// errUnreached is of what got no answer at all: if that goes on, the registry is gone, and not one thing in it.
var errUnreached = errors.New("no answer")

// failed returns the error for what came of an exchange that is not ok: what was to be done, and what the registry said. needs is the right that it takes.
func (r *Registry) failed(ctx context.Context, op string, x *exchange, needs string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	switch a := x.answer; {
	case a.err != nil && errors.Is(a.err, mooring.ErrUnavailable):
		return fmt.Errorf("%s: %w: %w", op, errUnreached, a.err)
	case a.err != nil:
		return fmt.Errorf("%s: %w", op, a.err)
	// The token service is asked in between, and what went wrong there is in regclient's error only.
	case errors.Is(err, mooring.ErrUnavailable), errors.Is(err, mooring.ErrInvalid):
		return fmt.Errorf("%s: %w", op, err)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return fmt.Errorf("%s: %s refuses %s (%s): it takes %s: %w", op, r.name, r.who(), a.text(), needs, mooring.ErrInvalid)
	case a.status == http.StatusNotFound:
		return fmt.Errorf("%s: %s: %w", op, a.text(), mooring.ErrNotFound)
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status >= 500:
		return fmt.Errorf("%s: %s: %w", op, a.text(), mooring.ErrUnavailable)
	case a.status != http.StatusOK:
		return fmt.Errorf("%s: %s: %w", op, a.text(), mooring.ErrInvalid)
	default:
		return fmt.Errorf("%s: %s answers, but not as a registry does (%w): %w", op, r.name, err, mooring.ErrInvalid)
	}
}

// text is the status with what the registry said about it.
func (a answer) text() string {
	text := fmt.Sprintf("status %d", a.status)
	if said := a.said(); said != "" {
		return text + ", " + said
	}
	return text
}

func (r *Registry) who() string {
	switch {
	case r.account.User != "":
		return r.account.User
	case r.account.Token != "":
		return "the token"
	default:
		return "whoever gives no account"
	}
}

// rightToPull names the right that reading a repository takes, in Harbor's words if it is Harbor.
func (r *Registry) rightToPull(repository string) string {
	right := "the right to pull from " + repository
	if project, _, ok := strings.Cut(repository, "/"); ok && r.transport.harbor.Load() {
		right += fmt.Sprintf(` (in Harbor the permission "Pull Repository" on the project %s)`, project)
	}
	return right
}

func (r *Registry) rightToList() string {
	if r.transport.harbor.Load() {
		return `the right to list the catalogue (in Harbor an administrator's, or a system robot account's with the permission "Read Catalog"), or repositories by name, or projects as PROJECT/*`
	}
	return "the right to list the catalogue (registry:catalog:*), or repositories by name"
}
