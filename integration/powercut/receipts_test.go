package powercut_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/internal/registry"
)

func digest(text string) registry.Digest { return registry.DigestOf([]byte(text)) }

// pushed is a push of the image to the tag t of the repository a.
func pushed(image string, sent, acknowledged powercut.Moment) powercut.Push {
	return powercut.Push{Repository: "a", Tag: "t", Manifest: digest(image), Blobs: []registry.Digest{digest("layer of " + image)}, Sent: sent, Acknowledged: acknowledged}
}

// Pushes of one tag that overlap may be taken by the registry in either order; nothing else may be excused. The cut is after moment 10.
func TestTagMayBeWhatNoLaterAcknowledgedPushReplaced(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pushes []powercut.Push
		want   []string
	}{
		"acknowledged":                     {[]powercut.Push{pushed("1", 1, 2)}, []string{"1"}},
		"never acknowledged":               {[]powercut.Push{pushed("1", 1, 0)}, nil},
		"acknowledged after the cut":       {[]powercut.Push{pushed("1", 1, 11)}, nil},
		"moved":                            {[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 4)}, []string{"2"}},
		"moved twice":                      {[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 4), pushed("3", 5, 6)}, []string{"3"}},
		"moved back":                       {[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 4), pushed("1", 5, 6)}, []string{"1"}},
		"under way":                        {[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 0)}, []string{"1", "2"}},
		"under way, answered after":        {[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 12)}, []string{"1", "2"}},
		"sent while it was cut":            {[]powercut.Push{pushed("1", 1, 2), pushed("2", 11, 0)}, []string{"1", "2"}},
		"overlapping":                      {[]powercut.Push{pushed("1", 1, 3), pushed("2", 2, 4)}, []string{"1", "2"}},
		"overlapping, the second in it":    {[]powercut.Push{pushed("1", 1, 4), pushed("2", 2, 3)}, []string{"1", "2"}},
		"overlapping, then moved":          {[]powercut.Push{pushed("1", 1, 3), pushed("2", 2, 4), pushed("3", 5, 6)}, []string{"3"}},
		"one overlaps both of a sequence":  {[]powercut.Push{pushed("1", 1, 6), pushed("2", 2, 3), pushed("3", 4, 5)}, []string{"1", "3"}},
		"under way since before the first": {[]powercut.Push{pushed("1", 1, 0), pushed("2", 2, 3), pushed("3", 4, 5)}, []string{"1", "3"}},
	} {
		var want []registry.Digest
		for _, image := range tt.want {
			want = append(want, digest(image))
		}
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(powercut.Expect(tt.pushes, nil, 10).Tags[powercut.TagName{Repository: "a", Tag: "t"}]))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the tag may be %v; want %v", name, got, want)
		}
	}
}

func TestWhatWasAcknowledgedBeforeTheCutMustBeThere(t *testing.T) {
	t.Parallel()
	e := powercut.Expect(
		[]powercut.Push{pushed("1", 1, 2), pushed("2", 3, 11), pushed("3", 4, 0)},
		[]powercut.Upload{{"a", digest("early"), 10}, {"a", digest("late"), 11}}, 10,
	)
	if e.Pushes != 1 || len(e.Images) != 1 || !e.Images[powercut.InRepository{Repository: "a", Digest: digest("1")}] {
		t.Errorf("%d pushes, images %v; want the one that was acknowledged", e.Pushes, e.Images)
	}
	want := map[powercut.InRepository]bool{{Repository: "a", Digest: digest("layer of 1")}: true, {Repository: "a", Digest: digest("early")}: true}
	if !maps.Equal(e.Blobs, want) {
		t.Errorf("blobs %v; want %v", e.Blobs, want)
	}
}

// An acknowledgement that comes while the disk is being cut is one after the cut; a manifest that is sent meanwhile may be on it.
func TestReceiptsKeepTheOrderOfWhatHappened(t *testing.T) {
	t.Parallel()
	var r powercut.Receipts
	first := r.Send(pushed("1", 0, 0))
	r.Acknowledge(first)
	second := r.Send(pushed("2", 0, 0))
	r.Uploaded("a", digest("early"))
	cut := r.Now()
	r.Acknowledge(second)
	r.Uploaded("a", digest("late"))
	r.Send(pushed("3", 0, 0))
	e := r.Expect(cut)
	if e.Pushes != 1 || len(e.Blobs) != 2 {
		t.Errorf("%d pushes and blobs %v; want one with its layer, and the early one", e.Pushes, e.Blobs)
	}
	tags := slices.Sorted(maps.Keys(e.Tags[powercut.TagName{Repository: "a", Tag: "t"}]))
	want := []registry.Digest{digest("1"), digest("2"), digest("3")}
	slices.Sort(want)
	if !slices.Equal(tags, want) {
		t.Errorf("the tag may be %v; want %v", tags, want)
	}
}
