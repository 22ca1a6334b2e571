package supervisor_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
)

func fact() *rapid.Generator[mooring.Fact] {
	return rapid.SampledFrom([]mooring.Fact{mooring.Unknown, mooring.Yes, mooring.No})
}

// anyReach mostly can.
func anyReach() *rapid.Generator[supervisor.Reach] {
	return rapid.SampledFrom([]supervisor.Reach{{}, {}, {}, {Err: "it does not answer", Cure: "start it"}})
}

func anyService(r *rapid.T, i int, now time.Time) supervisor.Service {
	names := []supervisor.ServiceName{"a", "b", "c", "d", "proxy"}
	v := supervisor.Service{
		Name: names[i], Entry: names[i] == "proxy", Cache: names[i] == "b",
		Needs: rapid.SliceOfNDistinct(rapid.SampledFrom([]mooring.Name{"v1", "v2", "v3"}), 0, 2, rapid.ID).Draw(r, "needs"),
		// Circles, itself and services that there are not, too.
		After: rapid.SliceOfNDistinct(rapid.SampledFrom(append(names, "nobody")), 0, 3, rapid.ID).Draw(r, "after"),
		State: rapid.SampledFrom([]supervisor.ContainerState{
			supervisor.Missing, supervisor.Created, supervisor.Running, supervisor.Restarting, supervisor.Exited, supervisor.Paused, supervisor.Dead,
		}).Draw(r, "state"),
		Ready: fact().Draw(r, "ready"), Stopped: fact().Draw(r, "stopped"), Asking: rapid.Bool().Draw(r, "asking"),
		StartedAt: now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(r, "age")) * time.Second),
	}
	if rapid.Bool().Draw(r, "dirs") {
		v.Dirs = []supervisor.Dir{{Path: "/srv", UID: 1, Mounted: fact().Draw(r, "mounted"), Writable: fact().Draw(r, "writable")}}
	}
	return v
}

func anyObservation(r *rapid.T, now time.Time) supervisor.Observation {
	o := supervisor.Observation{
		Now: now, Boot: supervisor.Boot{ID: rapid.SampledFrom([]mooring.BootID{"one", "one", "one", "one", "one", "two"}).Draw(r, "boot"), Clean: fact().Draw(r, "clean")},
		Docker: anyReach().Draw(r, "docker"), Plugin: anyReach().Draw(r, "plugin"), Project: anyReach().Draw(r, "project"),
		Heal: rapid.IntRange(0, 20).Draw(r, "heal") == 0, Up: rapid.IntRange(0, 40).Draw(r, "up") == 0,
	}
	for _, name := range []mooring.Name{"v1", "v2", "v3"} {
		state := rapid.SampledFrom([]supervisor.VolumeState{
			supervisor.VolumeMounted, supervisor.VolumeMounted, supervisor.VolumePresent, supervisor.VolumeAbsent, supervisor.VolumeFetching,
			supervisor.VolumeFenced, supervisor.VolumeTaken, supervisor.VolumeDamaged,
		}).Draw(r, "volume")
		o.Volumes = append(o.Volumes, supervisor.Volume{Name: name, State: state})
	}
	for i := range rapid.IntRange(0, 5).Draw(r, "services") {
		o.Services = append(o.Services, anyService(r, i, now))
	}
	anyImages(r, &o, now)
	if rapid.Bool().Draw(r, "asked") {
		o.Doors = supervisor.Answer{At: now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(r, "ago")) * time.Second), Right: rapid.Bool().Draw(r, "right")}
	}
	return o
}

// anyImages adds a registry's storage, mostly, and what is known of its images.
func anyImages(r *rapid.T, o *supervisor.Observation, now time.Time) {
	ago := func(what string) time.Time {
		return now.Add(-time.Duration(rapid.IntRange(0, 90).Draw(r, what)) * time.Second)
	}
	if len(o.Services) > 0 && rapid.IntRange(0, 9).Draw(r, "registry") > 0 {
		o.Storage = supervisor.Storage{
			Service: o.Services[0].Name, Dir: rapid.SampledFrom([]string{"", "data"}).Draw(r, "dir"),
			Tags: rapid.SampledFrom([]supervisor.ServiceName{"", "c", "nobody"}).Draw(r, "tags"),
		}
		if needs := o.Services[0].Needs; len(needs) > 0 {
			o.Storage.Volume = needs[0]
		}
	}
	if rapid.IntRange(0, 3).Draw(r, "verdict") == 0 {
		o.Images.Verdict = supervisor.Verdict{At: ago("ended"), Images: 5, Tags: fact().Draw(r, "tags proved"), TagsErr: "no"}
	}
	if rapid.IntRange(0, 3).Draw(r, "damage") == 0 {
		o.Images.Damage = supervisor.Damage{At: ago("found"), Images: rapid.IntRange(0, 3).Draw(r, "damaged"), Worst: []string{"a:1: gone"}}
	}
	if rapid.IntRange(0, 3).Draw(r, "rehashed") == 0 {
		o.Images.Rehashed = ago("rehashed")
	}
}

