package esx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
	"syscall"
	"testing"

	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

const said = "what vCenter says"

// shapes returns the fault as it arrives from a call, from a task, and in the place of a property that is read.
func shapes(f types.BaseMethodFault) map[string]error {
	s := &soap.Fault{Code: "ServerFaultCode", String: said}
	s.Detail.Fault = reflect.ValueOf(f).Elem().Interface() // decoded as a value
	return map[string]error{
		"SOAP fault":  soap.WrapSoapFault(s),
		"task error":  task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: f, LocalizedMessage: said}},
		"missing set": soap.WrapVimFault(f),
	}
}

func TestEveryFaultIsOneOfOursWithItsClassInEveryShape(t *testing.T) {
	for _, c := range []struct {
		fault types.BaseMethodFault
		want  error
		class string
	}{
		{&types.TaskInProgress{}, mooring.ErrUnavailable, "busy"},
		{&types.VAppTaskInProgress{}, mooring.ErrUnavailable, "busy"},
		{&types.ConcurrentAccess{}, mooring.ErrUnavailable, "conflict"},
		{&types.InvalidDeviceSpec{}, mooring.ErrInvalid, "conflict"},
		{&types.InvalidDeviceOperation{}, mooring.ErrInvalid, "conflict"},
		{&types.NotAuthenticated{}, mooring.ErrUnavailable, "session"},
		{&types.InvalidCollectorVersion{}, mooring.ErrUnavailable, "session"},
		{&pbmtypes.PbmFaultInvalidLogin{}, mooring.ErrUnavailable, "session"},
		{&types.InvalidLogin{}, mooring.ErrUnavailable, "refused"},
		{&types.NoClientCertificate{}, mooring.ErrUnavailable, "refused"},
		{&types.Timedout{}, mooring.ErrUnavailable, "unknown"},
		{&types.HostCommunication{}, mooring.ErrUnavailable, "unknown"},
		{&types.HostNotConnected{}, mooring.ErrUnavailable, "unknown"},
		{&types.HostNotReachable{}, mooring.ErrUnavailable, "unknown"},
		{&types.RequestCanceled{}, mooring.ErrUnavailable, "unknown"},
		{&types.SystemError{}, mooring.ErrUnavailable, "unknown"},
		{&types.InvalidState{}, mooring.ErrUnavailable, "ask"},
		{&types.InvalidPowerState{}, mooring.ErrUnavailable, "ask"},
		{&types.ResourceInUse{}, mooring.ErrInUse, "ask"},
		{&types.FileLocked{}, mooring.ErrFenced, "ask"},
		{&types.CannotAccessFile{}, mooring.ErrFenced, "ask"},
		{&types.GenericVmConfigFault{Reason: "x"}, nil, "unforeseen"},
		{&types.InaccessibleDatastore{}, mooring.ErrUnavailable, "storage"},
		{&types.InvalidDatastoreState{}, mooring.ErrUnavailable, "storage"},
		{&types.HostConfigFault{}, mooring.ErrUnavailable, "storage"},
		{&types.FileAlreadyExists{}, mooring.ErrExists, "done"},
		{&types.AlreadyExists{}, mooring.ErrExists, "done"},
		{&types.DuplicateName{}, mooring.ErrExists, "done"},
		{&types.FileNotFound{}, mooring.ErrNotFound, "done"},
		{&types.NotFound{}, mooring.ErrNotFound, "done"},
		{&types.ManagedObjectNotFound{}, mooring.ErrNotFound, "done"},
		{&types.NoPermission{PrivilegeId: "Datastore.Browse"}, mooring.ErrInvalid, "permanent"},
		{&types.InvalidArgument{}, mooring.ErrInvalid, "permanent"},
		{&types.InvalidName{}, mooring.ErrInvalid, "permanent"},
		{&types.InvalidDatastorePath{}, mooring.ErrInvalid, "permanent"},
		{&types.InvalidDatastore{}, mooring.ErrNotFound, "permanent"},
		{&types.NotSupported{}, mooring.ErrInvalid, "permanent"},
		{&types.NotImplemented{}, mooring.ErrInvalid, "permanent"},
		{&types.MethodNotFound{}, mooring.ErrInvalid, "permanent"},
		{&types.MethodDisabled{}, mooring.ErrInvalid, "permanent"},
		{&types.RestrictedVersion{}, mooring.ErrInvalid, "permanent"},
		{&types.InvalidController{}, mooring.ErrInvalid, "permanent"},
		{&types.DeviceUnsupportedForVmVersion{}, mooring.ErrInvalid, "permanent"},
		{&types.NoDiskSpace{}, mooring.ErrCapacity, "permanent"},
		{&types.TooManyDevices{}, mooring.ErrCapacity, "permanent"},
		{&pbmtypes.PbmFault{}, mooring.ErrPolicy, "permanent"},
		{&pbmtypes.PbmFaultNotFound{}, mooring.ErrNotFound, "permanent"},
		{&pbmtypes.PbmFaultNoPermission{}, mooring.ErrInvalid, "permanent"},
		{&pbmtypes.PbmFaultProfileStorageFault{}, mooring.ErrPolicy, "permanent"},
		{&pbmtypes.PbmCompatibilityCheckFault{}, mooring.ErrPolicy, "permanent"},
		{&pbmtypes.PbmNonExistentHubs{}, mooring.ErrPolicy, "permanent"},
		{&pbmtypes.PbmDuplicateName{}, mooring.ErrExists, "permanent"},
		{&pbmtypes.PbmResourceInUse{}, mooring.ErrInUse, "permanent"},
		{&types.CannotCreateFile{}, nil, "unforeseen"},
	} {
		name := reflect.TypeOf(c.fault).Elem().Name()
		for shape, err := range shapes(c.fault) {
			got := esx.Explain(err)
			if c.want != nil && !errors.Is(got, c.want) {
				t.Errorf("%s as %s: got %v, want %v", name, shape, got, c.want)
			}
			if c.want == nil && mooring.ExitCode(got) != 1 {
				t.Errorf("%s as %s: got %v, want none of ours", name, shape, got)
			}
			if class := esx.ClassOf(err); class != c.class {
				t.Errorf("%s as %s: got class %s, want %s", name, shape, class, c.class)
			}
			if !strings.Contains(got.Error(), name) || shape != "missing set" && !strings.Contains(got.Error(), said) {
				t.Errorf("%s as %s: got %q, want the fault's type and message in it", name, shape, got)
			}
		}
	}
}

