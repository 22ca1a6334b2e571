//go:build machines

package failover_test

// olderCases are those of Docker 20.10 on Debian 12, which forgets more and asks more than later ones.
func olderCases() []scenario {
	return []scenario{
		{
			name: "older-host-killed", kind: bookworm, what: "Docker 20.10: the host is killed",
			setup:  func(s *scene) { s.is("20.10"); s.pair(one) },
			fault:  func(s *scene) { s.killUncleanly(one) },
			expect: func(s *scene) { s.backElsewhere(one) },
		},
		{
			name: "older-killed-often", kind: bookworm, what: "Docker 20.10: the plugin is upgraded under load and killed 30 times, dockerd twice",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.upgradeUnderLoad()
				s.killOften()
				for range 2 {
					s.sh(one, "systemctl kill -s KILL docker")
					s.dockerUp(one)
					s.goOn()
				}
			},
			expect: func(s *scene) { s.sameBoot(one); s.goOn() },
		},
		{
			name: "older-live-restore", kind: bookworm, what: "Docker 20.10: live restore, dockerd and the plugin killed together",
			setup: func(s *scene) { s.liveRestore(true); s.pair(one) },
			fault: func(s *scene) {
				s.sh(one, "systemctl kill -s KILL docker mooring-plugin")
				s.dockerUp(one)
			},
			expect: func(s *scene) { s.goOn(); s.sameBoot(one); s.atEnd(func() { s.liveRestore(false) }) },
		},
	}
}