// anyOutcomes ends some of the actions that were asked for, and leaves others under way.
func anyOutcomes(r *rapid.T, o *supervisor.Observation, actions []supervisor.Action) {
	for _, a := range actions {
		if a.Verb == supervisor.LetGo {
			continue // it has no outcome
		}
		switch rapid.IntRange(0, 4).Draw(r, "outcome") {
		case 0, 1:
			o.Underway = append(o.Underway, a)
		case 2:
			o.Ended = append(o.Ended, supervisor.Outcome{Action: a, Began: o.Now, At: o.Now})
		case 3:
			o.Ended = append(o.Ended, supervisor.Outcome{Action: a, Began: o.Now, At: o.Now, Err: "it failed"})
		default: // the supervisor was killed
		}
	}
}

// G22, G23, G24: Whatever is seen, in whatever order: a service whose disk is fenced is not started, nor one that a person stopped; the door is not opened before the stack behind it has been
// waited for, nor before the images are proved as far as they can be within their limit; no storage is read that is not mounted, and no manifest is kept that was not compared; and in every boot
// the recovery settles or fails within its limits.
func TestWhateverIsSeen(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var rec supervisor.Recovery
		var actions []supervisor.Action
		l := limits()
		now := time.Date(2030, 1, 2, 3, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(r, "seconds")) * time.Second)
			o := anyObservation(r, now)
			anyOutcomes(r, &o, actions)
			before := rec
			rec, actions = supervisor.Step(rec, o, l)
			for _, a := range actions {
				checkAction(r, before, rec, o, a)
			}
			checkPhase(r, rec, l, now)
			repeats(r, before, o)
		}
	})
}

// checkAction checks what is asked for against what was seen.
func checkAction(r *rapid.T, before, rec supervisor.Recovery, o supervisor.Observation, a supervisor.Action) {
	if a.Service == "" {
		checkOther(r, rec, o, a)
		return
	}
	if !o.Docker.OK() {
		r.Fatalf("%s %s though Docker does not answer", a.Verb, a.Service)
	}
	if slices.ContainsFunc(o.Underway, func(u supervisor.Action) bool { return u.Service == a.Service }) {
		r.Fatalf("%s %s while something is being done to it", a.Verb, a.Service)
	}
	v := o.Services[slices.IndexFunc(o.Services, func(v supervisor.Service) bool { return v.Name == a.Service })]
	if a.Verb == supervisor.Flush || a.Verb == supervisor.Reload {
		return
	}
	for _, name := range v.Needs {
		vol := o.Volumes[slices.IndexFunc(o.Volumes, func(v supervisor.Volume) bool { return v.Name == name })]
		fit := vol.State == supervisor.VolumeMounted || vol.State == supervisor.VolumePresent || vol.State == supervisor.VolumeAbsent
		asked := (vol.State == supervisor.VolumeTaken || vol.State == supervisor.VolumeDamaged) && forced(rec, a.Service)
		if !o.Plugin.OK() || !fit && !asked {
			r.Fatalf("%s %s although its volume %s is %s (plugin %+v)", a.Verb, a.Service, name, vol.State, o.Plugin)
		}
	}
	for _, d := range v.Dirs {
		if d.Mounted == mooring.No || d.Writable == mooring.No {
			r.Fatalf("%s %s although its directory is not in order: %+v", a.Verb, a.Service, d)
		}
	}
	remembered := slices.ContainsFunc(before.Services, func(t supervisor.Track) bool { return t.Name == v.Name && t.Stopped })
	wanted := o.Up || slices.ContainsFunc(before.Services, func(t supervisor.Track) bool { return t.Name == v.Name && t.Wanted })
	stopped := v.State == supervisor.Paused || v.Stopped == mooring.Yes || v.Stopped == mooring.Unknown && remembered
	if a.Verb == supervisor.Start && stopped && !wanted {
		r.Fatalf("start %s, which a person stopped: %+v", a.Service, v)
	}
	if v.Entry && (rec.Phase == supervisor.Fencing || rec.Phase == supervisor.Attaching || rec.Phase == supervisor.Starting) {
		r.Fatalf("%s the door while %s", a.Verb, rec.Phase)
	}
	if p := rec.Images; v.Entry && a.Verb == supervisor.Start && readable(rec, o) && p.Verdict.At.IsZero() && !p.Late && !p.GaveUp {
		r.Fatalf("the door is opened before there is an answer: %+v", p)
	}
}

