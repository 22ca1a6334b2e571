package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
)

// thisBoot returns the ID of this run of the kernel, and when it began (btime of proc_stat(5)).
func thisBoot(proc string) (mooring.BootID, time.Time, error) {
	id, err := os.ReadFile(filepath.Join(proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read the boot ID: %w", err)
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read when the kernel started: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		text, found := strings.CutPrefix(line, "btime ")
		if !found {
			continue
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return "", time.Time{}, fmt.Errorf("read when the kernel started: %w", err)
		}
		return mooring.BootID(strings.TrimSpace(string(id))), time.Unix(seconds, 0), nil
	}
	return "", time.Time{}, fmt.Errorf("read when the kernel started: %s does not say: %w", filepath.Join(proc, "stat"), mooring.ErrNotFound)
}
