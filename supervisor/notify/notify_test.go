package notify_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/notify"
)

var _ supervisor.Notifier = new(notify.Everybody)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, "2030-01-02T"+text+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

// recovered returns the report on a failover after which all is well.
func recovered() admin.Recovery {
	return admin.Recovery{
		ID: "20300102T030200Z", Origin: "failover", Phase: "settled", Died: at("03:01:00"), Booted: at("03:01:45"), Began: at("03:02:00"), Ended: at("03:02:06"),
		Timeline: []admin.Passage{{Phase: "settled", From: at("03:02:06")}},
		Services: []admin.Service{{Name: "core", State: "running", Ready: true}, {Name: "proxy", State: "running", Ready: true}},
	}
}

// images returns what was proved of images, of which so many are lost, each with two findings.
func images(lost int) *admin.Images {
	i := &admin.Images{State: admin.ImagesDamaged, Verified: at("03:02:05"), Images: 120, Proved: 120 - lost, Damaged: lost}
	for n := range lost {
		f := admin.Finding{Repository: "library/a", Tag: strconv.Itoa(n), Text: "a layer is empty"}
		i.Findings = append(i.Findings, f, f)
	}
	return i
}

// fake is somebody who is told, or cannot be.
type fake struct {
	name string
	err  error
	got  []notify.Message
}

func (f *fake) Send(_ context.Context, m notify.Message) error {
	if f.err == nil {
		f.got = append(f.got, m)
	}
	return f.err
}

func (f *fake) Name() string { return f.name }
func (f *fake) Check() error { return nil }

// The supervisor calls again when somebody could not be told. Who was told is not told the same again, and is told what is new.
func TestNobodyIsToldTheSameTwice(t *testing.T) {
	one, two := &fake{name: "one"}, &fake{name: "two", err: mooring.ErrUnavailable}
	all := &notify.Everybody{Machine: "docker1", Targets: []notify.Target{one, two}}
	rep := recovered()
	for range 3 {
		err := all.Notify(t.Context(), rep)
		if !errors.Is(err, mooring.ErrUnavailable) || err.Error() != "tell two: unavailable" {
			t.Fatalf("got %v, want that two cannot be told", err)
		}
	}
	two.err = nil
	if err := all.Notify(t.Context(), rep); err != nil || len(one.got) != 1 || len(two.got) != 1 {
		t.Errorf("got %v, told %d and %d times, want once each", err, len(one.got), len(two.got))
	}
	if err := all.Notify(t.Context(), rep); err != nil || len(one.got) != 2 { // a new message, as after a person's heal
		t.Errorf("got %v, told %d times, want twice", err, len(one.got))
	}
	two.err = errors.New("down")
	rep.Phase = "failed"
	_ = all.Notify(t.Context(), rep)
	rep.Phase = "settled"
	_ = all.Notify(t.Context(), rep)
	if len(one.got) != 4 || !strings.Contains(one.got[2].Subject, "NOT back") || strings.Contains(one.got[3].Subject, "NOT") {
		t.Errorf("told %+v, want what is new", one.got)
	}
	if m := one.got[0]; m.Machine != "docker1" || m.Report.ID != rep.ID || !strings.HasPrefix(m.Text, m.Subject+"\n\nRecovery 20300102T030200Z: ") {
		t.Errorf("message: got %+v", m)
	}
}

// A person who reads nothing but the subject knows what died when, what is back when, and what is not.
func TestSubjectSaysItAll(t *testing.T) {
	soon := at("03:03:00")
	many := func(rep *admin.Recovery) {
		for i := range 9 {
			rep.Services = append(rep.Services, admin.Service{Name: fmt.Sprintf("s%d", i)})
		}
	}
	for name, c := range map[string]struct {
		change func(*admin.Recovery)
		now    time.Time
		want   string
	}{
		"all well": {nil, soon, "docker1: the stack is back after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06)"},
		"over midnight": {
			func(r *admin.Recovery) { r.Died = at("03:01:00").AddDate(0, 0, -1) }, soon,
			"docker1: the stack is back after 24h1m6s (the machine ended at 2030-01-01 03:01:00 UTC, back at 2030-01-02 03:02:06)",
		},
		"no record of the end": {
			func(r *admin.Recovery) { r.Died = time.Time{} }, soon,
			"docker1: the stack is back after 6s (the recovery began at 2030-01-02 03:02:00 UTC, back at 03:02:06)",
		},
		"a part": {
			func(r *admin.Recovery) {
				r.Damaged, r.Services[0].Ready = true, false
				r.Services = append(r.Services, admin.Service{Name: "stopped", Stopped: true})
			}, soon,
			"docker1: the stack is back IN PART after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); not up: core",
		},
		"many": {
			func(r *admin.Recovery) { r.Damaged = true; many(r) }, soon,
			"docker1: the stack is back IN PART after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); not up: s0, s1, s2, s3, s4, s5, and 3 more",
		},
		"failed": {
			func(r *admin.Recovery) {
				r.Phase, r.Damaged = "failed", true
				r.Conditions = []admin.Condition{{Severity: admin.Warning, Title: "no"}, {Severity: admin.Failing, Title: "the stack does not answer right"}}
			}, soon,
			"docker1: the stack is NOT back, the machine ended at 2030-01-02 03:01:00 UTC; the stack does not answer right",
		},
		"later": {
			func(r *admin.Recovery) { r.Services[1].Ready = false }, at("13:00:00"),
			"docker1: the stack does not stay up; not up: proxy",
		},
		"images proved": {
			func(r *admin.Recovery) { r.Images = images(0) }, soon,
			"docker1: the stack is back after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); 120 of 120 images proved",
		},
		"images lost": {
			func(r *admin.Recovery) { r.Damaged, r.Images = true, images(5) }, soon,
			"docker1: the stack is back WITH DAMAGE after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); " +
				"115 of 120 images proved, 5 lost or damaged: library/a:0, library/a:1, library/a:2 and more",
		},
		"images lost and a service down": {
			func(r *admin.Recovery) { r.Damaged, r.Images, r.Services[0].Ready = true, images(1), false }, soon,
			"docker1: the stack is back IN PART after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); not up: core; " +
				"119 of 120 images proved, 1 lost or damaged: library/a:0",
		},
		"images not proved": {
			func(r *admin.Recovery) { r.Images = &admin.Images{State: admin.ImagesUnproved} }, soon,
			"docker1: the stack is back after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); images not proved",
		},
		"images lost later": {func(r *admin.Recovery) { r.Images = images(1) }, at("13:00:00"), "docker1: the stack runs; 119 of 120 images proved, 1 lost or damaged: library/a:0"},
		"well later":        {nil, at("13:00:00"), "docker1: the stack is well"},
		"names that would break a header": {
			func(r *admin.Recovery) { r.Damaged, r.Services[0] = true, admin.Service{Name: "a\r\nBcc: x"} }, soon,
			"docker1: the stack is back IN PART after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06); not up: a  Bcc: x",
		},
	} {
		rep := recovered()
		if c.change != nil {
			c.change(&rep)
		}
		if got := notify.Subject("docker1", rep, c.now); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, c.want)
		}
	}
	rep := recovered()
	rep.Damaged, rep.Services[0] = true, admin.Service{Name: strings.Repeat("é", 1000)}
	if got := []rune(notify.Subject("docker1", rep, soon)); len(got) != 250 || got[249] != '…' {
		t.Errorf("got %d characters, want 250 with an end that shows", len(got))
	}
}
