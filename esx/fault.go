package esx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// class says what may be done after a request that ended in an error.
type class int

const (
	// unforeseen: nothing is known; nothing is tried again.
	unforeseen class = iota
	// busy: the same request may be sent again after a while.
	busy
	// conflict: read the hardware again, make a new request from it.
	conflict
	// session: log in again, then send the same request.
	session
	// refused: the account is refused; no further attempt for a while.
	refused
	// unreachable: the request was never sent.
	unreachable
	// unknown: the request may have been carried out; read back before anything else.
	unknown
	// ask: the object is in a state that forbids the request; find out who has it.
	ask
	// storage: the datastore cannot be reached from the host; it may come back.
	storage
	// done: what was asked for is already so (absent at delete, present at create), if the caller thinks so.
	done
	// permanent: no repetition helps.
	permanent
)

// verdict is what a fault means: the error that a caller can act on, if there is one, and its class.
type verdict struct {
	sentinel error
	class    class
}

// verdictOf returns what the fault of that type (as the vSphere Web Services API names it) means, and whether it is told from others at all.
func verdictOf(name string) (verdict, bool) {
	switch name {
	case "TaskInProgress", "VAppTaskInProgress":
		return verdict{mooring.ErrUnavailable, busy}, true
	case "ConcurrentAccess":
		return verdict{mooring.ErrUnavailable, conflict}, true
	case "InvalidDeviceSpec", "InvalidDeviceOperation":
		return verdict{mooring.ErrInvalid, conflict}, true
	case "NotAuthenticated", "InvalidCollectorVersion", "PbmFaultInvalidLogin":
		return verdict{mooring.ErrUnavailable, session}, true
	case "InvalidLogin", "NoClientCertificate":
		return verdict{mooring.ErrUnavailable, refused}, true
	case "Timedout", "HostCommunication", "HostNotConnected", "HostNotReachable", "RequestCanceled", "SystemError":
		return verdict{mooring.ErrUnavailable, unknown}, true
	case "InvalidState", "InvalidPowerState":
		return verdict{mooring.ErrUnavailable, ask}, true
	case "ResourceInUse":
		return verdict{mooring.ErrInUse, ask}, true
	case "FileLocked", "CannotAccessFile":
		return verdict{mooring.ErrFenced, ask}, true
	case "InaccessibleDatastore", "InvalidDatastoreState", "HostConfigFault":
		return verdict{mooring.ErrUnavailable, storage}, true
	case "FileAlreadyExists", "AlreadyExists", "DuplicateName":
		return verdict{mooring.ErrExists, done}, true
	case "FileNotFound", "NotFound", "ManagedObjectNotFound":
		return verdict{mooring.ErrNotFound, done}, true
	}
	if v, ok := permanentVerdict(name); ok {
		return v, true
	}
	// The storage policy service has a family of its own.
	if strings.HasPrefix(name, "Pbm") {
		return verdict{mooring.ErrPolicy, permanent}, true
	}
	return verdict{}, false
}

// permanentVerdict returns what the faults mean that no repetition helps against.
func permanentVerdict(name string) (verdict, bool) {
	switch name {
	case "NoPermission", "PbmFaultNoPermission", "InvalidArgument", "InvalidName", "InvalidDatastorePath", "NotSupported", "NotImplemented",
		"MethodNotFound", "MethodDisabled", "RestrictedVersion", "InvalidController", "DeviceUnsupportedForVmVersion":
		return verdict{mooring.ErrInvalid, permanent}, true
	case "NoDiskSpace", "TooManyDevices":
		return verdict{mooring.ErrCapacity, permanent}, true
	case "InvalidDatastore", "PbmFaultNotFound":
		return verdict{mooring.ErrNotFound, permanent}, true
	case "PbmDuplicateName":
		return verdict{mooring.ErrExists, permanent}, true
	case "PbmResourceInUse":
		return verdict{mooring.ErrInUse, permanent}, true
	}
	return verdict{}, false
}

// vsphereError is a fault of vSphere, or a failure to reach it, as one of our errors.
type vsphereError struct {
	text     string
	sentinel error // nil: unforeseen
	class    class
	cause    error
}

// Error returns the fault's type, its message, and the reasons that the host gave.
func (e *vsphereError) Error() string { return e.text }

// Unwrap returns the sentinel, if there is one, and the cause.
func (e *vsphereError) Unwrap() []error {
	if e.sentinel == nil {
		return []error{e.cause}
	}
	return []error{e.sentinel, e.cause}
}