// checkOther checks what is done to no service.
func checkOther(r *rapid.T, rec supervisor.Recovery, o supervisor.Observation, a supervisor.Action) {
	under := func(verbs ...supervisor.Verb) bool {
		return slices.ContainsFunc(o.Underway, func(u supervisor.Action) bool { return slices.Contains(verbs, u.Verb) })
	}
	switch a.Verb {
	case supervisor.Ask, supervisor.Notify:
	case supervisor.LetGo:
		if !under(supervisor.Verify, supervisor.Keep, supervisor.Rehash) {
			r.Fatal("nothing is there to be let go")
		}
	case supervisor.Verify:
		if !readable(rec, o) || under(supervisor.Verify, supervisor.Keep, supervisor.Rehash) {
			r.Fatalf("verify %+v with %v under way", o.Storage, o.Underway)
		}
	case supervisor.Keep, supervisor.Rehash:
		if !readable(rec, o) || under(supervisor.Verify, a.Verb) || rec.Phase != supervisor.Settled || !rec.Images.Verdict.At.After(rec.Began) {
			r.Fatalf("%s %+v while %s, with %v under way and the verdict of %s", a.Verb, o.Storage, rec.Phase, o.Underway, rec.Images.Verdict.At)
		}
	default:
		r.Fatalf("%s of no service", a.Verb)
	}
}

// readable says whether the registry's storage is mounted, and nobody has stopped the registry.
func readable(rec supervisor.Recovery, o supervisor.Observation) bool {
	at := o.Storage
	i := slices.IndexFunc(o.Services, func(v supervisor.Service) bool { return v.Name == at.Service })
	if !o.Docker.OK() || i < 0 || at.Dir == "" || slices.ContainsFunc(rec.Services, func(t supervisor.Track) bool { return t.Name == at.Service && t.Stopped }) {
		return false
	}
	if at.Volume == "" {
		return !slices.ContainsFunc(o.Services[i].Dirs, func(d supervisor.Dir) bool { return d.Mounted == mooring.No })
	}
	return o.Plugin.OK() && slices.ContainsFunc(o.Volumes, func(v supervisor.Volume) bool { return v.Name == at.Volume && v.State == supervisor.VolumeMounted })
}

// forced says whether a person asked for the service to be tried whatever its volume looks like.
func forced(rec supervisor.Recovery, name supervisor.ServiceName) bool {
	return slices.ContainsFunc(rec.Services, func(t supervisor.Track) bool { return t.Name == name && t.Forced })
}

func checkPhase(r *rapid.T, rec supervisor.Recovery, l supervisor.Limits, now time.Time) {
	if rec.Phase == supervisor.Settled || rec.Phase == supervisor.Failed {
		return
	}
	if whole := l.Fencing + l.Attaching + l.Starting + l.Images + l.Verifying; now.Sub(rec.Began) > whole+4*90*time.Second {
		r.Fatalf("still %s %s after it began", rec.Phase, now.Sub(rec.Began))
	}
	if len(rec.Waits) == 0 {
		r.Fatalf("%s waits for nothing", rec.Phase)
	}
}

// repeats checks that a step changes nothing of what it was given: the same step is the same the second time.
func repeats(r *rapid.T, before supervisor.Recovery, o supervisor.Observation) {
	first, actions := supervisor.Step(before, o, limits())
	second, again := supervisor.Step(before, o, limits())
	if text(r, first) != text(r, second) || !slices.Equal(actions, again) {
		r.Fatal("the same step is another one the second time")
	}
}

func text(r *rapid.T, rec supervisor.Recovery) string {
	b, err := json.Marshal(rec)
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}
