//go:build machines

package failover_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"strings"
	"time"
)

// hostCases are those in which the host under a machine goes.
func hostCases() []scenario {
	return []scenario{
		{
			name: "host-killed", ci: true,
			what:   "HA restarts the machine elsewhere; its containers run again with their data, and both journals are replayed",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.killUncleanly(one) },
			expect: func(s *scene) { s.backElsewhere(one); s.replayed(one); s.wrote(one, "VmRestartedByHA", 1) },
		},
		{
			name: "host-killed-vcenter-down", ci: true,
			what:  "the same while vCenter is down during the whole boot",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) { s.must(s.StopServing()); s.killHost(one) },
			expect: func(s *scene) {
				s.backElsewhere(one)
				s.must(s.StartServing())
				fresh := s.volume(one, "fresh", "ext4") // nothing had to be started again
				s.write(fresh, "no")
			},
		},
		{
			name: "host-killed-vcenter-hangs", what: "the same while vCenter takes connections and answers nothing",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) { s.Hang(); s.killHost(one) },
			expect: func(s *scene) {
				s.backElsewhere(one)
				s.must(s.StopServing())
				s.must(s.StartServing())
				s.volume(one, "fresh", "ext4")
			},
		},
		{
			name: "host-killed-vcenter-slow", what: "the same while every call to vCenter takes two seconds",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.slow(2 * time.Second); s.killHost(one) },
			expect: func(s *scene) { s.backElsewhere(one); s.Clear() },
		},
		{
			name: "host-killed-plugin-killed", what: "the same, and the plugin is killed once during the boot",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.sh(one, `mkdir -p /etc/systemd/system/mooring-plugin.service.d
cat >/etc/systemd/system/mooring-plugin.service.d/victim.conf <<'END'
[Service]
ExecStartPre=+/bin/sh -c 'test -e /run/killed || (touch /run/killed; (sleep 1.5; kill -9 $(systemctl show -P MainPID mooring-plugin)) >/dev/null 2>&1 & )'
END
systemctl daemon-reload; sync`)
				s.killHost(one)
			},
			expect: func(s *scene) {
				s.rebooted(one)
				s.goOn()
				if got := s.sh(one, "systemctl show -P NRestarts mooring-plugin"); got != "1" {
					s.t.Errorf("the plugin was restarted %s times, want once", got)
				}
				s.sh(one, "rm -r /etc/systemd/system/mooring-plugin.service.d && systemctl daemon-reload")
			},
		},
		{
			name: "host-killed-damaged", what: "a filesystem that fsck -p refuses keeps its own volume down and no other",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.killHost(one); s.damage(s.volumes[0]) },
			expect: func(s *scene) { s.damagedAlone(one) },
		},
		{
			name: "host-killed-twice", what: "the host on which HA restarted the machine is killed too, while it boots",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				first := s.killHost(one)
				s.await(soon, "the machine is elsewhere", func() bool { return s.on(one) && s.hostOf(one) != first && s.VM(one).Running() })
				s.pause(10 * time.Second) // somewhere in the boot
				s.killHost(one)
			},
			expect: func(s *scene) { s.rebooted(one); s.restored(one); s.goOn() },
		},
		{
			name: "host-isolated", ci: true,
			what:  "the machine runs on behind a host that cannot be reached: nobody else gets its disk, and nothing is started twice",
			setup: func(s *scene) { s.pair(one); s.known(two, s.volumes...) },
			fault: func(s *scene) {
				host := s.hostOf(one)
				s.must(s.IsolateHost(host))
				s.t.Cleanup(func() { _ = s.StartHost(host) }) // connected already, perhaps
				for _, v := range s.volumes {
					s.more(v, 60) // three seconds: vSphere's time for a detection, and then some
				}
				s.refused(two, "docker run --rm --network none -v "+s.volumes[0].name+":/data "+writerImage+" get /data/mark", "docker1")
				s.must(s.StartHost(host))
			},
			expect: func(s *scene) {
				s.sameBoot(one)
				s.goOn()
			},
		},
		{
			name: "maintenance", what: "a host that is evacuated takes its machine elsewhere, volumes and all, without a reboot",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				host := s.hostOf(one)
				s.must(s.EnterMaintenance(host))
				if s.hostOf(one) == host {
					s.t.Errorf("%s is still on %s", one, host)
				}
				s.must(s.ExitMaintenance(host))
			},
			expect: func(s *scene) { s.sameBoot(one); s.goOn() },
		},
	}
}

