// Package process tells processes apart that have had the same ID.
package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is one process, as nobody else ever was or will be in this boot.
type Process struct {
	PID     int
	Command string // its name, of which the kernel keeps 15 bytes
	Start   uint64 // when it was started, in clock ticks since the kernel was
}

// Find returns the process that has the ID now; an error that is [os.ErrNotExist] if there is none.
func Find(pid int) (Process, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Process{}, err
	}
	return parse(stat)
}

// parse reads /proc/PID/stat, which proc_pid_stat(5) describes. The command may have anything in it, parentheses too.
func parse(stat []byte) (Process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("process status %q: no command", stat)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	if err != nil {
		return Process{}, fmt.Errorf("process status: %w", err)
	}
	const startTime = 22 - 3 // field 22; the fields after the command begin with the third
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startTime {
		return Process{}, fmt.Errorf("process status %q: too short", stat)
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("process status: %w", err)
	}
	return Process{PID: pid, Command: string(stat[open+1 : end]), Start: start}, nil
}
