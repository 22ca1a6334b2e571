//go:build machines

package failover_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// pluginCases are those in which the plugin or dockerd goes, and the machine does not.
func pluginCases() []scenario {
	return []scenario{
		{
			name: "plugin-upgraded-and-killed", ci: true,
			what:   "under load the plugin is upgraded, and killed 30 times, as fast as systemd starts it: no request fails, nothing is unmounted, the socket stays connectable",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.upgradeUnderLoad(); s.killOften() },
			expect: func(s *scene) { s.sameBoot(one); s.goOn() },
		},
		{
			name: "dockerd-restarted-and-killed", what: "dockerd is restarted, then killed three times: containers run again, with labels and references",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.sh(one, "systemctl restart docker")
				s.goOn()
				for range 3 {
					s.sh(one, "systemctl kill -s KILL docker")
					s.dockerUp(one)
					s.goOn()
				}
			},
			expect: func(s *scene) { s.sameBoot(one) },
		},
		{
			name: "live-restore", what: "with live restore containers outlive dockerd, and the plugin's death in the middle of that",
			setup: func(s *scene) {
				s.liveRestore(true)
				s.pair(one)
			},
			fault: func(s *scene) {
				s.sh(one, "systemctl kill -s KILL docker")
				s.dockerUp(one)
				s.goOn()
				s.sh(one, "systemctl kill -s KILL docker mooring-plugin")
				s.dockerUp(one)
				s.goOn()
				s.sh(one, "systemctl restart docker")
			},
			expect: func(s *scene) {
				s.sameBoot(one)
				s.goOn()
				for _, v := range s.volumes {
					if n := len(s.witness.Heard(v.name).Ups); n != 1 {
						s.t.Errorf("the writer of %s was started %d times, want once: live restore keeps it", v.name, n)
					}
				}
				s.atEnd(func() { s.liveRestore(false) })
			},
		},
	}
}

// load is what somebody asks for all the while: a new volume, a container that writes to it, and its removal. What fails is written down.
const load = `cat >/run/load.sh <<'END'
n=0
while test ! -e /run/load.stop; do
	n=$((n+1))
	mooring-writer must POST '/volumes/create {"Name": "load-'$n'", "Driver": "vmdk", "DriverOpts": {"size": "512mb"}}' GET /volumes/load-$n \
		POST '/containers/create?name=load {"Image": "mooring-writer", "Cmd": ["put", "/data/x", "y"], "HostConfig": {"NetworkMode": "none", "Binds": ["load-'$n':/data"]}}' \
		POST /containers/load/start POST /containers/load/wait DELETE /containers/load GET /volumes DELETE /volumes/load-$n >/run/load.out 2>&1 ||
		{ echo "round $n:"; cat /run/load.out; mooring-writer api DELETE '/containers/load?force=1'; } >>/run/load.failed
	echo $n >/run/load.rounds
done
END
rm -f /run/load.stop /run/load.failed; echo 0 >/run/load.rounds; systemd-run --quiet --unit mooring-load sh /run/load.sh`

// upgradeUnderLoad installs a newer package while volumes are used, made and removed.
func (s *scene) upgradeUnderLoad() {
	s.t.Helper()
	s.sh(one, load)
	mounts := s.mounts()
	s.copyPackage(one, buildOnce().newer)
	began := time.Now()
	s.sh(one, "dpkg --force-unsafe-io -i /tmp/mooring.deb >/dev/null 2>/run/dpkg.err || { cat /run/dpkg.err; exit 1; }")
	if got := s.sh(one, "mooring version"); !strings.Contains(got, "suite2") {
		s.t.Errorf("after the upgrade the version is %s", got)
	}
	if got := s.mounts(); got != mounts {
		s.t.Errorf("the upgrade changed the mounts:\n%s\nthey were\n%s", got, mounts)
	}
	for _, v := range s.volumes {
		s.evenly(v, began)
	}
	s.endLoad()
}

