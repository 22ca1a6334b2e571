//go:build machines

package failover_test

import (
	"slices"
	"strings"

	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/internal/admin"
)

// stackToolCases are those in which what the supervisor works with is not there.
func stackToolCases() []scenario {
	return []scenario{
		{
			name: "stack-compose-missing", kind: harbor,
			what:  "compose is not there: the stack comes back all the same, and the condition says how to install it",
			setup: func(s *scene) { s.pushSome() },
			fault: func(s *scene) {
				s.sh(one, "for f in "+composeFiles+"; do [ ! -e $f ] || mv $f $f.away; done; sync")
				s.killHost(one)
			},
			expect: func(s *scene) {
				s.comesBackUnread("docker-compose", "apt-get install")
				s.sh(one, "for f in "+composeFiles+"; do [ ! -e $f.away ] || mv $f.away $f; done")
				s.stackIs("the project is read again", func(v stackView) bool { return v.well() && len(v.stack.Conditions) == 0 })
			},
		},
		{
			name: "stack-file-unreadable", kind: harbor,
			what:  "the stack's file is empty after the crash: the stack comes back all the same, and the condition says where the file can be had",
			setup: func(s *scene) { s.pushSome() },
			fault: func(s *scene) {
				s.sh(one, "cp "+composeFile+" /root && : >"+composeFile+" && sync")
				s.killHost(one)
			},
			expect: func(s *scene) {
				s.comesBackUnread(composeFile, "prepare")
				s.sh(one, "cp /root/docker-compose.yml "+composeFile)
				s.stackIs("the project is read again", func(v stackView) bool { return v.well() && len(v.stack.Conditions) == 0 })
			},
		},
	}
}

const (
	composeFile = stackDir + "/docker-compose.yml"
	// composeFiles are where Debian has compose.
	composeFiles = "/usr/libexec/docker/cli-plugins/docker-compose /usr/lib/docker/cli-plugins/docker-compose /usr/bin/docker-compose"
)

// comesBackUnread waits until the stack is back though its project cannot be read, which is said with these words.
func (s *scene) comesBackUnread(words ...string) {
	s.t.Helper()
	s.comesBack()
	s.evidence()
	want := failedOver()
	want.Damaged, want.Orderless, want.Wrong = true, true, map[string][]string{"project": words}
	s.judgeStack(want)
}

// stackDiskCases are those in which a volume of the stack cannot be had. They come last, for they need machines of another kind or spend what they have.
func stackDiskCases() []scenario {
	return []scenario{
		{
			name: "stack-database-damaged", kind: harbor,
			what:   "the database's filesystem is damaged: all else comes up, the condition says what to do, and when that is done the rest comes up, too",
			setup:  func(s *scene) { s.pushSome() },
			fault:  func(s *scene) { s.killHost(one); s.damage(&vol{name: databaseVolume}) },
			expect: func(s *scene) { s.databaseDamaged() },
		},
		{
			name: "stack-disk-taken", kind: harborTwo,
			what:   "another machine has taken the volume of the job logs meanwhile: that service alone stays down, the condition says who has it, and it comes up when it is given back",
			setup:  func(s *scene) { s.pushSome() },
			fault:  func(s *scene) { s.jobLogsTaken() },
			expect: func(s *scene) { s.jobLogsMissed() },
		},
	}
}

// databaseDamaged looks that all is up that needs no database, does what the condition says, and looks that all is up.
func (s *scene) databaseDamaged() {
	s.t.Helper()
	s.comesBack(databaseVolume)
	s.evidence()
	s.kernel = true
	want := failedOver()
	want.Damaged, want.Down, want.Idle = true, []string{"postgresql", "jobservice", failover.Entry}, []string{"core"}
	want.Wrong = map[string][]string{
		"service-blocked": {databaseVolume, "e2fsck -f /dev/", "core", "jobservice", "proxy"},
		"images-tags":     {"postgresql"}, // nobody can tell what it knows
	}
	s.judgeStack(want)
	v, err := s.askSupervisor(s.ctx, one)
	s.must(err)
	i := slices.IndexFunc(v.stack.Conditions, func(c admin.Condition) bool { return c.Code == "service-blocked" })
	_, rest, found := strings.Cut(v.stack.Conditions[max(i, 0)].Cure, "e2fsck -f ")
	if !found {
		s.t.Fatalf("no cure names a device: %+v", v.stack.Conditions)
	}
	s.sh(one, "e2fsck -f -y "+strings.Trim(strings.Fields(rest)[0], ";,.")+" >/dev/null || test $? -le 2")
	s.sh(one, "mooring stack heal >/dev/null 2>&1")
	s.stackIs("the stack is well", stackView.well)
	want = failedOver()
	want.Damaged = true // the report stays as it was
	s.judgeStack(want)
}

// jobLogsTaken lets the machine die and stay off, and the other one take a volume over before it is started again.
func (s *scene) jobLogsTaken() {
	s.t.Helper()
	logs := &vol{name: jobLogsVolume}
	s.override(one, true)
	host := s.killHost(one)
	s.await(soon, "the host is not responding", func() bool { return s.state(host) == "notResponding" })
	s.must(s.StartHost(host))
	s.await(soon, "the host is back, and the machine off", func() bool { return s.state(host) == "connected" && !s.on(one) })
	s.known(two, logs)
	s.sh(two, release(logs))
	s.sh(two, "docker run -d --name taker --network none -v "+jobLogsVolume+":/data "+writerImage+" hold >/dev/null")
	s.override(one, false)
	s.must(s.PowerOn(one))
}

// jobLogsMissed looks that one service is down and says why; then the volume is given back.
func (s *scene) jobLogsMissed() {
	s.t.Helper()
	s.comesBack(jobLogsVolume)
	want := failover.Wanted{Origin: "failover", Told: 1, Damaged: true, Down: []string{"jobservice"}}
	want.Wrong = map[string][]string{"service-blocked": {jobLogsVolume, two}}
	s.judgeStack(want)
	s.sh(two, "docker rm -f taker >/dev/null")
	s.detached(&vol{name: jobLogsVolume})
	s.sh(one, "mooring stack heal >/dev/null 2>&1")
	s.stackIs("the stack is well", stackView.well)
	want.Down, want.Wrong = nil, nil
	s.judgeStack(want)
}
