package supervisor

import (
	"context"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Images proves that what the stack's registry has acknowledged is there, and keeps the manifest by which that can be told. Tier 0, that the volumes
// are mounted and can be written by those who write there, is no part of it: that is known by the volumes and the services' directories.
//
// Verify, Keep and Rehash read the storage. They take care themselves that it may be read, and return within two seconds of the end of ctx, and of when Docker wants the
// volume unmounted, with no file of the storage open. Keep and Rehash may be called at the same time, Verify while neither is under way. After a crash they are called again.
type Images interface {
	// Observe returns what is known, at once and without I/O. What it returns is not changed afterwards.
	Observe() ImagesState
	// Verify runs tiers 1 and 2, and returns when they have an answer: from then on it is the state's verdict, whatever was found; nothing but that there is none is an
	// error. Without a manifest the storage is judged by itself. A database that knows the tags is asked if it is up; that it is not is no error either. Called again
	// in the same boot, it judges again what it missed, and what users have deleted since is no miss.
	Verify(ctx context.Context, s Storage) error
	// Keep refreshes the manifest until ctx ends: what is pushed is in it within seconds. What a verification has missed stays in it. It returns nil when it had to let the storage go.
	Keep(ctx context.Context, s Storage) error
	// Rehash is tier 3: it hashes everything that was not hashed for long, throttled, and goes on where the one before it ended. It returns nil when all is hashed, which the
	// state then says, and when it had to let the storage go.
	Rehash(ctx context.Context, s Storage) error
}

// Storage says where a registry keeps its images: the directory that holds docker/registry/v2.
type Storage struct {
	Service ServiceName  `json:"service"`          // the registry. Empty: the stack has none, and what follows says nothing
	Volume  mooring.Name `json:"volume,omitempty"` // of Mooring's driver; empty: the directory is the host's, or another driver's
	// Dir is the directory: in the volume, or else of this machine. Empty: not known, for it is not mounted.
	Dir  string      `json:"dir,omitempty"`
	Tags ServiceName `json:"tags,omitempty"` // the database that knows the tags; empty: the storage does
	// Cache is the service that goes on answering for blobs that were replaced, until its cache is flushed or, if it has no command for that, it is restarted. Empty: there is none.
	Cache ServiceName `json:"cache,omitempty"`
}

// ImagesState is what is known of the images.
type ImagesState struct {
	Verdict  Verdict  // of the last verification in this boot
	Damage   Damage   // as last found out, by any tier
	Progress Progress // of the tier that runs now
	// Rehashed is when everything was hashed last: when the last whole run of tier 3 ended. Zero: never.
	Rehashed time.Time
	// Findings are all misses that stand, New and Gone what the verdicts of this boot tell besides. They may be many.
	Findings  []admin.Finding
	New, Gone []admin.Change
	// Conditions are what is wrong beside the images: with the manifest, or with the kind of the filesystem.
	Conditions []admin.Condition
}

// Verdict is what tiers 1 and 2 came to.
type Verdict struct {
	At       time.Time `json:"at,omitzero"`       // when they had ended; zero: not yet
	Manifest time.Time `json:"manifest,omitzero"` // of when the manifest was; zero: there was none, and the storage was judged by itself
	Images   int       `json:"images"`            // that must be there: those of the manifest, and those that were pushed since; also the parts of others
	Intact   int       `json:"intact"`            // of which nothing is missed
	Gone     int       `json:"gone"`              // images, tags and repositories of the manifest that are gone without a trace of damage: deleted, or lost
	Blobs    int       `json:"blobs"`             // that they need, each once, with the images' manifests
	Size     int64     `json:"size"`              // of the blobs, in bytes
	Hashed   int       `json:"hashed"`            // of the blobs, by this verification
	Bytes    int64     `json:"bytes"`             // of these
	// Tags: whether the tags that the database knows were compared. Yes where the storage itself knows them. No: it was asked, and did not tell. Unknown: it was not up.
	Tags    mooring.Fact `json:"tags"`
	TagsErr string       `json:"tags_err,omitempty"` // why they were not
	Notes   []string     `json:"notes,omitempty"`    // what was repaired, and what else a person should know, a sentence each; some of them
}

// Damage is what is not as it should be.
type Damage struct {
	At         time.Time `json:"at,omitzero"`          // when this was found out
	Images     int       `json:"images"`               // lost or damaged
	Others     int       `json:"others,omitempty"`     // what else is: blobs that no image needs (who pushes one that does is told that it is there), and what cannot be read
	Unfinished int       `json:"unfinished,omitempty"` // images that are not whole and that the manifest does not have: a push that was cut off leaves such
	Worst      []string  `json:"worst"`                // some of the findings, each with the image's name and what is wrong
}

// grave says that something that was acknowledged may be lost, or that pushes may come to nothing.
func (d Damage) grave() bool { return d.Images+d.Others > 0 }

// Progress is how far a tier has come.
type Progress struct {
	Tier            int    // 1, 2 or 3; 0: none runs
	What            string // is being done
	Done, All       int    // things; All 0: no telling
	Bytes, AllBytes int64
	Left            time.Duration // still to go, as it looks; zero: no telling
}
