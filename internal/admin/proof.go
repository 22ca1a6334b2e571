package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The words of [Images.State].
const (
	ImagesWaiting   = "waiting" // for the storage to be mounted
	ImagesVerifying = "verifying"
	ImagesProved    = "proved"
	ImagesDamaged   = "damaged"
	ImagesUnproved  = "unproved" // and nobody waits for it any more
)

// Headline says in a few words how far the proof is: "118 of 120 images proved, 2 lost or damaged".
func (i Images) Headline() string {
	switch {
	case !i.Verified.IsZero():
		parts := []string{fmt.Sprintf("%d of %d images proved", i.Proved, i.Images)}
		for _, n := range []struct {
			number int
			what   string
		}{{i.Damaged, "lost or damaged"}, {i.Unfinished, "not whole, as if their push was cut off"}, {len(i.Gone), "gone, deleted or lost"}} {
			if n.number > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n.number, n.what))
			}
		}
		return strings.Join(parts, ", ")
	case i.State == ImagesUnproved:
		return "images not proved"
	case i.Progress != nil && i.Progress.Tier > 0:
		return "images are being verified, " + i.Progress.Sentence()
	case i.State == ImagesWaiting:
		return "images wait for their storage"
	default:
		return "images are being verified"
	}
}

// Sentences says, each in a line, what was proved of the images and by what, and what is still to be hashed.
func (i Images) Sentences() []string {
	lines := []string{i.Headline()}
	if i.Verified.IsZero() {
		if i.Text != "" {
			lines = append(lines, "because: "+i.Text)
		}
		return lines
	}
	lines = append(lines, fmt.Sprintf("blobs: %d (%s), of these hashed by tiers 1 and 2: %d (%s)", i.Blobs, Bytes(i.Size), i.Hashed, Bytes(i.HashedSize)))
	switch left := i.Blobs - i.Hashed; {
	case i.Rehashed.After(i.Verified):
		lines = append(lines, "all of them hashed by tier 3 since, until "+i.Rehashed.Local().Format(stampLayout))
	case i.Progress != nil && i.Progress.Tier == 3:
		lines = append(lines, "the others are being hashed: "+i.Progress.Sentence())
	case left > 0:
		lines = append(lines, fmt.Sprintf("left for tier 3, in the background: %d (%s)", left, Bytes(i.Size-i.HashedSize)))
	}
	if i.Manifest.IsZero() {
		lines = append(lines, "there was no manifest: the storage was judged by itself, and what is gone without a trace was not missed")
	} else {
		lines = append(lines, "compared with the manifest as it was at "+i.Manifest.Local().Format(stampLayout))
	}
	if i.Tags != "yes" {
		lines = append(lines, "the tags that the database knows were not compared")
	}
	if i.Others > 0 {
		lines = append(lines, fmt.Sprintf("other things that are damaged, and that no image is known to need: %d", i.Others))
	}
	return append(lines, i.Notes...)
}

const stampLayout = "2006-01-02 15:04:05"

// Line says in a line which image is not as it was, and why.
func (f Finding) Line() string {
	text := strings.TrimPrefix(f.Name()+": ", ": ") + f.Text
	if f.Unfinished {
		text += " (pushed since the manifest was made)"
	}
	if !f.LastRight.IsZero() {
		text += " (last seen right at " + f.LastRight.Local().Format(stampLayout) + ")"
	}
	return text
}

// Line says in a line what is otherwise than in the manifest.
func (c Change) Line() string { return nameOf(c.Repository, c.Tag, c.Digest) + ": " + c.Text }

// Sentence says how far the tier is: "tier 2: hashing: 1.2 GB of 3.4 GB, 40s to go".
func (p TierProgress) Sentence() string {
	text := fmt.Sprintf("tier %d", p.Tier)
	if p.What != "" {
		text += ": " + p.What
	}
	switch {
	case p.AllBytes > 0:
		text += fmt.Sprintf(": %s of %s", Bytes(p.Bytes), Bytes(p.AllBytes))
	case p.All > 0:
		text += fmt.Sprintf(": %d of %d", p.Done, p.All)
	}
	if p.Seconds > 0 {
		text += fmt.Sprintf(", %s to go", time.Duration(p.Seconds)*time.Second)
	}
	return text
}

// Bytes writes a number of bytes for people: "1.2 GB", in powers of 1000 as registries and Docker do.
func Bytes(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), ""
	for _, u := range []string{"kB", "MB", "GB", "TB", "PB"} {
		value, unit = value/1000, u
		if value < 999.95 {
			break
		}
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + unit
}
