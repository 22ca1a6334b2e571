package supervisor

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// ReportOf returns the report on the recovery as it is now, with what was found of each image.
func ReportOf(r Recovery, found ImagesState) admin.Recovery {
	rep := admin.Recovery{
		ID: r.ID, Boot: r.Boot, Origin: string(r.Origin), Phase: string(r.Phase), Damaged: r.damaged(),
		Died: r.Died, Booted: r.Booted, Began: r.Began,
		Timeline: []admin.Passage{}, Volumes: []admin.RecoveryVolume{}, Services: servicesOf(r), Doors: doorsOf(r), Images: imagesOf(r.Images, found),
		Evidence: append([]mooring.Sighting{}, r.Evidence...), Conditions: append([]admin.Condition{}, r.Conditions...), Notes: append([]string{}, r.Notes...),
	}
	if r.Phase.final() {
		rep.Ended = r.Since
	}
	for _, p := range r.Timeline {
		rep.Timeline = append(rep.Timeline, admin.Passage{Phase: string(p.Phase), From: p.From, To: p.To, Missed: append([]string{}, p.Missed...)})
	}
	for _, v := range r.Volumes {
		rep.Volumes = append(rep.Volumes, admin.RecoveryVolume{Name: v.Name, State: string(v.State), Text: v.Text})
	}
	return rep
}

func servicesOf(r Recovery) []admin.Service {
	services := []admin.Service{}
	for _, t := range r.Services {
		services = append(services, admin.Service{
			Name: string(t.Name), State: string(t.State), Ready: t.Ready, ReadyAt: t.ReadyAt, Stopped: t.Stopped, Tries: t.Tries, GaveUp: t.GaveUp, Blocked: t.Blocked,
			Why: t.Why, Error: t.Err,
		})
	}
	return services
}

func doorsOf(r Recovery) admin.Doors {
	a := r.Doors.Answer
	return admin.Doors{Asked: a.At, Right: a.Right, Text: a.Text}
}

// pageLines is how much of each list of images a page of text has, which may be sent to people.
const pageLines = 100

// first writes a section with the first of many.
func first[T any](b *strings.Builder, title string, all []T, id string, line func(T) string) {
	listed := all[:min(len(all), pageLines)]
	section(b, title, listed, line)
	if more := len(all) - len(listed); more > 0 {
		fmt.Fprintf(b, "  and %d more: mooring recovery show %s\n", more, id)
	}
}

// shorten leaves the first of each list.
func shorten(i *admin.Images) {
	if i == nil {
		return
	}
	i.Findings = i.Findings[:min(len(i.Findings), pageLines)]
	i.New, i.Gone = i.New[:min(len(i.New), pageLines)], i.Gone[:min(len(i.Gone), pageLines)]
}

// imagesOf returns what was proved of the images; nil where the stack has no registry.
func imagesOf(p Proof, f ImagesState) *admin.Images {
	if p.Storage.Service == "" {
		return nil
	}
	v, d := p.Verdict, p.Damage
	return &admin.Images{
		Service: string(p.Storage.Service), State: string(p.State), Text: p.Text, Cure: p.Cure,
		Verified: v.At, Manifest: v.Manifest, Images: max(v.Images, d.Images), Proved: min(v.Intact, max(0, v.Images-d.Images)),
		Damaged: d.Images, Others: d.Others, Unfinished: d.Unfinished,
		Blobs: v.Blobs, Size: v.Size, Hashed: v.Hashed, HashedSize: v.Bytes, Tags: cmp.Or(string(v.Tags), "unknown"), Notes: append([]string{}, v.Notes...),
		Rehashed: p.Rehashed, Findings: append([]admin.Finding{}, f.Findings...), New: append([]admin.Change{}, f.New...), Gone: append([]admin.Change{}, f.Gone...),
	}
}

// progressOf returns how far a tier has come; nil: none runs.
func progressOf(p Progress) *admin.TierProgress {
	if p.Tier == 0 {
		return nil
	}
	return &admin.TierProgress{Tier: p.Tier, What: p.What, Done: p.Done, All: p.All, Bytes: p.Bytes, AllBytes: p.AllBytes, Seconds: int64(p.Left.Seconds())}
}

