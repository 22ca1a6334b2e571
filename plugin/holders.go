package plugin

import (
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// unknownHolder is the ID of a holder whose mount ID was lost with a generation of the ledger. It goes when Docker's API
// says that no running container uses the volume.
const unknownHolder mooring.MountID = "unknown"

// hold returns the holders after one more Mount by id. docker cp mounts with the ID of a running container, hence the count;
// after a crash of dockerd no Unmount ever comes, hence the same ID from another dockerd begins anew.
func hold(hs []ledger.Holder, id mooring.MountID, boot mooring.BootID, dockerd ledger.Instance) []ledger.Holder {
	hs = slices.Clone(hs)
	for i := range hs {
		h := &hs[i]
		if h.ID != id {
			continue
		}
		if h.Boot == boot && h.Dockerd == dockerd {
			h.Count++
		} else {
			*h = ledger.Holder{ID: id, Count: 1, Boot: boot, Dockerd: dockerd}
		}
		return hs
	}
	return append(hs, ledger.Holder{ID: id, Count: 1, Boot: boot, Dockerd: dockerd})
}

// letGo returns the holders after an Unmount by id, and whether id was one of them.
func letGo(hs []ledger.Holder, id mooring.MountID) (rest []ledger.Holder, known bool) {
	i := slices.IndexFunc(hs, func(h ledger.Holder) bool { return h.ID == id })
	if i < 0 {
		return hs, false
	}
	hs = slices.Clone(hs)
	if hs[i].Count > 1 {
		hs[i].Count--
		return hs, true
	}
	return slices.Delete(hs, i, i+1), true
}

// inBoot returns the holders that boot has; those of other boots are void, for no Unmount comes for them.
func inBoot(hs []ledger.Holder, boot mooring.BootID) []ledger.Holder {
	var held []ledger.Holder
	for _, h := range hs {
		if h.Boot == boot {
			held = append(held, h)
		}
	}
	return held
}

// settle returns the holders once Docker's API has answered, under the dockerd current, how many running containers use the volume. The doubtful
// ones stay for those containers that have no certain holder, held once, by current; the others go.
func settle(hs []ledger.Holder, current ledger.Instance, running int, doubtful func(ledger.Holder) bool) []ledger.Holder {
	without := running
	for _, h := range hs {
		if !doubtful(h) {
			without--
		}
	}
	var kept []ledger.Holder
	for _, h := range slices.Backward(hs) { // the latest are the likeliest
		switch {
		case !doubtful(h):
			kept = append(kept, h)
		case without > 0:
			without--
			h.Count, h.Dockerd = 1, current
			kept = append(kept, h)
		}
	}
	slices.Reverse(kept)
	return kept
}

// notOf says which holders are doubtful once the dockerd current is there: those of other daemons, and those whose IDs were lost.
func notOf(current ledger.Instance) func(ledger.Holder) bool {
	return func(h ledger.Holder) bool { return h.Dockerd != current || h.ID == unknownHolder }
}
