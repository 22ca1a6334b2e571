package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	tagTries   = 3               // to have the database tell its tags, each with a verification, before nobody waits for that any more
	chorePause = 5 * time.Second // after the storage had to be let go
	choreRetry = time.Minute     // after an error
	repairCure = "mooring recovery show (names every one); mooring images repair --from REGISTRY"
)

// Proof is what is remembered of the proof that the registry's images are there.
type Proof struct {
	Storage  Storage    `json:"storage"`
	State    ProofState `json:"state"`
	Text     string     `json:"text,omitempty"` // why it is not proved: a sentence without a full stop
	Cure     string     `json:"cure,omitempty"`
	Verdict  Verdict    `json:"verdict,omitzero"`
	Damage   Damage     `json:"damage,omitzero"`
	Rehashed time.Time  `json:"rehashed,omitzero"`
	Told     int        `json:"told,omitempty"`  // of how much damage people were told
	Again    bool       `json:"again,omitempty"` // a person asked that what was missed be judged again

	Tries  int       `json:"tries,omitempty"` // to get a verdict
	Next   time.Time `json:"next,omitzero"`   // not to be tried before
	Err    string    `json:"err,omitempty"`   // of the last try
	GaveUp bool      `json:"gave_up,omitempty"`

	Waiting time.Time `json:"waiting,omitzero"` // since when the door waits for nothing but the images
	Freed   time.Time `json:"freed,omitzero"`   // since when it does not any more
	Late    bool      `json:"late,omitempty"`   // the limit has passed

	Keeping   Chore `json:"keeping,omitzero"`
	Rehashing Chore `json:"rehashing,omitzero"`
}

// ProofState says in a word how far the proof is.
type ProofState string

// The states of the proof.
const (
	ProofWaits   ProofState = admin.ImagesWaiting   // for the storage to be mounted
	ProofRuns    ProofState = admin.ImagesVerifying // tiers 1 and 2 have no answer yet
	ProofHolds   ProofState = admin.ImagesProved    // nothing is missed
	ProofFails   ProofState = admin.ImagesDamaged   // images are lost or damaged
	ProofMissing ProofState = admin.ImagesUnproved  // there is no answer, and nobody waits for one
)

// Chore is something that is done to the images for as long as all is well.
type Chore struct {
	Next time.Time `json:"next,omitzero"` // not to be begun before
	Err  string    `json:"err,omitempty"` // why it ended last
}

// followImages remembers what is known of the images.
func (s *step) followImages() {
	p, o := &s.r.Images, s.o.Images
	if o.Verdict.At.After(p.Verdict.At) && o.Verdict.At.After(s.r.Began) {
		p.Verdict, p.Again, p.GaveUp = o.Verdict, false, false
	}
	if o.Damage.At.After(p.Damage.At) && o.Damage.At.After(s.r.Began) {
		p.Damage = o.Damage
	}
	if o.Rehashed.After(p.Rehashed) {
		p.Rehashed = o.Rehashed
	}
}

// verified remembers what came of a verification.
func (s *step) verified(e Outcome) {
	p := &s.r.Images
	p.Err = e.Err
	switch {
	case e.Err == "" && (s.o.Images.Verdict.Tags == mooring.Yes || !s.tagsUp()):
		p.Tries = 0
		return
	case e.Err == "":
		p.Err = s.o.Images.Verdict.TagsErr
	}
	p.Tries++
	p.Next = e.At.Add(pause(p.Tries))
	p.GaveUp = e.Err != "" && p.Tries >= s.limits.Tries
}

// ended remembers how a chore ended.
func (c *Chore) ended(e Outcome) {
	c.Err, c.Next = e.Err, e.At.Add(chorePause)
	if e.Err != "" {
		c.Next = e.At.Add(choreRetry)
	}
}

// awaitImages finds out whether the storage can be read, and whether the images are waited for. What cannot be proved is not waited for, and nothing is waited for longer
// than the limit.
func (s *step) awaitImages() {
	p := &s.r.Images
	if !s.known() {
		return
	}
	if p.Storage = s.o.Storage; p.Storage.Service == "" {
		*p = Proof{}
		return
	}
	o, blocked := s.unreadable()
	s.readable = !blocked
	switch {
	case s.answered():
		p.State, p.Text, p.Cure = ProofHolds, "", ""
		if p.Damage.grave() {
			p.State = ProofFails
		}
	case blocked && !o.Passing:
		p.State, p.Text, p.Cure, p.Late = ProofMissing, o.Text, o.Cure, false
	case p.GaveUp:
		p.State, p.Text, p.Cure = ProofMissing, fmt.Sprintf("tried %d times: %s", p.Tries, p.Err), healCure
	case blocked:
		p.State, p.Text, p.Cure = ProofWaits, o.Text, o.Cure
		s.awaits = "the images cannot be verified yet: " + o.Text
	default:
		p.State, p.Text, p.Cure = ProofRuns, p.Err, ""
		s.awaits = "the images' verification, tiers 1 and 2, has no answer yet"
	}
	s.countWaiting()
}

