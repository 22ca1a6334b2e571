//go:build machines

package qemu_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/cpio"
)

// tiny is a guest that is nothing but a kernel, busybox and the agent: it is up in seconds, where a whole system takes half a minute.
type tiny struct {
	kernel, initrd, agent string
}

// newTiny builds the guest from Debian's kernel package, which is downloaded once, and the agent from its source.
func newTiny(t *testing.T) tiny {
	t.Helper()
	dir := t.TempDir()
	g := tiny{agent: filepath.Join(dir, "mooring-agent"), initrd: filepath.Join(dir, "tiny.cpio")}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", g.agent, "../agent/mooring-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	must(t, build)
	pkg := kernelPackage(t)
	g.kernel = one(t, filepath.Join(pkg, "boot", "vmlinuz-*"))
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("the guest needs busybox (Debian: busybox-static): %v", err)
	}
	var entries []cpio.Entry
	for _, d := range []string{"bin", "modules", "dev", "proc", "sys", "run", "tmp", "mnt", "etc"} {
		entries = append(entries, cpio.Entry{Path: d, Mode: fs.ModeDir | 0o755})
	}
	put := func(path string, content []byte) {
		entries = append(entries, cpio.Entry{Path: path, Mode: 0o755, Content: content})
	}
	put("bin/busybox", busybox)
	var insmod strings.Builder
	for i, m := range order(t, filepath.Join(pkg, "lib/modules")) {
		name := fmt.Sprintf("modules/%02d.ko", i)
		put(name, m)
		insmod.WriteString("insmod /" + name + "\n")
	}
	put("init", []byte(`#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
`+insmod.String()+`
for nic in /sys/class/net/*; do
	case $(cat $nic/address) in
	52:54:00:*) ip address add 10.0.2.15/24 dev ${nic##*/};;
	52:54:01:*) ip address add 10.77.0.$(sed 's/.*mooring.ip=10.77.0.\([0-9]*\).*/\1/' /proc/cmdline)/24 dev ${nic##*/};;
	esac
	ip link set ${nic##*/} up
done
echo tiny guest is up
while :; do /mooring-agent; done
`))
	put("bin/systemctl", []byte("#!/bin/sh\n(sleep 1; $2 -f) >/dev/null 2>&1 &\n"))
	archive, err := os.Create(g.initrd)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cpio.Write(archive, entries), archive.Close()); err != nil {
		t.Fatal(err)
	}
	return g
}

// kernelPackage returns the directory with the contents of Debian's kernel for virtual machines.
func kernelPackage(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("MOORING_LAB_CACHE")
	if cache == "" {
		cache = "/var/cache/mooring-lab"
	}
	cache = filepath.Join(cache, "tiny")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "apt-cache", "depends", "linux-image-cloud-amd64").Output()
	name := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindSubmatch(out)
	if err != nil || name == nil {
		t.Fatalf("find the kernel's package: %v in %q", err, out)
	}
	dir := filepath.Join(cache, string(name[1]))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir
	}
	tmp := t.TempDir()
	get := exec.CommandContext(t.Context(), "apt-get", "download", "-q", string(name[1]))
	get.Dir = tmp
	must(t, get)
	must(t, exec.CommandContext(t.Context(), "dpkg-deb", "-x", one(t, filepath.Join(tmp, "*.deb")), dir+".part"))
	if err := os.Rename(dir+".part", dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// order returns the modules, each after those that it needs. What is built in has no file.
func order(t *testing.T, dir string) [][]byte {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		name, _, is := strings.Cut(filepath.Base(path), ".ko")
		if is {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	seen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] || files[name] == "" {
			return
		}
		seen[name] = true
		m := module(t, files[name])
		for _, dep := range m.depends {
			add(dep)
		}
		list = append(list, m.content)
	}
	for _, m := range []string{"virtio_pci", "virtio_console", "vmw_pvscsi", "sd_mod", "virtio_blk", "virtio_net", "virtio-rng", "ext4"} {
		add(m)
	}
	return list
}

type kernelModule struct {
	content []byte
	depends []string
}

func module(t *testing.T, path string) kernelModule {
	t.Helper()
	m := kernelModule{}
	var err error
	if strings.HasSuffix(path, ".xz") {
		m.content, err = exec.CommandContext(t.Context(), "xz", "-dc", path).Output()
	} else {
		m.content, err = os.ReadFile(path)
	}
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	f, err := elf.NewFile(bytes.NewReader(m.content))
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Section(".modinfo").Data()
	if err != nil {
		t.Fatal(err)
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if deps, is := strings.CutPrefix(entry, "depends="); is && deps != "" {
			m.depends = append(m.depends, strings.Split(deps, ",")...)
		}
	}
	return m
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: found %v, %v, want one file", pattern, found, err)
	}
	return found[0]
}

func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
}
