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

// verdicts has every fault that is told from others, by the name of its type in the vSphere Web Services API.
var verdicts = map[string]verdict{
	"TaskInProgress":     {mooring.ErrUnavailable, busy},
	"VAppTaskInProgress": {mooring.ErrUnavailable, busy},

	"ConcurrentAccess":       {mooring.ErrUnavailable, conflict},
	"InvalidDeviceSpec":      {mooring.ErrInvalid, conflict},
	"InvalidDeviceOperation": {mooring.ErrInvalid, conflict},

	"NotAuthenticated":        {mooring.ErrUnavailable, session},
	"InvalidCollectorVersion": {mooring.ErrUnavailable, session},
	"InvalidLogin":            {mooring.ErrUnavailable, refused},
	"NoClientCertificate":     {mooring.ErrUnavailable, refused},
	"PbmFaultInvalidLogin":    {mooring.ErrUnavailable, session},

	"Timedout":          {mooring.ErrUnavailable, unknown},
	"HostCommunication": {mooring.ErrUnavailable, unknown},
	"HostNotConnected":  {mooring.ErrUnavailable, unknown},
	"HostNotReachable":  {mooring.ErrUnavailable, unknown},
	"RequestCanceled":   {mooring.ErrUnavailable, unknown},
	"SystemError":       {mooring.ErrUnavailable, unknown},

	"InvalidState":      {mooring.ErrUnavailable, ask},
	"InvalidPowerState": {mooring.ErrUnavailable, ask},
	"ResourceInUse":     {mooring.ErrInUse, ask},
	"PbmResourceInUse":  {mooring.ErrInUse, permanent},
	"FileLocked":        {mooring.ErrFenced, ask},
	"CannotAccessFile":  {mooring.ErrFenced, ask},

	"InaccessibleDatastore": {mooring.ErrUnavailable, storage},
	"InvalidDatastoreState": {mooring.ErrUnavailable, storage},
	"HostConfigFault":       {mooring.ErrUnavailable, storage},

	"FileAlreadyExists":     {mooring.ErrExists, done},
	"AlreadyExists":         {mooring.ErrExists, done},
	"DuplicateName":         {mooring.ErrExists, done},
	"PbmDuplicateName":      {mooring.ErrExists, permanent},
	"FileNotFound":          {mooring.ErrNotFound, done},
	"NotFound":              {mooring.ErrNotFound, done},
	"ManagedObjectNotFound": {mooring.ErrNotFound, done},

	"NoPermission":                  {mooring.ErrInvalid, permanent},
	"InvalidArgument":               {mooring.ErrInvalid, permanent},
	"InvalidName":                   {mooring.ErrInvalid, permanent},
	"InvalidDatastore":              {mooring.ErrNotFound, permanent},
	"InvalidDatastorePath":          {mooring.ErrInvalid, permanent},
	"NotSupported":                  {mooring.ErrInvalid, permanent},
	"NotImplemented":                {mooring.ErrInvalid, permanent},
	"MethodNotFound":                {mooring.ErrInvalid, permanent},
	"MethodDisabled":                {mooring.ErrInvalid, permanent},
	"RestrictedVersion":             {mooring.ErrInvalid, permanent},
	"InvalidController":             {mooring.ErrInvalid, permanent},
	"DeviceUnsupportedForVmVersion": {mooring.ErrInvalid, permanent},
	"NoDiskSpace":                   {mooring.ErrCapacity, permanent},
	"TooManyDevices":                {mooring.ErrCapacity, permanent},
	"PbmFault":                      {mooring.ErrPolicy, permanent},
	"PbmFaultNotFound":              {mooring.ErrNotFound, permanent},
	"PbmFaultNoPermission":          {mooring.ErrInvalid, permanent},
	"PbmFaultProfileStorageFault":   {mooring.ErrPolicy, permanent},
	"PbmCompatibilityCheckFault":    {mooring.ErrPolicy, permanent},
	"PbmPropertyMismatchFault":      {mooring.ErrPolicy, permanent},
	"PbmNonExistentHubs":            {mooring.ErrPolicy, permanent},
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
	if e := (*vsphereError)(nil); errors.As(err, &e) {
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
	var e *vsphereError
	if errors.As(explain(err), &e) {
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
		v, known = verdicts[name]
		// hostd says "Failed to lock the file" within a GenericVmConfigFault, and "another task is already in progress" within
		// several; there is no type to tell them by.
		switch {
		case name == "GenericVmConfigFault" && mentions(message, reasons, "lock the file"):
			v, known = verdict{mooring.ErrFenced, ask}, true
		case !known && mentions(message, reasons, "another task is already in progress"):
			v, known = verdict{mooring.ErrUnavailable, busy}, true
		case !known && strings.HasPrefix(name, "Pbm"):
			v, known = verdict{mooring.ErrPolicy, permanent}, true
		}
		return false
	})
	if len(seen) == 0 {
		return nil
	}
	// govmomi says the fault's message in Error() where the fault itself has none (a SOAP fault's string).
	text := strings.Join(seen, ", because of ")
	if said := strings.TrimPrefix(err.Error(), "ServerFaultCode: "); !strings.Contains(text, said) && said != "" && !strings.Contains(said, seen[0]) {
		text += ": " + said
	}
	return &vsphereError{text: text, sentinel: v.sentinel, class: v.class, cause: err}
}

func faultName(f types.BaseMethodFault) string {
	t := reflect.TypeOf(f)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return strings.TrimSuffix(t.Name(), "Fault_")
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

// asHTTP finds an answer of the file service in err.
func asHTTP(err error, target **httpError) bool { return errors.As(err, target) }

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
	return c == permanent || c == unforeseen || c == ask
}
