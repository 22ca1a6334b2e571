package stack

import (
	"os"
	"strconv"
	"strings"

	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/internal/process"
)

// lostWhy is why a container that Docker has lost is not ready.
const lostWhy = "it was running when Docker was started anew, which has not taken it over: no command and no port reaches it"

// lostContainers returns those containers of which Docker says that they run, and which a dockerd has started that was killed. Its successor ends such containers before
// it serves its API, and starts them again. It does neither where it fails to connect the container's log driver, as it does with services that log to another one of
// their stack: then it leaves the container as it is, says ever after that it runs and is as healthy as it was, and reaches it by nothing.
//
// Processes are compared by their age, for clocks are set right while a machine boots. With live restore such containers are what is wanted.
func lostContainers(all map[string]docker.Container, daemonFile string) map[string]bool {
	daemon := begun(daemonPID(daemonFile))
	if daemon == 0 {
		return nil
	}
	lost := make(map[string]bool)
	for id, c := range all {
		if at := begun(c.PID); c.State == "running" && at != 0 && at < daemon {
			lost[id] = true
		}
	}
	return lost
}

// daemonPID returns the process ID that dockerd has written; 0: none.
func daemonPID(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// begun returns when the process was started, in ticks since the kernel was; 0: there is no such process.
func begun(pid int) uint64 {
	if pid <= 0 {
		return 0
	}
	p, err := process.Find(pid)
	if err != nil {
		return 0
	}
	return p.Start
}

// isLost says whether Docker has lost the container.
func (s *Stack) isLost(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.lost[id]
}