// hostd puts the real reason into faultMessage, or into the fault's cause.
func TestReasonOfTheHostIsKeptAndCounts(t *testing.T) {
	because := func(text string) types.BaseMethodFault {
		f := &types.GenericVmConfigFault{}
		f.FaultMessage = []types.LocalizableMessage{{Key: "msg.x", Message: text}}
		return f
	}
	cause := &types.GenericVmConfigFault{}
	cause.FaultCause = &types.LocalizedMethodFault{Fault: &types.FileLocked{}, LocalizedMessage: "held by 00:50:56"}
	for _, c := range []struct {
		fault types.BaseMethodFault
		want  error
		class string
		text  string
	}{
		{because("Failed to lock the file"), mooring.ErrFenced, "ask", "Failed to lock the file"},
		{because("The operation is not allowed: another task is already in progress."), mooring.ErrUnavailable, "busy", "another task"},
		{cause, mooring.ErrFenced, "ask", "because of FileLocked: held by 00:50:56"},
		{&types.NoPermission{PrivilegeId: "Datastore.Browse"}, mooring.ErrInvalid, "permanent", "lacks the privilege Datastore.Browse"},
	} {
		for shape, err := range shapes(c.fault) {
			got := esx.Explain(err)
			if !errors.Is(got, c.want) || esx.ClassOf(err) != c.class || !strings.Contains(got.Error(), c.text) {
				t.Errorf("%s: got %v of class %s, want %v of class %s with %q", shape, got, esx.ClassOf(err), c.want, c.class, c.text)
			}
		}
	}
}

func TestFailureToSpeakWithVCenterIsUnavailable(t *testing.T) {
	request := func(err error) error { return &url.Error{Op: "Post", URL: "https://vcenter/sdk", Err: err} }
	for _, c := range []struct {
		err   error
		class string
	}{
		{request(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), "unreachable"},
		{request(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), "unknown"},
		{request(io.EOF), "unknown"},
		{io.ErrUnexpectedEOF, "unknown"},
		{request(context.DeadlineExceeded), "unknown"},
	} {
		if got := esx.Explain(c.err); !errors.Is(got, mooring.ErrUnavailable) || esx.ClassOf(c.err) != c.class {
			t.Errorf("%v: got %v of class %s, want ErrUnavailable of class %s", c.err, got, esx.ClassOf(c.err), c.class)
		}
	}
	for _, err := range []error{nil, context.Canceled, request(context.Canceled), mooring.ErrExists} {
		if got := esx.Explain(err); !errors.Is(got, err) || errors.Is(got, mooring.ErrUnavailable) {
			t.Errorf("%v: got %v, want it unchanged", err, got)
		}
	}
}
