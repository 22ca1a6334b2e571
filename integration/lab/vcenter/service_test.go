package vcenter_test

import (
	"context"
	"crypto/tls"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// Two operations on one machine at a time: a host refuses the second, and the plugin must be ready for it.
func TestBusyMachineRefusesASecondOperation(t *testing.T) {
	t.Parallel()
	for name, plain := range map[string]bool{"with rules": false, "plain vcsim": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, plain, func(o *vcenter.Options) { o.Busy = true })
			a, b := s.disk("a"), s.disk("b")
			s.Delay("ReconfigVM_Task", 200*time.Millisecond)
			spec := func(d string, u int32) types.VirtualMachineConfigSpec {
				return types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(d, 1001, new(u))}}
			}
			first, err := s.one.Reconfigure(t.Context(), spec(a, 0))
			s.must(err)
			_, err = s.one.Reconfigure(t.Context(), spec(b, 1))
			if plain {
				if err != nil {
					t.Fatalf("plain vcsim has got the rule: %v", err)
				}
				return
			}
			wantFault(t, err, &types.TaskInProgress{})
			s.must(first.Wait(t.Context()))
			s.must(s.reconfigure(s.one, add(b, 1001, new(int32(1)))))
		})
	}
}

// Without busy, operations on one machine wait for each other, and all are carried out.
func TestOperationsOnOneMachineQueue(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	var tasks []*object.Task
	for i, n := range []string{"a", "b", "c"} {
		task, err := s.one.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(s.disk(n), 1001, new(int32(i)))},
		})
		s.must(err)
		tasks = append(tasks, task)
	}
	for _, task := range tasks {
		s.must(task.Wait(t.Context()))
	}
	if n := len(s.disks(s.one)); n != 3 {
		t.Fatalf("got %d disks, want 3", n)
	}
}

// Properties of a machine can be read while it is being reconfigured, as on a real vCenter; vcsim holds its lock for the whole task.
func TestMachineCanBeReadWhileATaskRuns(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("a")
	s.Delay("ReconfigVM_Task", time.Hour)
	task, err := s.one.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(disk, 1001, new(int32(0)))},
	})
	s.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var info mo.Task
	s.must(task.Properties(ctx, task.Reference(), []string{"info"}, &info))
	if info.Info.Name != "ReconfigVM_Task" || info.Info.DescriptionId != "VirtualMachine.reconfigVm" || *info.Info.Entity != s.one.Reference() {
		t.Errorf("got task %+v, want one that says what it is", info.Info)
	}
	if _, err := s.one.Device(ctx); err != nil {
		t.Fatalf("read devices: %v", err)
	}
}

// Real faults come as failed tasks; those that were asked for do too.
func TestInjectedFaultOfATaskIsATasksFault(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("web")
	s.must(s.Fail("ReconfigVM_Task", "HostCommunication", 2, 1))
	s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
	key := s.disks(s.one)[0].Key
	for range 2 {
		task, err := s.one.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
			DeviceChange: []types.BaseVirtualDeviceConfigSpec{remove(key)},
		})
		s.must(err)
		wantFault(t, task.Wait(t.Context()), &types.HostCommunication{})
	}
	s.must(s.reconfigure(s.one, remove(key)))
	if n := s.Tasks()["ReconfigVM_Task"]; n.Failed != 2 {
		t.Errorf("counted %+v, want two failed", n)
	}
	if err := s.Fail("ReconfigVM_Task", "NoSuchFault", 1, 0); err == nil {
		t.Error("a fault that is none was taken")
	}
	if err := s.Fail("ReconfigVM_Task", "VirtualDisk", 1, 0); err == nil {
		t.Error("a type that is no fault was taken")
	}
	s.must(s.Fail("CurrentTime", "RuntimeFault", -1, 0))
	_, err := methods.GetCurrentTime(t.Context(), s.c)
	wantFault(t, err, &types.RuntimeFault{})
	s.Clear()
	_, err = methods.GetCurrentTime(t.Context(), s.c)
	s.must(err)
}

// A vCenter that is down refuses connections; sessions survive a network that was gone for a while.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	s.must(s.StopServing())
	if _, err := methods.GetCurrentTime(t.Context(), s.c); err == nil {
		t.Fatal("a vCenter that is down has answered")
	}
	if got := s.State(); got != "stopped" {
		t.Errorf("got state %s", got)
	}
	url := s.URL()
	s.must(s.StartServing())
	if _, err := methods.GetCurrentTime(t.Context(), s.c); err != nil || s.URL() != url {
		t.Fatalf("after the outage at %s: %v, want the session at %s", s.URL(), err, url)
	}
}

