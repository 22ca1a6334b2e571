package powercut

import (
	"context"
	"fmt"
	"net/http"
)

// pushAgain starts a registry on a disk that was cut and verified, has the pushes made again that were under way, as people do who saw them fail, and returns what is lost then. What
// a push that was cut off has left must not be taken for what it was to become.
func (p Plan) pushAgain(ctx context.Context, d *Disk, r *Receipts, underWay []Push) ([]Loss, error) {
	registry, err := start(ctx, d.Dir)
	if err != nil {
		return nil, err
	}
	defer registry.stop()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	pushers := Pushers{Address: registry.address, Client: &http.Client{Transport: transport}, Receipts: r}
	if err := together(underWay, func(push Push) error { return pushers.again(ctx, push) }); err != nil {
		return nil, fmt.Errorf("push again after the cut: %w", err)
	}
	return Check(d.Dir, r.Expect(r.Now())), nil
}
