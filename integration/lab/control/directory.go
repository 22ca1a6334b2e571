package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

const lockName = "mooring-lab.lock"

// Datastores is the directory in a lab's own with the datastores of its vCenter.
const Datastores = "datastores"

// Claim makes a lab's directory and locks it. The kernel drops the lock when the lab ends, however it ends; closing the file lets go
// of the directory. cleared names what the lab will clear in it: a directory that has one of these and was never a lab's is refused. It
// fails with [mooring.ErrInUse] while another lab is up in the directory.
func Claim(dir string, cleared ...string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	name := filepath.Join(dir, lockName)
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		for _, c := range cleared {
			if _, err := os.Lstat(filepath.Join(dir, c)); err == nil {
				return nil, fmt.Errorf("%s is no lab's directory, and has %s in it, which a lab would clear: %w", dir, c, mooring.ErrInvalid)
			}
		}
	}
	return lock(name, os.O_CREATE)
}

func lock(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another lab is up in %s: %w", filepath.Dir(name), mooring.ErrInUse)
	}
	return f, nil
}

// Sweep removes below each directory what a lab that was killed has left, as far as it is large: what remove names. A directory that no
// lab ever claimed, or that one has now, is let alone.
func Sweep(dirs []string, remove ...string) error {
	var errs []error
	for _, dir := range dirs {
		f, err := lock(filepath.Join(dir, lockName), 0)
		if err != nil {
			continue
		}
		for _, name := range remove {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// The files with passwords, in the lab's directory.
const (
	AdminPassword  = "admin.password"
	PluginPassword = "plugin.password"
)

// WritePasswords writes the passwords of vCenter's accounts into the lab's directory.
func WritePasswords(dir string, vc *vcenter.VCenter) error {
	for name, a := range map[string]vcenter.Account{AdminPassword: vc.Admin(), PluginPassword: vc.Plugin()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(a.Password+"\n"), 0o600); err != nil {
			return fmt.Errorf("write password: %w", err)
		}
	}
	return nil
}

// Env returns the environment with which govc, and every command of Mooring's that logs in as the administrator, finds the vCenter.
func Env(vc *vcenter.VCenter) []string {
	a := vc.Admin()
	return []string{
		"GOVC_URL=" + vc.URL(), "GOVC_USERNAME=" + a.User, "GOVC_PASSWORD=" + a.Password, "GOVC_TLS_CA_CERTS=" + vc.CAFile(),
		"GOVC_DATACENTER=" + vcenter.Datacenter,
	}
}