// A vCenter that hangs takes requests and does not answer them.
func TestHang(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	s.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := methods.GetCurrentTime(ctx, s.c); ctx.Err() == nil {
		t.Fatalf("got %v before the deadline, want no answer", err)
	}
	s.must(s.StartServing())
	_, err := methods.GetCurrentTime(t.Context(), s.c)
	s.must(err)
}

// A session that was ended answers NotAuthenticated; another login helps.
func TestKilledSession(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	c := s.login(s.Plugin())
	if n := s.KillSessions(s.Plugin().User); n != 1 {
		t.Fatalf("ended %d sessions, want one", n)
	}
	_, err := methods.GetCurrentTime(t.Context(), c)
	wantFault(t, err, &types.NotAuthenticated{})
	s.must(c.Login(t.Context(), url.UserPassword(s.Plugin().User, s.Plugin().Password)))
	_, err = methods.GetCurrentTime(t.Context(), c)
	s.must(err)
	if in, _ := s.Logins(); in != 3 {
		t.Errorf("counted %d logins, want 3", in)
	}
}

// A wrong password is refused; vcsim takes anything.
func TestWrongPasswordIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	err := newSessions(s.connect()).Login(t.Context(), url.UserPassword(s.Plugin().User, "wrong"))
	wantFault(t, err, &types.InvalidLogin{})
	if _, refused := s.Logins(); refused != 1 || len(s.Sessions()) != 1 {
		t.Errorf("counted %d refused logins, %d sessions, want one of each", refused, len(s.Sessions()))
	}
}

// The service is trusted by its authority or its thumbprint, and by nothing else.
func TestServiceIsTrustedByItsAuthorityOrThumbprint(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	u, err := url.Parse(s.URL())
	s.must(err)
	stranger := soap.NewClient(u, false)
	if _, err := vim25.NewClient(t.Context(), stranger); err == nil {
		t.Fatal("a certificate of nobody's was trusted")
	}
	pinned := soap.NewClient(u, false)
	pinned.DefaultTransport().TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	pinned.SetThumbprint(u.Host, s.Thumbprint())
	if _, err := vim25.NewClient(t.Context(), pinned); err != nil {
		t.Fatalf("pinned: %v", err)
	}
}

// The plugin's account can use disks and policies, and nothing else. vcsim lets everybody do everything.
func TestPluginsAccountCanDoItsWorkAndNoMore(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		_, err := s.policy("SW=2", "stripeWidth", int32(2))
		s.must(err)
		s.c = s.login(s.Plugin())
		one, two := object.NewVirtualMachine(s.c.Client, s.one.Reference()), object.NewVirtualMachine(s.c.Client, s.two.Reference())
		s.must(s.reconfigure(one, add(disk, 1001, new(int32(0)))))
		s.must(s.reconfigure(one, remove(s.disks(one)[0].Key)))
		s.must(s.create("[vsanDatastore] dockvols/own.vmdk", 32))
		if _, err := s.spbm().QueryProfile(t.Context(), pbmtypes.PbmProfileResourceType{ResourceType: "STORAGE"}, ""); err != nil {
			t.Fatal(err)
		}
		refused := map[string]error{}
		_, refused["make a policy"] = s.policy("other", "stripeWidth", int32(2))
		_, refused["delete a policy"] = s.spbm().DeleteProfile(t.Context(), []pbmtypes.PbmProfileId{{UniqueId: "x"}})
		refused["power off"] = s.wait(two.PowerOff(t.Context()))
		refused["power on"] = s.wait(two.PowerOn(t.Context()))
		refused["reset"] = s.wait(two.Reset(t.Context()))
		sneaky := add("[vsanDatastore] dockvols/sneaky.vmdk", 1001, new(int32(3)))
		sneaky.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		refused["make a disk by reconfiguration"] = s.reconfigure(one, sneaky)
		refused["rename"] = s.wait(two.Rename(t.Context(), "renamed"))
		refused["make a folder"] = func() error {
			_, err := object.NewRootFolder(s.c.Client).CreateFolder(t.Context(), "f")
			return err
		}()
		for what, err := range refused {
			if !plain && !fault.Is(err, &types.NoPermission{}) {
				t.Errorf("%s: got %v, want NoPermission", what, err)
			}
			if plain && err != nil {
				t.Errorf("%s: plain vcsim has got the rule: %v", what, err)
			}
		}
	})
}