// explain returns err as one of our errors. Faults arrive as SOAP faults, as errors of tasks, and in missing sets; explain does
// not care which. An error that is explained already, or that says something of our own, is returned as it is.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*vsphereError](err); ok {
		return err
	}
	if e := explainFault(err); e != nil {
		return e
	}
	if e := explainTransport(err); e != nil {
		return e
	}
	return err
}

// classOf returns what may be done after err.
func classOf(err error) class {
	if e, ok := errors.AsType[*vsphereError](explain(err)); ok {
		return e.class
	}
	return unforeseen
}

// explainFault returns nil if there is no fault in err.
func explainFault(err error) error {
	var seen []string
	var v verdict
	known := false
	fault.In(err, func(f types.BaseMethodFault, message string, reasons []types.LocalizableMessage) bool {
		name := faultName(f)
		seen = append(seen, faultText(name, f, message, reasons))
		if known {
			return false
		}
		if v, known = verdictOf(name); known {
			return false
		}
		// hostd says these within faults of several types (GenericVmConfigFault most often); there is no type to tell them by.
		switch {
		case mentions(message, reasons, "lock the file"):
			v, known = verdict{mooring.ErrFenced, ask}, true
		case mentions(message, reasons, "another task is already in progress"):
			v, known = verdict{mooring.ErrUnavailable, busy}, true
		}
		return false
	})
	if len(seen) == 0 {
		return nil
	}
	text := strings.Join(seen, ", because of ")
	// A SOAP fault carries its message beside the fault, where only Error says it.
	if said := strings.TrimPrefix(err.Error(), "ServerFaultCode: "); said != "" && !strings.Contains(text, said) && !strings.Contains(said, seen[0]) {
		text += ": " + said
	}
	return &vsphereError{text: text, sentinel: v.sentinel, class: v.class, cause: err}
}

func faultName(f types.BaseMethodFault) string {
	t := reflect.TypeOf(f)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

func faultText(name string, f types.BaseMethodFault, message string, reasons []types.LocalizableMessage) string {
	parts := []string{name}
	add := func(s string) {
		if s != "" && !slices.Contains(parts, s) {
			parts = append(parts, s)
		}
	}
	if p, ok := f.(*types.NoPermission); ok {
		add("the account lacks the privilege " + p.PrivilegeId)
	}
	add(message)
	for _, r := range reasons {
		add(r.Message)
	}
	return strings.Join(parts, ": ")
}

func mentions(message string, reasons []types.LocalizableMessage, text string) bool {
	return strings.Contains(message, text) ||
		slices.ContainsFunc(reasons, func(r types.LocalizableMessage) bool { return strings.Contains(r.Message, text) })
}

// explainTransport returns nil if err is not a failure to speak with vCenter.
func explainTransport(err error) error {
	say := func(c class, text string) error {
		return &vsphereError{text: text, sentinel: mooring.ErrUnavailable, class: c, cause: err}
	}
	var (
		wrong     *thumbprintError
		untrusted *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		op        *net.OpError
		status    *httpError
		request   *url.Error
		netErr    net.Error
	)
	switch {
	case errors.As(err, &wrong):
		return say(unreachable, wrong.Error())
	case errors.As(err, &untrusted), errors.As(err, &authority):
		return say(unreachable, fmt.Sprintf("vCenter's certificate is not trusted: %v", err))
	case errors.Is(err, errStalled):
		return say(unknown, errStalled.Error())
	case errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &op) && op.Op == "dial":
		return say(unreachable, fmt.Sprintf("vCenter cannot be reached: %v", op))
	case errors.As(err, &status):
		return say(unknown, "vCenter answers "+status.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return say(unknown, fmt.Sprintf("vCenter did not answer in time: %v", err))
	case errors.As(err, &request), errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return say(unknown, fmt.Sprintf("vCenter cannot be reached: %v", err))
	}
	return nil
}

// isExists tells whether something is there already.
func isExists(err error) bool { return errors.Is(explain(err), mooring.ErrExists) }

// mayBeProfile tells whether a device may have been refused for its profile's sake: deleted, or the policy service being down. vSphere has no one fault for that, so
// that everything counts which is not plainly about something else.
func mayBeProfile(err error) bool {
	switch {
	case errors.Is(err, mooring.ErrPolicy), errors.Is(err, mooring.ErrInvalid):
		return true
	case errors.Is(err, mooring.ErrFenced), errors.Is(err, mooring.ErrNotFound), errors.Is(err, mooring.ErrCapacity):
		return false
	}
	c := classOf(err)
	return c == permanent || c == unforeseen || c == ask || fault.Is(err, &types.SystemError{})
}
