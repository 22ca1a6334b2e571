//go:build machines

package failover_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stackServiceCases are those in which a service of the stack has its own trouble.
func stackServiceCases() []scenario {
	return []scenario{
		{
			name: "stack-log-late", kind: harbor,
			what:  "the log service cannot start, so that no service starts that logs there; a minute later it can, and all of them come up",
			setup: func(s *scene) { s.pushSome() },
			fault: func(s *scene) {
				s.sh(one, "mv "+logConfig+" "+logConfig+".away && sync")
				s.killHost(one)
			},
			expect: func(s *scene) { s.logComesLate() },
		},
		{
			name: "stack-crashes-thrice", kind: harbor,
			what: "a service that Docker restarts and one that only the supervisor does crash three times each, and then run",
			setup: func(s *scene) {
				s.pushSome()
				for _, file := range crashes() {
					s.sh(one, "echo 3 >"+file+" && chown 10000:10000 "+file)
				}
			},
			fault: func(s *scene) { s.killHost(one) },
			expect: func(s *scene) {
				v := s.comesBack()
				if got := s.sh(one, "cat "+strings.Join(crashes(), " ")); got != "0\n0" {
					s.t.Errorf("crashes left: %q, want none: the case has shown nothing", got)
				}
				for _, name := range []string{"core", "jobservice"} {
					say("  %s: %+v", name, v.service(name))
				}
				if got := v.service("jobservice").Tries; got < 4 {
					s.t.Errorf("jobservice was started %d times by the supervisor, want four", got)
				}
				s.evidence()
				s.judgeStack(failedOver())
			},
		},
		{
			name: "stack-long-wal", kind: harbor,
			what:   "PostgreSQL replays a long log, during which its port is open and it refuses everybody: nothing gives up on it",
			setup:  func(s *scene) { s.pushSome(); s.writeWAL() },
			fault:  func(s *scene) { s.killHost(one) },
			expect: func(s *scene) { s.comesBack(); s.replayedWAL(); s.evidence(); s.judgeStack(failedOver()) },
		},
		{
			name: "stack-proxy-stale", kind: harbor,
			what:   "the proxy takes jobservice for core, because addresses changed hands: it is healed by a reload, which breaks no push that is under way",
			setup:  func(s *scene) { s.pushSome() },
			fault:  func(s *scene) {},
			expect: func(s *scene) { s.healsAddresses(); s.keepsPushes() },
		},
	}
}

// logConfig is a file that the log service cannot start without.
const logConfig = stackDir + "/common/config/log/rsyslog_docker.conf"

// crashes are the files that say how often core and jobservice are still to crash.
func crashes() []string {
	return []string{"/data/crashes", "$(mooring volume inspect -o json " + jobLogsVolume + " | grep -o '\"mountpoint\": *\"[^\"]*\"' | cut -d '\"' -f 4)/crashes"}
}

// logComesLate waits until nothing comes up, gives the log service its file back, and waits until everything does.
func (s *scene) logComesLate() {
	s.t.Helper()
	s.rebooted(one)
	s.stackIs("the log service was tried three times, and the registry, too, or not yet", func(v stackView) bool {
		return string(v.report.Boot) == s.boots[one] && v.service("log").Tries >= 3
	})
	said := s.sh(one, "docker inspect -f '{{.State.Status}} {{.State.Error}}' registry redis harbor-core")
	say("  without a log service:\n%s", said)
	if n := strings.Count(said, "failed to initialize logging driver"); n == 0 || strings.Contains(said, "running") {
		s.t.Errorf("without a log service there is, of registry, redis and core:\n%s\nwant none that runs, and Docker's words on the logging driver", said)
	}
	s.sh(one, "mv "+logConfig+".away "+logConfig)
	s.restoredStack()
	s.settled()
	s.evidence()
	s.judgeStack(failedOver())
}

// psql is a command to the stack's database; each argument is a statement.
func psql(statements ...string) string {
	return `docker exec harbor-db psql -U postgres -d registry -v ON_ERROR_STOP=1 -qAt -c "` + strings.Join(statements, `" -c "`) + `"`
}

// writeWAL lets PostgreSQL write much to its log, of which a checkpoint is far away.
func (s *scene) writeWAL() {
	s.t.Helper()
	s.sh(one, psql("ALTER SYSTEM SET checkpoint_timeout = '1d'", "ALTER SYSTEM SET max_wal_size = '1200MB'", "SELECT pg_reload_conf()", "CHECKPOINT"))
	s.sh(one, psql("CREATE TABLE ballast (n int PRIMARY KEY, t text)", "INSERT INTO ballast SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 200000) n",
		"UPDATE ballast SET t = md5(t) WHERE n % 2 = 0"))
	say("  since the last checkpoint: %s bytes of log", s.sh(one, psql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), redo_lsn) FROM pg_control_checkpoint()")))
}

