package admin

import "time"

// Images is what was proved of the images in the stack's registry.
type Images struct {
	Service string `json:"service"`        // the registry
	State   string `json:"state"`          // ImagesWaiting and so on
	Text    string `json:"text,omitempty"` // why they are not proved
	Cure    string `json:"cure,omitempty"`

	// What follows is what tiers 1 and 2 found, unless Verified is zero: then they have not ended.
	Verified   time.Time `json:"verified,omitzero"`
	Manifest   time.Time `json:"manifest,omitzero"` // of when the manifest was; zero: there was none, and the storage was judged by itself
	Images     int       `json:"images"`            // that must be there, also those that are parts of others
	Proved     int       `json:"proved"`            // of these
	Blobs      int       `json:"blobs"`             // that they need, each once
	Size       int64     `json:"size"`              // of the blobs, in bytes
	Hashed     int       `json:"hashed"`            // of the blobs, by tiers 1 and 2
	HashedSize int64     `json:"hashed_size"`
	Tags       string    `json:"tags"` // whether the tags that a database knows were compared: yes, no, or unknown; yes where there is no such database

	// Damaged images are lost or damaged, whichever tier found that out; Others are damaged and no image is known to need them; Unfinished are images that are not whole, and that the
	// manifest does not have.
	Damaged    int `json:"damaged"`
	Others     int `json:"others"`
	Unfinished int `json:"unfinished"`

	Rehashed time.Time     `json:"rehashed,omitzero"` // when tier 3 was last through with everything
	Progress *TierProgress `json:"progress,omitempty"`

	// These are complete in a report, and the first of each where somebody is told of a recovery, and in Stack.
	Findings []Finding `json:"findings"`
	New      []Change  `json:"new"`  // pushed since the manifest was made, and whole
	Gone     []Change  `json:"gone"` // in the manifest and no longer there, without a trace of damage: deleted, or lost
	Notes    []string  `json:"notes"`
}

// TierProgress is how far a tier has come that runs now.
type TierProgress struct {
	Tier     int    `json:"tier"` // 1, 2 or 3
	What     string `json:"what"` // is being done
	Done     int    `json:"done"` // things
	All      int    `json:"all"`  // 0: no telling
	Bytes    int64  `json:"bytes"`
	AllBytes int64  `json:"all_bytes"`
	Seconds  int64  `json:"seconds_left"` // as it looks; 0: no telling
}

// Finding is one thing that is wrong with an image.
type Finding struct {
	Repository string    `json:"repository,omitempty"` // empty: of a blob that no image needs, or of what cannot be read
	Tag        string    `json:"tag,omitempty"`        // empty: no tag leads to the image
	Image      string    `json:"image,omitempty"`      // the digest of the image's manifest
	Digest     string    `json:"digest,omitempty"`     // of what is wrong
	Kind       string    `json:"kind"`                 // a word for scripts
	Text       string    `json:"text"`                 // what is wrong
	LastRight  time.Time `json:"last_right,omitzero"`
	Unfinished bool      `json:"unfinished,omitempty"` // the manifest does not have the image: perhaps a push that was cut off
}

// Change is something that is otherwise than in the manifest, and right.
type Change struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"` // empty: the whole repository
	Text       string `json:"text"`
}

// Name returns the image's name as people type it; of a blob that no image needs, its digest.
func (f Finding) Name() string {
	if f.Repository == "" {
		return f.Digest
	}
	return nameOf(f.Repository, f.Tag, f.Image)
}

func nameOf(repository, tag, digest string) string {
	switch {
	case tag != "":
		return repository + ":" + tag
	case digest != "":
		return repository + "@" + digest
	default:
		return repository
	}
}