// countWaiting sees to it that the images are not waited for too long once everything else is ready.
func (s *step) countWaiting() {
	p, now := &s.r.Images, s.o.Now
	switch {
	case s.awaits == "":
	case s.r.Phase != Verifying && !s.r.Phase.final():
		return
	case p.Waiting.IsZero():
		p.Waiting = now
	case now.Sub(p.Waiting) >= s.limits.Images:
		s.imagesAreLate()
	}
	if s.awaits == "" && !p.Waiting.IsZero() {
		p.Waiting, p.Freed = time.Time{}, now
	}
	if p.Late {
		s.awaits = ""
	}
}

// imagesAreLate has nobody wait for the images any more.
func (s *step) imagesAreLate() {
	if s.r.Phase == Verifying && !s.r.Images.Late {
		last := &s.r.Timeline[len(s.r.Timeline)-1]
		last.Missed = append(slices.Clip(last.Missed), s.awaits)
	}
	s.r.Images.Late, s.awaits = true, ""
}

// unreadable says why the storage cannot be read. That passes if something is waited for, or if the start of the registry, which comes before the door's, mounts it.
func (s *step) unreadable() (obstacle, bool) {
	at := s.o.Storage
	v := s.service(at.Service)
	t := s.track(at.Service)
	if t.Stopped {
		return obstacle{Root: v.Name, Text: "a person stopped " + string(v.Name), Cure: "mooring stack up"}, true
	}
	if at.Volume != "" {
		if o, found := s.volumeObstacle(v, at.Volume); found {
			return o, true
		}
	}
	for _, d := range v.Dirs {
		if d.Mounted == mooring.No && at.Volume == "" {
			return obstacle{Root: v.Name, Text: fmt.Sprintf("nothing is mounted at %s, which %s needs", d.Path, v.Name), Cure: d.Cure, Passing: true}, true
		}
	}
	if at.Dir != "" && (at.Volume == "" || s.volumes[at.Volume].State == VolumeMounted) {
		return obstacle{}, false
	}
	if t.Ready {
		return obstacle{Root: v.Name, Text: "the storage of " + string(v.Name) + " is in no volume and in no directory of this machine", Cure: "check registry.storage in the stack's profile"}, true
	}
	_, stuck := s.obstacles[v.Name]
	o := obstacle{Root: v.Name, Text: "the storage of " + string(v.Name) + " is not mounted before it is started", Cure: cureOf(v)}
	o.Passing = !v.Entry && !s.beyond[v.Name] && !t.GaveUp && !stuck
	return o, true
}

// answered says that tiers 1 and 2 have an answer, with what the database says of the tags if that is up and tells them.
func (s *step) answered() bool {
	v := s.r.Images.Verdict
	return !v.At.IsZero() && (v.Tags != mooring.Unknown || !s.tagsUp() || s.r.Images.Tries >= tagTries)
}

// tagsUp says whether there is a database that knows the tags, and that it can be asked.
func (s *step) tagsUp() bool {
	name := s.r.Images.Storage.Tags
	return name != "" && s.service(name).Name == name && s.track(name).Ready
}

// prove has the images verified, and then, for as long as the stack is up, the manifest kept and the blobs hashed again.
func (s *step) prove() {
	p := &s.r.Images
	switch now := s.o.Now; {
	case !s.known():
	case p.Storage.Service == "" || !s.readable:
		s.letGo(Verify, Keep, Rehash)
	case s.verificationIsDue() && !now.Before(p.Next):
		if !s.letGo(Keep, Rehash) {
			s.act(Verify, "")
		}
	case !s.answered():
	case s.r.Phase == Settled && !s.underway(Verify):
		if !now.Before(p.Keeping.Next) {
			s.act(Keep, "")
		}
		if s.rehashIsDue() && !now.Before(p.Rehashing.Next) {
			s.act(Rehash, "")
		}
	}
}

