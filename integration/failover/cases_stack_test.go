//go:build machines

package failover_test

import (
	"strings"

	"github.com/mooring-sh/mooring/integration/failover"
)

// stackCases are those of a stack built like Harbor's, which the supervisor looks after. Those of one kind of machines follow each other on one stack.
func stackCases() []scenario {
	var all []scenario
	for _, part := range [][]scenario{stackRestartCases(), stackServiceCases(), stackToolCases(), stackDiskCases(), stackOldCases()} {
		all = append(all, part...)
	}
	return all
}

// failedOver is what every failover with nothing else wrong is to come to.
func failedOver() failover.Wanted {
	return failover.Wanted{Origin: "failover", Told: 1, Evidence: true}
}

// stackRestartCases are those in which the machine stops, and nothing of the stack has to be mended.
func stackRestartCases() []scenario {
	return []scenario{
		{
			name: "stack-host-killed", kind: harbor,
			what:   "the host is killed under pushes: the stack comes back in order and answers, and every push that was acknowledged is pulled",
			setup:  func(s *scene) { s.pushSome() },
			fault:  func(s *scene) { s.killHost(one) },
			expect: func(s *scene) { s.comesBack(); s.evidence(); s.judgeStack(failedOver()) },
		},
		{
			name: "stack-vcenter-down", kind: harbor,
			what:  "the same while vCenter is down throughout: nothing waits for it, and what it saw is added to the report when it is back",
			setup: func(s *scene) { s.pushSome() },
			fault: func(s *scene) { s.must(s.StopServing()); s.killHost(one) },
			expect: func(s *scene) {
				s.comesBack()
				want := failedOver()
				want.Evidence = false
				s.judgeStack(want)
				s.must(s.StartServing())
				s.evidence()
			},
		},
		{
			name: "stack-rebooted", kind: harbor,
			what:  "a reboot in order is no failover: the stack is back, and nobody is told",
			setup: func(s *scene) { s.pushSome() },
			fault: func(s *scene) { s.must(s.VM(one).Reboot(s.ctx)) },
			expect: func(s *scene) {
				s.comesBack(registryVolume, databaseVolume, jobLogsVolume) // dockerd let go of them, so that there is nothing to restore: it asks for them again
				s.judgeStack(failover.Wanted{Origin: "reboot"})
			},
		},
		{
			name: "stack-person-stopped", kind: harbor,
			what: "a service that a person has stopped is left alone by a failover, and started when a person says so",
			setup: func(s *scene) {
				s.pushSome()
				s.sh(one, "docker stop registryctl >/dev/null")
				s.stackIs("registryctl is seen to be stopped by a person", func(v stackView) bool { return v.service("registryctl").Stopped })
			},
			fault: func(s *scene) { s.killHost(one) },
			expect: func(s *scene) {
				s.comesBack()
				s.evidence()
				want := failedOver()
				want.Stopped = []string{"registryctl"}
				s.judgeStack(want)
				s.sh(one, "mooring stack up >/dev/null 2>&1")
				s.stackIs("the stack is well", stackView.well)
			},
		},
		{
			name: "stack-supervisor-killed", kind: harbor,
			what:   "the supervisor is killed in each phase of the recovery, and each time the next one goes on: it is one recovery, with one report",
			setup:  func(s *scene) { s.pushSome(); s.killerInEachPhase() },
			fault:  func(s *scene) { s.killHost(one) },
			expect: func(s *scene) { s.survivesKiller() },
		},
	}
}

// stackOldCases are those of Docker 20.10 and docker-compose 1.29; all others are of Docker 26.
func stackOldCases() []scenario {
	return []scenario{{
		name: "stack-older-host-killed", kind: harborOld,
		what:   "Docker 20.10 and docker-compose 1.29: the host is killed under pushes",
		setup:  func(s *scene) { s.is("20.10"); s.pushSome() },
		fault:  func(s *scene) { s.killHost(one) },
		expect: func(s *scene) { s.comesBack(); s.evidence(); s.judgeStack(failedOver()) },
	}}
}

// pushSome lets three pushers push until the machine dies, and waits until they have had some images acknowledged.
func (s *scene) pushSome() {
	s.t.Helper()
	s.pushes(s.push("--pushers", "3"), 6)
}