// slow makes every call to vCenter take that long that the plugin makes.
func (s *scene) slow(d time.Duration) {
	for _, method := range []string{
		"Login", "RetrieveServiceContent", "RetrievePropertiesEx", "ReconfigVM_Task", "SearchDatastore_Task", "CreateVirtualDisk_Task",
		"DeleteVirtualDisk_Task", "WaitForUpdatesEx", "CreateFilter", "PUT", "GET",
	} {
		s.Delay(method, d)
	}
}

// dockerUp waits until the machine's Docker answers.
func (s *scene) dockerUp(vm string) {
	s.t.Helper()
	s.await(bootTime, "docker of "+vm+" answers", func() bool {
		_, err := s.try(vm, "docker version >/dev/null 2>&1")
		return err == nil
	})
}

// backElsewhere waits until HA has brought the machine back and its writers go on, with nothing made anew.
func (s *scene) backElsewhere(vm string) {
	s.t.Helper()
	s.rebooted(vm)
	s.restored(vm)
	s.unformatted(vm)
	s.goOn()
	for _, h := range s.Hosts() {
		if h.Name == s.hostOf(vm) && h.State != "connected" {
			s.t.Errorf("%s runs on %s, which is %s", vm, h.Name, h.State)
		}
	}
}

// killUncleanly kills the host, and makes sure that the ext4 volume needs its journal: the superblock says so.
func (s *scene) killUncleanly(vm string) {
	s.t.Helper()
	s.killHost(vm)
	const incompat, needsRecovery = 1024 + 0x60, 0x4
	var b [4]byte
	f, err := os.Open(s.extent(s.t, s.volumes[0].name))
	s.must(err)
	defer f.Close() //nolint:errcheck // only read
	_, err = f.ReadAt(b[:], incompat)
	s.must(err)
	if binary.LittleEndian.Uint32(b[:])&needsRecovery == 0 {
		s.t.Errorf("the filesystem of %s does not need its journal: the case shows nothing", s.volumes[0].name)
	}
}

// replayed says that the journals were replayed: the kernel tells.
func (s *scene) replayed(vm string) {
	s.t.Helper()
	if got := s.sh(vm, "dmesg | grep -c 'XFS.*Starting recovery' || true"); got != "1" {
		s.t.Errorf("xfs replayed its journal %s times, want once", got)
	}
	if got := s.sh(vm, "dmesg | grep -c 'EXT4-fs (sd.*recovery complete' || true"); got == "0" {
		s.t.Error("no ext4 volume has replayed its journal")
	}
}

// damage spoils the ext4 filesystem of a volume whose machine is dead so that a preening check refuses it and no file is lost.
func (s *scene) damage(v *vol) {
	s.t.Helper()
	image := s.extent(s.t, v.name)
	// The journal is replayed first, or it would replay the damage away. Then lost+found is a file that the root takes for a directory.
	for _, request := range []string{"journal_run", "set_inode_field lost+found mode 0100644", "set_super_value state 2"} {
		if out, err := exec.CommandContext(s.ctx, "debugfs", "-w", "-R", request, image).CombinedOutput(); err != nil {
			s.t.Fatalf("debugfs %s: %v\n%s", request, err, out)
		}
	}
	v.down = true
}

// damagedAlone looks that the damaged volume is reported and the others run; then it is repaired as the report says, and runs too.
func (s *scene) damagedAlone(vm string) {
	s.t.Helper()
	s.rebooted(vm)
	s.goOn()
	bad := s.volumes[0]
	status, _ := s.try(vm, "mooring status 2>&1") // its exit code says that something is wrong
	for _, want := range []string{bad.name, "e2fsck -f /dev/"} {
		if !strings.Contains(status, want) {
			s.t.Errorf("mooring status does not say %q:\n%s", want, status)
		}
	}
	dev := s.sh(vm, "mooring status 2>&1 | grep -o 'e2fsck -f /dev/[^ ;,.]*' | head -1 | cut -d' ' -f3 || true")
	if dev == "" {
		return
	}
	s.sh(vm, "e2fsck -f -y "+dev+" >/dev/null || test $? -le 2")
	s.sh(vm, "docker start "+bad.box)
	bad.down = false
	s.goOn()
}

// reviveKilled starts the containers again that a schedule has killed by hand: dockerd does not, for somebody wanted them down.
func (s *scene) reviveKilled() {
	s.t.Helper()
	for _, vm := range s.Names() {
		s.await(soon, "all containers of "+vm+" can be started", func() bool {
			_, err := s.try(vm, "docker ps -aq --filter status=exited | xargs -r docker start >/dev/null")
			return err == nil
		})
	}
}