// endLoad stops the load and says what of it failed.
func (s *scene) endLoad() {
	s.t.Helper()
	s.sh(one, "n=$(cat /run/load.rounds); while test $(cat /run/load.rounds) -le $n; do sleep 0.2; done; "+
		"touch /run/load.stop; while systemctl is-active -q mooring-load; do sleep 0.2; done")
	if failed := s.sh(one, "cat /run/load.failed 2>/dev/null || true"); failed != "" {
		s.t.Errorf("requests failed:\n%s", failed)
	}
}

// mounts are the plugin's mounts with their IDs, which a mount made anew changes.
func (s *scene) mounts() string {
	s.t.Helper()
	var lines []string
	for _, v := range s.volumes {
		lines = append(lines, s.sh(one, "grep -F /"+v.name+" /proc/self/mountinfo | cut -d' ' -f1-5"))
	}
	return strings.Join(lines, "\n")
}

// copyPackage puts a package on the machine.
func (s *scene) copyPackage(vm, deb string) {
	s.t.Helper()
	content, err := os.ReadFile(deb)
	s.must(err)
	s.must(s.VM(vm).CopyIn(s.ctx, bytes.NewReader(content), "/tmp/mooring.deb", 0o644))
}

// killOften kills the plugin 30 times, three times a second or as often as an emulated processor can, while somebody knocks at its socket and Docker asks.
func (s *scene) killOften() {
	s.t.Helper()
	mounts := s.mounts()
	out := s.sh(one, writerBinary+` knock /run/docker/plugins/vmdk.sock 120s >/run/knocked 2>&1 & knock=$!
cat >/run/ask.sh <<'END'
while test ! -e /run/ask.stop; do timeout 60 mooring-writer must GET /volumes >/run/ask.out 2>&1 || cat /run/ask.out >>/run/ask.failed; done
END
rm -f /run/ask.stop /run/ask.failed; sh /run/ask.sh & ask=$!
now() { date +%s%N; }
began=$(now); killed=0
while test $killed -lt 30; do
	systemctl kill --kill-whom=all -s KILL mooring-plugin 2>/dev/null || true # between two lives there is nobody to kill
	killed=$((killed+1)); left=$(( began + killed * 330000000 - $(now) ))
	if test $left -gt 0; then sleep $(awk "BEGIN {print $left/1e9}"); fi
done
echo killed $killed times in $(( ($(now) - began) / 1000000000 )) s, started again $(systemctl show -P NRestarts mooring-plugin) times
until systemctl is-active -q mooring-plugin; do sleep 0.1; done
kill $knock; wait $knock || { cat /run/knocked; exit 1; }
touch /run/ask.stop; wait $ask
cat /run/knocked; cat /run/ask.failed 2>/dev/null || true`)
	s.t.Log(out)
	if strings.Contains(strings.ToLower(out), "error") {
		s.t.Errorf("a request failed while the plugin was killed:\n%s", out)
	}
	if got := s.sh(one, "systemctl is-active mooring-plugin.socket mooring-plugin.service || true"); strings.Contains(got, "failed") || strings.Contains(got, "inactive") {
		s.t.Errorf("the units are %q", strings.Fields(got))
	}
	if got := s.mounts(); got != mounts {
		s.t.Errorf("the kills changed the mounts:\n%s\nthey were\n%s", got, mounts)
	}
}

// liveRestore turns it on or off.
func (s *scene) liveRestore(on bool) {
	s.t.Helper()
	s.sh(one, fmt.Sprintf(`f=/etc/docker/daemon.json; test -e $f || echo '{}' >$f
if %t; then
	cp $f $f.before; grep -q '^{}' $f && echo '{"live-restore": true}' >$f || sed -i '0,/{/s//{"live-restore": true,/' $f
else mv $f.before $f; fi
systemctl restart docker`, on))
	s.dockerUp(one)
}

// atEnd lets something be done when the case has been checked.
func (s *scene) atEnd(do func()) { s.after = append(s.after, do) }
