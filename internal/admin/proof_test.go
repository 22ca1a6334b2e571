package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
)

// What is said of the images says no more than was proved.
func TestImagesAreToldAsTheyAre(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.Local)
	whole := admin.Images{State: admin.ImagesProved, Verified: at, Manifest: at, Images: 10, Proved: 10, Blobs: 30, Size: 3e9, Hashed: 30, HashedSize: 3e9, Tags: "yes"}
	for name, c := range map[string]struct {
		change func(*admin.Images)
		want   string
	}{
		"all is well": {
			func(*admin.Images) {},
			"10 of 10 images proved | blobs: 30 (3.0 GB), of these hashed by tiers 1 and 2: 30 (3.0 GB) | compared with the manifest as it was at 2030-01-02 03:04:05",
		},
		"some": {
			func(i *admin.Images) {
				i.Proved, i.Damaged, i.Unfinished, i.Others, i.Hashed, i.HashedSize, i.Tags = 7, 2, 1, 4, 10, 1e9, "no"
				i.Manifest, i.Gone, i.Notes = time.Time{}, []admin.Change{{}}, []string{"a note"}
			},
			"7 of 10 images proved, 2 lost or damaged, 1 not whole, as if their push was cut off, 1 gone, deleted or lost | " +
				"blobs: 30 (3.0 GB), of these hashed by tiers 1 and 2: 10 (1.0 GB) | left for tier 3, in the background: 20 (2.0 GB) | " +
				"there was no manifest: the storage was judged by itself, and what is gone without a trace was not missed | " +
				"the tags that the database knows were not compared | other things that are damaged, and that no image is known to need: 4 | a note",
		},
		"being hashed": {
			func(i *admin.Images) {
				i.Hashed, i.Progress = 1, &admin.TierProgress{Tier: 3, What: "hashing", Bytes: 999, AllBytes: 999_999_999, Seconds: 70}
			},
			"10 of 10 images proved | blobs: 30 (3.0 GB), of these hashed by tiers 1 and 2: 1 (3.0 GB) | the others are being hashed: tier 3: hashing: 999 B of 1.0 GB, 1m10s to go | " +
				"compared with the manifest as it was at 2030-01-02 03:04:05",
		},
		"hashed": {
			func(i *admin.Images) { i.Rehashed = at.Add(time.Hour) },
			"10 of 10 images proved | blobs: 30 (3.0 GB), of these hashed by tiers 1 and 2: 30 (3.0 GB) | all of them hashed by tier 3 since, until 2030-01-02 04:04:05 | " +
				"compared with the manifest as it was at 2030-01-02 03:04:05",
		},
		"under way": {
			func(i *admin.Images) {
				*i = admin.Images{State: admin.ImagesVerifying, Progress: &admin.TierProgress{Tier: 1, What: "scanning", Done: 5, All: 9}}
			},
			"images are being verified, tier 1: scanning: 5 of 9",
		},
		"waiting":     {func(i *admin.Images) { *i = admin.Images{State: admin.ImagesWaiting, Text: "no disk"} }, "images wait for their storage | because: no disk"},
		"never":       {func(i *admin.Images) { *i = admin.Images{State: admin.ImagesUnproved, Text: "no disk"} }, "images not proved | because: no disk"},
		"just begins": {func(i *admin.Images) { *i = admin.Images{State: admin.ImagesVerifying} }, "images are being verified"},
	} {
		i := whole
		c.change(&i)
		if got := strings.Join(i.Sentences(), " | "); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, c.want)
		}
	}
}

// An image is named as people type it.
func TestFindingsAreNamed(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.Local)
	for want, f := range map[string]admin.Finding{
		"a:1: gone":         {Repository: "a", Tag: "1", Image: "sha256:x", Text: "gone"},
		"a@sha256:x: gone":  {Repository: "a", Image: "sha256:x", Digest: "sha256:y", Text: "gone"},
		"a: gone":           {Repository: "a", Digest: "sha256:y", Text: "gone"},
		"sha256:y: damaged": {Digest: "sha256:y", Text: "damaged"},
		"x cannot be read":  {Text: "x cannot be read"},
		"a:1: torn (pushed since the manifest was made)":     {Repository: "a", Tag: "1", Text: "torn", Unfinished: true},
		"a:1: gone (last seen right at 2030-01-02 03:04:05)": {Repository: "a", Tag: "1", Text: "gone", LastRight: at},
	} {
		if got := f.Line(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := (admin.Change{Repository: "a", Digest: "sha256:x", Text: "the image"}).Line(); got != "a@sha256:x: the image" {
		t.Errorf("got %q", got)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 5e9: "5.0 GB", 2.5e15: "2.5 PB", 9e18: "9000.0 PB"} {
		if got := admin.Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
