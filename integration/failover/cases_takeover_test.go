//go:build machines

package failover_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// takeoverCases are those in which two machines want one volume.
func takeoverCases() []scenario {
	return []scenario{
		{
			name: "takeover", ci: true,
			what:   "the volume of a machine that stays off is released and used by another; while the first may still write it is not; and the first can be powered on again",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.takeOver() },
			expect: func(s *scene) { s.bothGoOn() },
		},
		{
			name: "takeover-policy", what: "the same on vSAN with a policy of its own, and without a host's death (the ancestor's FailoverAcrossVmOnVsan)",
			setup: func(s *scene) {
				s.policy(two, "r5")
				v := s.volume(one, "policy", "ext4", "vsan-policy-name=r5")
				s.write(v, "no")
			},
			fault: func(s *scene) {
				v := s.volumes[0]
				s.override(one, true)
				s.must(s.PowerOff(one))
				s.sh(two, release(v))
				s.move(v, two, "no")
				s.override(one, false)
				s.must(s.PowerOn(one))
			},
			expect: func(s *scene) {
				s.rebooted(one)
				if got := s.attached(one); len(got) != 0 {
					s.t.Errorf("%s has %q after its boot, want nothing", one, got)
				}
				s.goOn()
				if got := s.sh(two, "docker volume inspect "+s.volumes[0].name); !strings.Contains(got, "r5") {
					s.t.Errorf("inspect does not name the policy:\n%s", got)
				}
				s.forget(one, s.volumes[0])
			},
		},
		{
			name: "asked-for-and-lingering", ci: true,
			what: "a volume that another machine has is refused by name, and nobody freezes; one that only lingers there is waited for",
			setup: func(s *scene) {
				a, _ := s.pair(one)
				own := s.volume(two, "own", "ext4")
				s.write(own, "no")
				s.known(two, a)
			},
			fault:  func(s *scene) { s.askFor(s.volumes[0], s.volumes[2]) },
			expect: func(s *scene) { s.goOn(); s.sameBoot(one); s.sameBoot(two) },
		},
		{
			name: "consistency", what: "what one machine wrote the other reads, again and again (the ancestor's VolumeAccess)",
			setup: func(s *scene) {
				s.known(two, s.volume(one, "shared", "xfs"), s.volume(one, "other", "ext4"))
			},
			fault: func(s *scene) {
				for round := range 3 {
					for i, vm := range []string{one, two} {
						other := []string{two, one}[i]
						for _, v := range s.volumes {
							text := fmt.Sprintf("round-%d-by-%s", round, vm)
							s.sh(vm, fmt.Sprintf("docker run --rm --network none -v %s:/data %s put /data/note %s", v.name, writerImage, text))
							got := s.sh(other, fmt.Sprintf("docker run --rm --network none -v %s:/data %s get /data/note", v.name, writerImage))
							if got != text {
								s.t.Errorf("%s reads %q, and %s wrote %q", other, got, vm, text)
							}
						}
					}
				}
			},
			expect: func(s *scene) {
				for _, v := range s.volumes {
					s.forget(two, v)
				}
			},
		},
	}
}

// takeOver lets machine one die and stay off, and machine two take the first volume: when it may, and not before.
func (s *scene) takeOver() {
	s.t.Helper()
	v := s.volumes[0]
	s.status(release(v), 12) // it runs
	s.override(one, true)
	host := s.hostOf(one)
	s.must(s.IsolateHost(host))
	s.await(soon, "the host is not responding", func() bool { return s.state(host) == "notResponding" })
	s.status(release(v), 13) // who knows
	s.must(s.StartHost(host))
	s.more(v, 5)
	s.must(s.KillHost(host))
	s.await(soon, "the host is not responding", func() bool { return s.state(host) == "notResponding" })
	s.status(release(v), 13) // who knows
	s.must(s.StartHost(host))
	s.await(soon, "the host is back, and the machine off", func() bool { return s.state(host) == "connected" && !s.on(one) })
	s.sh(two, release(v))
	s.move(v, two, "always")
	s.override(one, false)
	s.must(s.PowerOn(one))
}

