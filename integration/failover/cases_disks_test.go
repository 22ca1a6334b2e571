//go:build machines

package failover_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// diskCases are about many disks, and about ledgers that are not of this moment or not of this machine.
func diskCases() []scenario {
	return []scenario{
		{
			name: "thirty-disks", what: "30 disks on four controllers, added while a container writes to another; the 61st is refused with the reason",
			setup: func(s *scene) { s.write(s.volume(one, "busy", "ext4"), "always") },
			fault: func(s *scene) { s.manyDisks(30); s.tooManyDisks() },
			expect: func(s *scene) {
				s.goOn()
				s.sh(one, "docker ps -aq --filter name=many- | xargs -r docker rm -f >/dev/null")
			},
		},
		{
			name: "restored-from-a-backup", what: "the machine's own disk is put back to an older state: the ledger is older than the volumes, nothing is formatted or mounted twice",
			setup: func(s *scene) {
				v := s.volume(one, "before", "ext4")
				s.write(v, "always")
			},
			fault:  func(s *scene) { s.restoreOlder() },
			expect: func(s *scene) { s.goOn() },
		},
		{
			name: "reverted-to-a-snapshot", what: "the same by vSphere's snapshot, which leaves independent disks out",
			setup: func(s *scene) {
				v := s.volume(one, "before", "ext4")
				s.write(v, "always")
			},
			fault:  func(s *scene) { s.revertSnapshot() },
			expect: func(s *scene) { s.goOn() },
		},
		{
			name: "another-machines-ledger", what: "a ledger that names another machine's disks (a clone) is seen as such: nothing is taken from the machine that uses them",
			setup:  func(s *scene) { s.pair(one) },
			fault:  func(s *scene) { s.cloneLedger() },
			expect: func(s *scene) { s.goOn(); s.sameBoot(one) },
		},
	}
}

// manyDisks starts containers with n volumes in all, 15 each.
func (s *scene) manyDisks(n int) {
	s.t.Helper()
	began := time.Now()
	var script strings.Builder
	mounts := map[int]string{}
	for i := range n {
		v := &vol{name: fmt.Sprintf("%s-%02d", s.prefix, i), machine: one, fs: "ext4", labels: map[string]string{"n": strconv.Itoa(i)}}
		s.volumes = append(s.volumes, v)
		fmt.Fprintln(&script, v.create())
		mounts[i/15] += fmt.Sprintf(" -v %s:/v/%d", v.name, i)
	}
	s.sh(one, "set -e\n"+script.String())
	for box := range len(mounts) {
		s.sh(one, fmt.Sprintf("docker run -d --network none --name many-%d %s %s hold", box, mounts[box], writerImage))
	}
	if got := s.attached(one); len(got) != n+1 {
		s.t.Errorf("%d disks are attached, want %d", len(got), n+1)
	}
	per := map[int32]int{}
	for _, m := range s.Machines() {
		for _, d := range m.Disks {
			if _, ok := volumeOf(d.Backing); ok && m.Name == one {
				per[d.Controller]++
			}
		}
	}
	s.t.Logf("%d volumes made and mounted in %s; disks by controller: %v", n, time.Since(began).Round(time.Second), per)
	if len(per) < 3 {
		s.t.Errorf("disks by controller: %v, want them spread", per)
	}
	s.evenly(s.volumes[0], began)
}

// tooManyDisks attaches disks until no unit is left, and one more.
func (s *scene) tooManyDisks() {
	s.t.Helper()
	const names = 34
	var boxes []string
	text := ""
	for i := range names {
		v := &vol{name: fmt.Sprintf("%s-more-%02d", s.prefix, i), machine: one, fs: "ext4"}
		s.volumes = append(s.volumes, v)
		s.sh(one, v.create())
		box := fmt.Sprintf("many-more-%d", i)
		out, err := s.try(one, fmt.Sprintf("docker run -d --network none --name %s -v %s:/data %s hold 2>&1", box, v.name, writerImage))
		if err != nil {
			text = out + err.Error()
			break
		}
		boxes = append(boxes, box)
	}
	s.t.Logf("after %d disks: %s", 31+len(boxes), text)
	if !strings.Contains(text, "controller") && !strings.Contains(text, "unit") {
		s.t.Errorf("the limit is not explained: %q", text)
	}
	s.more(s.volumes[0], 5)
}

// restoreOlder copies the disk of a machine whose plug was pulled, so that its ledger says that it holds a volume; lets time pass, and puts the copy
// back, as a backup of a machine that runs does.
func (s *scene) restoreOlder() {
	s.t.Helper()
	s.override(one, true)
	s.must(s.PowerOff(one))
	s.override(one, false)
	backup := s.backup(one)
	s.must(s.PowerOn(one))
	s.rebooted(one)
	s.goOn()
	later := s.volume(one, "later", "xfs")
	s.write(later, "always")
	s.drop(s.volumes[0])
	s.detached(s.volumes[0])
	s.move(s.volumes[0], two, "always")
	s.off(one)
	s.putBack(one, backup)
	s.must(s.PowerOn(one))
	s.rebooted(one)
	s.unformatted(one)
	s.await(soon, one+" says that its volume was taken", func() bool {
		status, _ := s.try(one, "mooring status 2>&1") // its exit code says that something is wrong
		return strings.Contains(status, "Volume "+s.volumes[0].name+" was taken over")
	})
	s.older(later)
}

