//go:build machines

package failover_test

import (
	"fmt"
	"slices"
	"strings"
)

// ancestorCases are the end-to-end cases of vDVS, the volume service before this one, that need machines and are not shown by another case:
// VMListener's FailoverAcrossVm is takeover and takeover-policy, its HostdRestart is vcenter-restarted, its BasicFailover machine-off-and-on, its
// VMSuspend machine-suspended; VMOps' reset is machine-reset; VolumeAccess is consistency.
func ancestorCases() []scenario {
	return []scenario{
		{
			name: "detached-after-dockerd", what: "a container without a restart policy: after a restart of dockerd its disk goes, and the other machine can have it (Restart.TestVolumeDetached)",
			setup: func(s *scene) { s.write(s.volume(one, "pet", "ext4"), "no") },
			fault: func(s *scene) {
				v := s.volumes[0]
				for _, vm := range []string{one, two, one} {
					if v.machine != vm {
						s.forget(v.machine, v)
						s.move(v, vm, "no")
					}
					s.sh(vm, "systemctl restart docker")
					s.dockerUp(vm)
					v.down = true
					s.detached(v)
				}
			},
			expect: func(s *scene) { s.forget(two, s.volumes[0]) },
		},
		{
			name: "plugin-killed-in-use", what: "the plugin is killed while a volume is used; stop, start and stop of the container detach it (Restart.TestPluginKill)",
			setup: func(s *scene) { s.write(s.volume(one, "pet", "ext4"), "always") },
			fault: func(s *scene) {
				v := s.volumes[0]
				s.sh(one, "systemctl kill -s KILL mooring-plugin")
				s.more(v, 5)
				s.stop(v)
				s.sh(one, "docker start "+v.box)
				v.down = false
				s.more(v, 5)
				s.stop(v)
				s.detached(v)
			},
			expect: func(*scene) {},
		},
		{
			name: "mounts-recovered", what: "two containers that always restart, and a third after a restart of dockerd: all stop, the disk goes, the other machine has it (Restart.TestRecoverMountsAfterRestart)",
			setup: func(s *scene) {
				v := s.volume(one, "shared", "ext4")
				s.write(v, "always")
				s.sh(one, fmt.Sprintf("docker run -d --restart always --network none --name second -v %s:/data %s hold", v.name, writerImage))
			},
			fault: func(s *scene) {
				v := s.volumes[0]
				s.sh(one, "systemctl restart docker")
				s.dockerUp(one)
				s.goOn()
				if !slices.Contains(s.attached(one), v.name) {
					s.t.Error("the disk is not attached after a restart of dockerd")
				}
				s.sh(one, fmt.Sprintf("docker run -d --network none --name third -v %s:/data %s hold; docker stop second third; docker rm second third", v.name, writerImage))
				s.stop(v)
				s.detached(v)
				s.forget(one, v)
				s.move(v, two, "no")
			},
			expect: func(s *scene) { s.goOn() },
		},
		{
			name: "long-and-double-names", what: "names of every length and the same name in another case keep their own holders over a restart of dockerd (Restart.TestLongVolumeName, TestDuplicateVolumeName)",
			setup: func(s *scene) {
				for _, short := range []string{"n", "N", strings.Repeat("long-name", 8)} {
					s.write(s.volume(one, short, "ext4"), "always")
				}
			},
			fault: func(s *scene) {
				s.sh(one, "systemctl restart docker")
				s.dockerUp(one)
				s.goOn()
				for _, v := range s.volumes {
					if n := len(s.view(one, v).Holders); n != 1 {
						s.t.Errorf("%s has %d holders, want 1", v.name, n)
					}
				}
			},
			expect: func(*scene) {},
		},
		{
			name: "five-holders", what: "five containers share a volume; dockerd is killed: five hold it again, a removal is refused, and nothing is left in the end (Refcount.TestRefcountingRecovery)",
			setup: func(s *scene) {
				v := s.volume(one, "shared", "ext4")
				s.write(v, "always")
				for i := range 4 {
					s.sh(one, fmt.Sprintf("docker run -d --restart always --network none --name share-%d -v %s:/data %s hold", i, v.name, writerImage))
					s.sh(one, fmt.Sprintf("docker run --rm --network none -v %s:/data %s put /data/by-%d x", v.name, writerImage, i))
				}
			},
			fault: func(s *scene) {
				v := s.volumes[0]
				s.sh(one, "systemctl kill -s KILL docker")
				s.dockerUp(one)
				s.goOn()
				s.await(soon, "five hold the volume", func() bool { return len(s.view(one, v).Holders) == 5 })
				if got := s.sh(one, "docker exec share-0 /writer ls /data"); strings.Count(got, "by-") != 4 {
					s.t.Errorf("a container sees %q, want what all four wrote", got)
				}
				s.refused(one, "docker volume rm "+v.name, "in use")
				s.sh(one, "docker rm -f share-0 share-1 share-2 share-3")
			},
			expect: func(s *scene) {
				s.goOn()
				s.stop(s.volumes[0])
				s.detached(s.volumes[0])
				if got := s.sh(one, "grep -c "+s.volumes[0].name+" /proc/mounts || true"); got != "0" {
					s.t.Errorf("%s mounts are left", got)
				}
			},
		},
	}
}
