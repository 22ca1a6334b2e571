//go:build machines

package failover_test

import (
	"strings"
)

// packageCases are about the package on a machine that uses it.
func packageCases() []scenario {
	return []scenario{
		{
			name: "package-upgraded-and-downgraded", what: "up and down again between two versions while volumes are in use: no unmount, the same boot of every container",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				mounts := s.mounts()
				for _, deb := range []string{buildOnce().newer, buildOnce().deb} {
					s.copyPackage(one, deb)
					s.sh(one, "dpkg -i /tmp/mooring.deb 2>&1")
					if got := s.mounts(); got != mounts {
						s.t.Errorf("mounts: got\n%s\nwant\n%s", got, mounts)
					}
					s.goOn()
				}
				if got := s.sh(one, "tail -1 /etc/mooring/mooring.yaml"); got != "log_level: debug" {
					s.t.Errorf("the configuration ends with %q: it was to be kept", got)
				}
			},
			expect: func(s *scene) {
				s.sameBoot(one)
				if got := s.sh(one, "mooring version"); !strings.Contains(got, "suite1") {
					s.t.Errorf("version: got %s, want the older one", got)
				}
				for _, v := range s.volumes {
					if n := len(s.witness.Heard(v.name).Ups); n != 1 {
						s.t.Errorf("the writer of %s was started %d times, want once", v.name, n)
					}
				}
			},
		},
		{
			name: "package-removed", what: "a removal is refused while volumes are held; the purge lists the disks, touches none, and a new install finds them again",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.refused(one, "dpkg -r mooring", s.volumes[0].name, "in use", "hint")
				s.goOn()
				s.sh(one, "cp -a /etc/mooring /root/etc-mooring; docker stop "+s.volumes[0].box+" "+s.volumes[1].box)
				for _, v := range s.volumes {
					v.down = true
				}
				s.sh(one, "dpkg -r mooring 2>&1")
				said := s.sh(one, "dpkg -P mooring 2>&1")
				for _, v := range s.volumes {
					if !strings.Contains(said, v.name+".vmdk") {
						s.t.Errorf("the purge does not name the disk of %s:\n%s", v.name, said)
					}
					s.extent(s.t, v.name)
				}
				if !strings.Contains(said, "by hand") {
					s.t.Errorf("the purge does not say how to mount them by hand:\n%s", said)
				}
				if got := s.sh(one, "ls -d /etc/mooring /var/lib/mooring 2>/dev/null || true; command -v mooring || true"); got != "" {
					s.t.Errorf("left by the purge: %s", got)
				}
				if got := s.attached(one); len(got) != 0 {
					s.t.Errorf("attached after the purge: %q", got)
				}
			},
			expect: func(s *scene) {
				s.copyPackage(one, buildOnce().deb)
				s.sh(one, "dpkg -i /tmp/mooring.deb 2>&1; cp -a /root/etc-mooring/. /etc/mooring; rm -r /root/etc-mooring; systemctl restart mooring-plugin docker")
				s.dockerUp(one)
				for _, v := range s.volumes {
					s.sh(one, "until docker volume inspect "+v.name+" >/dev/null 2>&1; do sleep 0.5; done; docker start "+v.box)
					v.down = false
					// The ledger is new and dockerd has its own record: whether labels are kept is dockerd's business, and they are.
				}
				s.goOn()
			},
		},
	}
}