// replayedWAL looks in PostgreSQL's own log for how long the replay took, and that the supervisor waited for it.
func (s *scene) replayedWAL() {
	s.t.Helper()
	line := s.sh(one, "grep -h 'redo done' /var/log/harbor/postgresql.log | tail -n 1")
	_, text, _ := strings.Cut(line, "elapsed: ")
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(text, " s"), 64)
	if err != nil || seconds < 2 {
		s.t.Errorf("PostgreSQL says of its replay: %q (%v), want one of two seconds at least", line, err)
	}
	say("  the replay took %.1f s", seconds)
	if got := s.sh(one, psql("SELECT count(*) FROM ballast")); got != "200000" {
		s.t.Errorf("the replayed table has %s rows, want 200000", got)
	}
	s.sh(one, psql("DROP TABLE ballast", "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()", "CHECKPOINT"))
}

// staleRounds is how often addresses change hands.
const staleRounds = 3

// healsAddresses lets core and jobservice change addresses, again and again, while the supervisor is away; each time it finds wrong answers, and heals them.
func (s *scene) healsAddresses() {
	s.t.Helper()
	for _, p := range s.pushers { // core goes under them
		p.end()
		<-p.done
	}
	started := s.boxes()["proxy"].Started
	for range staleRounds {
		out := s.sh(one, "systemctl stop mooring-supervisor && "+stackDir+"/traps/stale-upstream")
		say("  %s", out)
		s.answersWrong()
		s.sh(one, "systemctl start mooring-supervisor")
		began := time.Now()
		s.stackIs("the stack is well", stackView.well)
		say("  healed after %s", time.Since(began).Round(time.Second))
	}
	if got := s.boxes()["proxy"].Started; !got.Equal(started) {
		s.t.Errorf("the proxy was restarted, at %s: a reload would have been enough", got)
	}
}

// answersWrong says that the doors answer what jobservice answers.
func (s *scene) answersWrong() {
	s.t.Helper()
	s.refused(one, "busybox wget -q -O - http://127.0.0.1/api/v2.0/ping", "401")
}

// keepsPushes begins pushes that take long, gives the proxy a wrong address for core, which its old workers do not have, and waits until the supervisor has
// had it reload once more. The pushes end well.
func (s *scene) keepsPushes() {
	s.t.Helper()
	const rate, seconds = 8 << 10, 240
	uploads := func() (n int) {
		out, _ := s.try(one, "docker exec registry find /storage/docker/registry/v2/repositories/library -path '*"+s.prefix+"*/_uploads/*/data' -size +16k | wc -l")
		_, _ = fmt.Sscan(out, &n)
		return n
	}
	left := uploads() // by pushes that were cut off
	p := s.push("--pushers", "3", "--images", "1", "--layers", "1", "--layer-size", strconv.Itoa(rate*seconds), "--rate", strconv.Itoa(rate))
	s.await(soon, "the uploads are under way", func() bool { return uploads() == left+3 })
	started := s.boxes()["proxy"].Started
	s.sh(one, `other=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' harbor-jobservice)
docker exec -u 0 nginx sh -c "echo $other core >>/etc/hosts" && docker exec nginx nginx -s reload`)
	s.await(soon, "the doors answer wrong", func() bool {
		out, _ := s.try(one, "busybox wget -q -O - http://127.0.0.1/api/v2.0/ping 2>&1 || true")
		return strings.Contains(out, "401")
	})
	s.sh(one, `docker exec -u 0 nginx sh -c "grep -v ' core$' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts"`)
	s.stackIs("the doors answer right", func(v stackView) bool {
		return v.stack.Doors.Right && v.stack.Doors.Asked.After(started) && s.answersRight()
	})
	if n := p.count(); n != 0 {
		s.t.Errorf("%d pushes had ended before the reload: the case has shown nothing", n)
	}
	select {
	case <-p.done:
	case <-time.After(2 * seconds * time.Second):
		s.t.Error("the pushes do not end")
	}
	if len(p.failed) > 0 || p.count() != 3 {
		s.t.Errorf("of three pushes under way %d were acknowledged; failed: %q", p.count(), p.failed)
	}
	if got := s.boxes()["proxy"].Started; !got.Equal(started) {
		s.t.Errorf("the proxy was restarted, at %s: a reload would have been enough", got)
	}
	reloads := s.sh(one, "journalctl -b -o cat -u mooring-supervisor | grep -c 'op=reload' || true")
	say("  %s reloads in this boot", reloads)
	if n, err := strconv.Atoi(reloads); err != nil || n < staleRounds+1 {
		s.t.Errorf("the supervisor's journal has %q reloads, want %d", reloads, staleRounds+1)
	}
	s.sameBoot(one)
	v, err := s.askSupervisor(s.ctx, one)
	s.must(err)
	want := failedOver()
	want.Origin, want.Told, want.Evidence = v.report.Origin, 0, false // of whatever the last recovery was: this was none
	want.Orderless = true
	s.judgeStack(want)
}

// answersRight asks the doors.
func (s *scene) answersRight() bool {
	out, err := s.try(one, "busybox wget -q -O - http://127.0.0.1/api/v2.0/ping")
	return err == nil && out == "Pong"
}