// verificationIsDue says whether tiers 1 and 2 are: there is no answer yet, a person asked for another, or the database may tell its tags by now.
func (s *step) verificationIsDue() bool {
	p := &s.r.Images
	switch {
	case p.GaveUp:
		return false
	case p.Verdict.Tags != mooring.Yes && s.tagsUp() && p.Tries < s.limits.Tries:
		return true
	default:
		return p.Again || !s.answered()
	}
}

// letGo ends those of the actions that are under way, and says whether there were any.
func (s *step) letGo(verbs ...Verb) bool {
	reading := s.underway(verbs...)
	if reading {
		s.act(LetGo, "")
	}
	return reading
}

func (s *step) underway(verbs ...Verb) bool {
	return slices.ContainsFunc(s.o.Underway, func(a Action) bool { return slices.Contains(verbs, a.Verb) })
}

// rehashIsDue says whether tier 3 is: after each boot that followed no shutdown in order, and after its time.
func (s *step) rehashIsDue() bool {
	last := s.r.Images.Rehashed
	alarming := s.r.Origin == Failover || s.r.Origin == Unclear
	return last.IsZero() || alarming && last.Before(s.r.Began) || s.limits.Rehash > 0 && s.o.Now.Sub(last) >= s.limits.Rehash
}

// adder adds a condition.
type adder func(code string, severity admin.Severity, title, text, cure string)

// imageConditions adds what is wrong with the images, and with the proof of them.
func (s *step) imageConditions(add adder) {
	p := s.r.Images
	if p.Storage.Service == "" {
		return
	}
	switch d := p.Damage; {
	case d.grave():
		add("images-damaged", admin.Failing, "images are lost or damaged", damageText(p), repairCure)
	case d.Unfinished > 0:
		add("images-unfinished", admin.Warning, "pushes were cut off", "Images that the manifest does not have are not whole, as a push that was cut off leaves them: "+
			some(d.Worst, d.Unfinished), "push them again, then: "+healCure)
	}
	if s.r.Phase.final() && !s.track(p.Storage.Service).Stopped {
		s.proofConditions(add)
	}
	if p.Keeping.Err != "" {
		add("manifest", admin.Warning, "the manifest is not kept", "What is pushed does not come into the manifest: "+p.Keeping.Err, "journalctl -u mooring-supervisor")
	}
	if p.Rehashing.Err != "" {
		add("rehash", admin.Warning, "blobs are not hashed again", "Tier 3 ended: "+p.Rehashing.Err, "journalctl -u mooring-supervisor")
	}
}

// proofConditions adds what is not proved.
func (s *step) proofConditions(add adder) {
	p, v := s.r.Images, s.r.Images.Verdict
	if p.State != ProofHolds && p.State != ProofFails {
		why := cmp.Or(p.Text, "tiers 1 and 2 take their time")
		add("images-unproved", admin.Warning, "images are not proved", "It is not proved that the images are there: "+why+". Until it is, the manifest stays as it was", cmp.Or(p.Cure, "wait"))
		return
	}
	if db := p.Storage.Tags; db != "" && v.Tags != mooring.Yes && !s.track(db).Stopped {
		why := cmp.Or(v.TagsErr, string(db)+" is not ready")
		add("images-tags", admin.Warning, "tags are not proved", "The tags that "+string(db)+" knows could not be compared: "+why,
			cureOf(s.service(db))+"; when it is put right: "+healCure)
	}
	if v.Gone > 0 && (s.r.Origin == Failover || s.r.Origin == Unclear) {
		add("images-gone", admin.Warning, "images are gone",
			fmt.Sprintf("Of what the manifest had, %d are gone without a trace of damage: deleted before the machine ended, or lost", v.Gone),
			"mooring recovery show (names every one); push again what nobody has deleted, then: "+healCure)
	}
}

// damageText says how many images are not as they were, and names some.
func damageText(p Proof) string {
	d := p.Damage
	text := fmt.Sprintf("%d of %d images: ", d.Images, max(p.Verdict.Images, d.Images))
	switch {
	case d.Images == 0:
		text = fmt.Sprintf("No image, but %d other things of the storage: ", d.Others)
	case d.Others > 0:
		text = fmt.Sprintf("%d of %d images, and %d other things of the storage: ", d.Images, max(p.Verdict.Images, d.Images), d.Others)
	}
	return text + some(d.Worst, d.Images+d.Others)
}

// some joins those that are named of so many.
func some(named []string, all int) string {
	text := strings.Join(named, "; ")
	if more := all - len(named); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