// longAgo is how long before a recovery the kernel started that had nothing to do with it: at the first start of all.
const longAgo = time.Hour

// Page returns the report as a page of text. Times are also counted from when the machine died or, where nobody knows
// when, from when the supervisor began.
func Page(rep admin.Recovery) string {
	var b strings.Builder
	zero := rep.Began
	if !rep.Died.IsZero() {
		zero = rep.Died
	}
	fmt.Fprintf(&b, "Recovery %s: %s\n\n", rep.ID, headline(rep))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(at time.Time, text string) {
		if !at.IsZero() {
			_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\n", at.Format("15:04:05"), offset(at.Sub(zero)), text) // into memory
		}
	}
	row(rep.Died, "last seen to run before")
	if rep.Began.Sub(rep.Booted) < longAgo {
		row(rep.Booted, "kernel started")
	}
	for _, p := range rep.Timeline {
		row(p.From, p.Phase)
		for _, missed := range p.Missed {
			row(p.To, "  limit passed: "+missed)
		}
	}
	_ = w.Flush() // into memory
	if i := rep.Images; i != nil {
		section(&b, "Images", i.Sentences(), func(text string) string { return text })
		first(&b, "Lost or damaged", i.Findings, rep.ID, admin.Finding.Line)
		first(&b, "Gone from the storage, deleted or lost", i.Gone, rep.ID, admin.Change.Line)
		first(&b, "Pushed since the manifest was made", i.New, rep.ID, admin.Change.Line)
	}
	section(&b, "Services", rep.Services, func(s admin.Service) string { return s.Name + "\t" + serviceText(s, zero) })
	section(&b, "Volumes", rep.Volumes, func(v admin.RecoveryVolume) string { return string(v.Name) + "\t" + v.State + "\t" + v.Text })
	section(&b, "What is wrong", rep.Conditions, func(c admin.Condition) string { return c.Text + "\n    cure: " + c.Cure })
	section(&b, "What vCenter saw", rep.Evidence, func(s mooring.Sighting) string { return s.At.Format("15:04:05") + "\t" + s.Text })
	section(&b, "Notes", rep.Notes, func(n string) string { return n })
	return b.String()
}

// headline says in a sentence how the recovery went.
func headline(rep admin.Recovery) string {
	how := map[bool]string{true: " with damage", false: ""}[rep.Damaged]
	began := map[string]string{
		string(Failover): "after the machine ended without a shutdown", string(Reboot): "after a reboot",
		string(First): "at the first start", string(Unclear): "after a start of which there is no record",
	}[rep.Origin]
	switch {
	case rep.Ended.IsZero():
		return rep.Phase + ", " + began
	case rep.Died.IsZero():
		return fmt.Sprintf("%s%s after %s, %s", rep.Phase, how, rep.Ended.Sub(rep.Began).Round(time.Second), began)
	default:
		return fmt.Sprintf("%s%s, %s; down for %s", rep.Phase, how, began, rep.Ended.Sub(rep.Died).Round(time.Second))
	}
}

func serviceText(s admin.Service, zero time.Time) string {
	text := s.State + ", not ready"
	switch {
	case s.Stopped:
		text = "left alone: a person stopped it"
	case s.Ready:
		text = "ready"
	}
	if s.Ready && !s.ReadyAt.IsZero() {
		text += "\t" + offset(s.ReadyAt.Sub(zero))
	}
	if s.Tries > 1 {
		text += fmt.Sprintf("\ttries: %d", s.Tries)
	}
	return text
}

func section[T any](b *strings.Builder, title string, rows []T, line func(T) string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintf(w, "  %s\n", strings.TrimRight(line(r), "\t")) // into memory
	}
	_ = w.Flush() // into memory
}

// offset writes a duration as +mm:ss.
func offset(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("%+03d:%02d", int(d.Minutes()), int(d.Abs().Seconds())%60)
}