// comesBack waits until the stack has settled in another boot, and looks that all volumes were restored, once, and that nothing was formatted.
func (s *scene) comesBack(except ...string) stackView {
	s.t.Helper()
	s.rebooted(one)
	s.restoredStack(except...)
	v := s.settled()
	s.unformatted(one)
	return v
}

// evidence waits until the report has what vCenter saw. No decision has waited for it.
func (s *scene) evidence() {
	s.t.Helper()
	s.stackIs("vCenter's word is in the report", func(v stackView) bool { return len(v.report.Evidence) > 0 })
}

// killer kills the supervisor once in each phase, and makes fencing and attaching last until it has: at the start of the first supervisor the plugin is
// frozen, so that nobody can tell whether a disk is fenced, and what has to be mounted on /data is not.
const killer = `#!/bin/sh
boot=$(cat /proc/sys/kernel/random/boot_id)
journal=/var/lib/mooring/supervisor/journal
phase() {
	! grep -q "\"boot\":\"$boot\"" $journal || grep -o '"phase":"[a-z]*"' $journal | head -n 1 | cut -d '"' -f 4
}
for want in fencing attaching starting verifying settled; do
	until [ "$(phase)" = $want ]; do sleep 0.1; done
	pkill -KILL -x mooring-supervi
	echo "$want $(phase)" >>/var/lib/killed
	sync
	case $want in
	fencing) sleep 10; pkill -CONT -x mooring-plugin ;;
	attaching) sleep 10; systemctl start data.mount ;;
	esac
done
`

const freezer = `#!/bin/sh
[ ! -e /run/frozen ] || exit 0
touch /run/frozen
exec pkill -STOP -x mooring-plugin
`

// killerInEachPhase installs what kills the supervisor in the next boot.
func (s *scene) killerInEachPhase() {
	s.t.Helper()
	for name, text := range map[string]string{"killer": killer, "freezer": freezer} {
		s.must(s.VM(one).CopyIn(s.ctx, strings.NewReader(text), "/usr/local/sbin/"+name, 0o755))
	}
	s.sh(one, `cat >/etc/systemd/system/killer.service <<'END'
[Unit]
Before=mooring-supervisor.service
[Service]
ExecStart=/usr/local/sbin/killer
[Install]
WantedBy=multi-user.target
END
mkdir -p /etc/systemd/system/mooring-supervisor.service.d
printf '[Service]\nExecStartPre=+/usr/local/sbin/freezer\n' >/etc/systemd/system/mooring-supervisor.service.d/freezer.conf
rm -f /var/lib/killed
systemctl daemon-reload
systemctl enable killer.service 2>&1
systemctl disable data.mount 2>&1`)
}

// survivesKiller looks that the supervisor was killed in every phase, and that all that came of it is what comes of any failover.
func (s *scene) survivesKiller() {
	s.t.Helper()
	s.rebooted(one)
	s.restoredStack()
	s.await(stackTime, "the supervisor was killed when it had settled", func() bool {
		out, _ := s.try(one, "grep settled /var/lib/killed")
		return out != ""
	})
	if got, want := s.sh(one, "cut -d ' ' -f 1 /var/lib/killed | tr '\\n' ' '"), "fencing attaching starting verifying settled"; got != want {
		s.t.Errorf("the supervisor was killed in %s, want %s", got, want)
	}
	s.await(soon, "systemd has started the supervisor again", func() bool {
		out, _ := s.try(one, "systemctl show -P NRestarts mooring-supervisor")
		return out == "5"
	})
	s.settled()
	s.stackIs("the stack is well", stackView.well)
	s.evidence()
	if got := s.sh(one, "grep -l $(cat /proc/sys/kernel/random/boot_id) /var/lib/mooring/supervisor/recoveries/*.json | wc -l"); got != "1" {
		s.t.Errorf("%s reports on this boot, want one", got)
	}
	want := failedOver()
	want.Twice = true // the one who had told was killed before it had written that down
	s.judgeStack(want)
	s.sh(one, "rm -r /etc/systemd/system/mooring-supervisor.service.d; systemctl disable killer.service 2>&1; systemctl daemon-reload; systemctl enable data.mount 2>&1")
}