// release is the command that takes a volume over from machine one.
func release(v *vol) string { return "mooring volume release --yes " + v.name + " --from " + one }

// status runs a command on machine two that must end with this exit status.
func (s *scene) status(script string, want int) {
	s.t.Helper()
	if got := s.sh(two, "out=$("+script+" 2>&1) && status=0 || status=$?; echo $status \"$out\""); !strings.HasPrefix(got, strconv.Itoa(want)+" ") {
		s.t.Errorf("%s: got status %s, want %d", script, got, want)
	}
}

// bothGoOn looks that machine one is up without the volume that was taken, and says so.
func (s *scene) bothGoOn() {
	s.t.Helper()
	s.rebooted(one)
	s.goOn()
	taken := s.volumes[0]
	status, _ := s.try(one, "mooring status 2>&1") // its exit code says that something is wrong
	if !strings.Contains(status, taken.name) {
		s.t.Errorf("mooring status of %s does not name %s, which %s has:\n%s", one, taken.name, two, status)
	}
	s.forget(one, taken)
}

// forget takes what a machine's dockerd still has of a volume that is another's now: the container, which cannot start there.
func (s *scene) forget(vm string, v *vol) {
	s.t.Helper()
	s.sh(vm, "docker ps -aq --filter volume="+v.name+" | xargs -r docker rm -f >/dev/null")
}

func (s *scene) state(host string) string {
	for _, h := range s.Hosts() {
		if h.Name == host {
			return h.State
		}
	}
	return ""
}

// askFor lets machine two ask for a volume that machine one uses, stops using, and leaves lingering.
func (s *scene) askFor(wanted, own *vol) {
	s.t.Helper()
	began := time.Now()
	get := "docker run --rm --network none -v " + wanted.name + ":/data " + writerImage + " ls /data"
	s.refused(two, get, one)
	if took := time.Since(began); took > 60*time.Second {
		s.t.Errorf("the refusal took %s", took)
	}
	s.evenly(own, began)
	s.stop(wanted)
	s.sh(two, get) // machine one still lingers on the disk
	if got := s.attached(one); len(got) != 1 {
		s.t.Errorf("%s has %q, want the other volume alone", one, got)
	}
	s.await(soon, wanted.name+" is free", func() bool { return len(s.attached(two)) == 1 })
	s.sh(one, "docker start "+wanted.box+" >/dev/null")
	wanted.down = false
	s.more(wanted, 3)
}

// evenly fails if the writer paused for long since then: a machine that is given a disk which another has freezes, on a real vSphere for a minute.
func (s *scene) evenly(v *vol, since time.Time) {
	s.t.Helper()
	s.more(v, 3)
	const most = 10 * time.Second
	last, longest := since, time.Duration(0)
	for _, a := range s.witness.Heard(v.name).Acks {
		if a.At.Before(since) {
			continue
		}
		longest, last = max(longest, a.At.Sub(last)), a.At
	}
	s.t.Logf("%s stood still for %s at most", v.name, longest.Round(time.Millisecond))
	if longest > most {
		s.t.Errorf("%s stood still for %s, want at most %s", v.name, longest, most)
	}
}

// policy makes a storage policy, as the administrator does.
func (s *scene) policy(vm, name string) {
	s.t.Helper()
	a := s.Admin()
	s.sh(vm, fmt.Sprintf(`setting() { awk -F'"' -v key="  $1: " '$1==key {print $2}' /etc/mooring/mooring.yaml; }
export GOVC_URL=$(setting url) GOVC_TLS_CA_CERTS=$(setting ca_file) GOVC_USERNAME='%s' GOVC_PASSWORD='%s'
mooring policy create --name %s --content '(("stripeWidth" i2))'`, a.User, a.Password, name))
}