// older looks what a machine makes of volumes that are newer than its ledger, and of one that another machine has by now.
func (s *scene) older(later *vol) {
	s.t.Helper()
	moved := s.volumes[0]
	s.more(moved, 5)
	if slices.Contains(s.attached(one), moved.name) {
		s.t.Errorf("%s has the disk of %s, which %s uses", one, moved.name, two)
	}
	s.await(soon, "dockerd of "+one+" has been told who has the disk", func() bool {
		return strings.Contains(s.sh(one, "docker inspect -f '{{.State.Error}}' "+moved.box), two)
	})
	s.forget(one, moved)
	// dockerd's own record is of then, too: the container and the labels of the later volume are not in it, the volume is.
	s.await(soon, "the later volume is found again", func() bool {
		_, err := s.try(one, "docker volume inspect "+later.name)
		return err == nil
	})
	later.labels = nil
	s.write(later, "always")
}

// off shuts the machine down as its users do, and waits until it is off.
func (s *scene) off(vm string) {
	s.t.Helper()
	_, _ = s.try(vm, "systemctl poweroff") // the answer may not come
	s.await(bootTime, vm+" is off", func() bool { return !s.on(vm) && !s.VM(vm).Running() })
}

// cloneLedger puts machine one's ledger on machine two, as in a clone of machine one.
func (s *scene) cloneLedger() {
	s.t.Helper()
	const packed = "/tmp/ledger.tar"
	s.sh(one, "systemctl stop mooring-plugin; tar -C /var/lib/mooring --exclude=./mnt -cf "+packed+" .; systemctl start mooring-plugin")
	var files bytes.Buffer
	s.must(s.VM(one).CopyOut(s.ctx, packed, &files))
	s.must(s.VM(two).CopyIn(s.ctx, &files, packed, 0o600))
	s.sh(two, "cp -a /var/lib/mooring /root/ledger; systemctl stop mooring-plugin; rm -rf /var/lib/mooring/ledger*; tar -C /var/lib/mooring -xf "+packed+"; systemctl start mooring-plugin")
	s.pause(15 * time.Second) // it looks, and lets be
	status, _ := s.try(two, "mooring status 2>&1")
	if !strings.Contains(status, "another") {
		s.t.Errorf("mooring status of a machine with another's ledger does not say so:\n%s", status)
	}
	if got := s.attached(two); len(got) != 0 {
		s.t.Errorf("%s has %q", two, got)
	}
	s.refused(two, "docker run --rm --network none -v "+s.volumes[0].name+":/data "+writerImage+" ls /data", one)
	s.sh(two, "systemctl stop mooring-plugin; rm -rf /var/lib/mooring/ledger*; cp -a /root/ledger/. /var/lib/mooring; rm -r /root/ledger; systemctl start mooring-plugin")
}

// backup copies the disk that the machine boots from, which is off.
func (s *scene) backup(vm string) string {
	s.t.Helper()
	copied := filepath.Join(s.t.TempDir(), "backup")
	s.copyDisk(s.rootFile(vm), copied)
	return copied
}

func (s *scene) rootFile(vm string) string { return filepath.Join(s.Dir(), "vms", vm, "root.raw") }

// putBack restores it. What vCenter has in the machine's hardware list stays.
func (s *scene) putBack(vm, backup string) {
	s.t.Helper()
	s.copyDisk(backup, s.rootFile(vm))
}

func (s *scene) copyDisk(from, to string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		s.t.Fatalf("copy the disk: %v\n%s", err, out)
	}
}

// revertSnapshot takes a snapshot of the machine that is off, lets time pass, and reverts to it: the machine's own disk is as it was, and the disks of
// volumes, which are independent, are not.
func (s *scene) revertSnapshot() {
	s.t.Helper()
	s.off(one)
	m := s.virtual(one)
	task, err := m.CreateSnapshot(s.ctx, "before", "", false, false)
	s.must(err)
	s.must(task.Wait(s.ctx))
	own := s.backup(one)
	s.must(s.PowerOn(one))
	s.rebooted(one)
	s.goOn()
	later := s.volume(one, "later", "xfs")
	s.write(later, "always")
	s.drop(s.volumes[0])
	s.detached(s.volumes[0])
	s.move(s.volumes[0], two, "always")
	s.off(one)
	task, err = m.RevertToSnapshot(s.ctx, "before", true)
	s.must(err)
	s.must(task.Wait(s.ctx))
	s.putBack(one, own)
	s.must(s.PowerOn(one))
	s.rebooted(one)
	s.unformatted(one)
	s.older(later)
}
