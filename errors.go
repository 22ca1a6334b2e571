package mooring

import "errors"

// The errors that a caller can act on, tested with errors.Is. The text around them names the thing and the cure.
var (
	// ErrInvalid: a bad option, name, policy or configuration.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: there is no such thing (a ledger miss, vSphere's FileNotFound).
	ErrNotFound = errors.New("not found")
	// ErrExists: the volume exists with another spec; the text names the difference.
	ErrExists = errors.New("exists already")
	// ErrInUse: held, mounted, or attached to a virtual machine; the text names who.
	ErrInUse = errors.New("in use")
	// ErrFenced: another host or virtual machine may still write to the disk (vSphere's FileLocked).
	ErrFenced = errors.New("fenced")
	// ErrPolicy: no such storage policy, or no compatible datastore; the text lists those there are.
	ErrPolicy = errors.New("storage policy")
	// ErrCapacity: no space on the datastore, or no free unit on the controllers.
	ErrCapacity = errors.New("no capacity")
	// ErrCorrupt: a ledger's checksum, a filesystem or a digest is wrong. Nothing repairs it by itself.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnavailable: vCenter, dockerd or a registry cannot be reached.
	ErrUnavailable = errors.New("unavailable")
)

// VolumeError says which operation on which volume failed. It is added once, at the boundary.
type VolumeError struct {
	Op   string // the verb, in lower case
	Name Name
	Err  error
}

// Error returns "op name: cause".
func (e *VolumeError) Error() string { return e.Op + " " + string(e.Name) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *VolumeError) Unwrap() error { return e.Err }

// HintError is an error with its cure, which is shown on a line of its own.
type HintError struct {
	Err  error
	Hint string // what to do, as a command where there is one
}

// Error returns the cause's text; the hint is for whoever prints it.
func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HintError) Unwrap() error { return e.Err }

// ExitCode returns the exit code of a command that failed with err: the code of the first sentinel found in it, 0 for nil,
// 1 for anything unforeseen.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	for _, c := range [...]struct {
		err  error
		code int
	}{
		{ErrInvalid, 2},
		{ErrNotFound, 10},
		{ErrExists, 11},
		{ErrInUse, 12},
		{ErrFenced, 13},
		{ErrPolicy, 14},
		{ErrCapacity, 15},
		{ErrCorrupt, 16},
		{ErrUnavailable, 75},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return 1
}
