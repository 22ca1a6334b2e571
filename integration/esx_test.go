package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// promise is within how long the product says that vCenter cannot be reached.
const promise = 10 * time.Second

// site is a vCenter with real vSphere's rules and two virtual machines, each with its own host as its plugin would have it. It needs no root: nobody
// is inside the machines.
type site struct {
	*vcenter.VCenter

	one, two *esx.Host
	admin    *esx.Session
}

func newSite(t *testing.T, change ...func(*vcenter.Options)) *site {
	t.Helper()
	opts := vcenter.Options{Dir: t.TempDir(), VMs: []vcenter.VM{
		{Name: lab.ThisVM, BIOS: lab.ThisBIOS, Instance: lab.ThisInstance},
		{Name: lab.OtherVM, BIOS: lab.OtherBIOS, Instance: lab.OtherInstance},
	}}
	for _, f := range change {
		f(&opts)
	}
	v, err := vcenter.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close the vCenter: %v", err)
		}
	})
	s := &site{VCenter: v, admin: session(t, v, v.Admin())}
	s.one, s.two = s.host(t, lab.ThisBIOS), s.host(t, lab.OtherBIOS)
	return s
}

func session(t *testing.T, v *vcenter.VCenter, a vcenter.Account) *esx.Session {
	t.Helper()
	account := esx.Account{URL: v.URL(), Username: a.User, Password: esx.Secret(a.Password), CAFile: v.CAFile()}
	s, err := esx.NewSession(account, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), promise)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close the session: %v", err)
		}
	})
	return s
}

// host returns the host that the plugin in the machine would have, with its rights and a short wait for disks that linger.
func (s *site) host(t *testing.T, bios string) *esx.Host {
	t.Helper()
	where := esx.Where{VM: bios, Linger: 500 * time.Millisecond}
	return esx.NewHost(session(t, s.VCenter, s.Plugin()), where, slog.New(slog.DiscardHandler))
}

// policy makes a storage policy as the administrator.
func (s *site) policy(t *testing.T, name mooring.PolicyName, id string, value int32) {
	t.Helper()
	if _, err := s.admin.CreateProfile(t.Context(), name, "", []mooring.Capability{{Namespace: "VSAN", ID: id, Value: value}}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) volume(t *testing.T, name mooring.Name, policy mooring.PolicyName) mooring.Volume {
	t.Helper()
	spec := mooring.Spec{Name: name, Size: 64 * mooring.MB, FSType: mooring.Ext4, Policy: policy}
	vol, err := s.one.Create(t.Context(), spec, mooring.Given{Size: true, Policy: policy != ""})
	if err != nil {
		t.Fatal(err)
	}
	return vol
}

func (s *site) volumes(t *testing.T, n int) []mooring.Volume {
	t.Helper()
	vols := make([]mooring.Volume, n)
	for i := range vols {
		vols[i] = s.volume(t, mooring.Name(fmt.Sprintf("vol%02d", i)), "")
	}
	return vols
}

func attachAll(t *testing.T, h *esx.Host, vols []mooring.Volume) []error {
	t.Helper()
	errs := make([]error, len(vols))
	var all sync.WaitGroup
	for i, vol := range vols {
		all.Go(func() { errs[i] = h.Attach(t.Context(), vol) })
	}
	all.Wait()
	return errs
}

// attached tells whether this machine has the disk.
func (s *site) attached(id mooring.DiskID) bool {
	return slices.ContainsFunc(s.Machines(), func(m vcenter.Machine) bool {
		return m.Name == lab.ThisVM && slices.ContainsFunc(m.Disks, func(d vcenter.Attached) bool {
			got, err := mooring.ParseDiskID(d.UUID)
			return err == nil && got == id
		})
	})
}

func TestVolumeOnVSANIsMadeAttachedWrittenDownAndRemoved(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	vol := s.volume(t, "db", "")
	if vol.Backing.Datastore() != "vsanDatastore" || vol.Size != 64*mooring.MB || vol.Format != mooring.FormatNone {
		t.Errorf("got %+v", vol)
	}
	if err := s.one.Attach(ctx, vol); err != nil {
		t.Fatal(err)
	}
	if err := s.one.SetFormat(ctx, vol, mooring.FormatDone); err != nil {
		t.Fatal(err)
	}
	for who, h := range map[string]*esx.Host{"this machine": s.one, "another": s.two} {
		got, err := h.Find(ctx, "db")
		if err != nil || got.Disk != vol.Disk || got.Format != mooring.FormatDone || got.Size != vol.Size {
			t.Errorf("%s finds %+v, %v, want what was made", who, got, err)
		}
		if names, err := h.Names(ctx); err != nil || !slices.Equal(names, []mooring.Name{"db"}) {
			t.Errorf("%s lists %v, %v, want db", who, names, err)
		}
	}
	if err := s.two.Delete(ctx, vol); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), lab.ThisVM) {
		t.Errorf("delete while attached: got %v, want ErrInUse naming %s", err, lab.ThisVM)
	}
	if err := s.one.Detach(ctx, vol); err != nil {
		t.Fatal(err)
	}
	if err := s.two.Delete(ctx, vol); err != nil {
		t.Fatal(err)
	}
	if _, err := s.one.Find(ctx, "db"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// G7: the error names the machine that has the disk, and vCenter is not asked for what must fail.
func TestDiskOfAnotherMachineIsNamedAndNeverTriedBlindly(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	if err := s.two.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	before := s.Calls()["ReconfigVM_Task"]
	err := s.one.Attach(t.Context(), vol)
	if !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), lab.OtherVM) || !strings.Contains(err.Error(), "powered on") {
		t.Errorf("got %v, want ErrInUse naming %s", err, lab.OtherVM)
	}
	if err := s.PowerOff(lab.OtherVM); err != nil {
		t.Fatal(err)
	}
	err = s.one.Attach(t.Context(), vol)
	hint, ok := errors.AsType[*mooring.HintError](err)
	if !errors.Is(err, mooring.ErrInUse) || !ok || hint.Hint != "mooring volume release db --from "+lab.OtherVM || !strings.Contains(err.Error(), "powered off") {
		t.Errorf("powered off: got %v, want ErrInUse naming %s and the cure", err, lab.OtherVM)
	}
	if n := s.Calls()["ReconfigVM_Task"] - before; n != 0 {
		t.Errorf("got %d tasks, want none", n)
	}
}

// G16: a volume is taken over from a machine that is powered off, which can be powered on again afterwards. While it may still write its claim stays.
func TestG16ClaimOfAPoweredOffMachineIsReleased(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	if err := s.two.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	released, err := s.one.Release(t.Context(), vol, lab.OtherVM)
	if hint, ok := errors.AsType[*mooring.HintError](err); released || !errors.Is(err, mooring.ErrInUse) || !ok || !strings.Contains(hint.Hint, lab.OtherVM) {
		t.Errorf("powered on: got %t, %v, want ErrInUse with a hint", released, err)
	}
	if err := s.PowerOff(lab.OtherVM); err != nil {
		t.Fatal(err)
	}
	if released, err = s.one.Release(t.Context(), vol, "nobody"); released || !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("a machine that is not there: got %t, %v, want ErrNotFound", released, err)
	}
	if released, err = s.one.Release(t.Context(), vol, lab.ThisVM); released || !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("this machine: got %t, %v, want ErrInvalid", released, err)
	}
	for _, want := range []bool{true, false} { // the second time there is nothing to release
		if released, err = s.one.Release(t.Context(), vol, lab.OtherVM); released != want || err != nil {
			t.Errorf("powered off: got %t, %v, want %t", released, err, want)
		}
	}
	if err := s.one.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if err := s.PowerOn(lab.OtherVM); err != nil {
		t.Errorf("the other machine cannot be powered on: %v", err)
	}
	if !s.attached(vol.Disk) {
		t.Error("the disk is not attached")
	}
}

// G21: the doctor's facts are read with the plugin's own rights.
func TestG21InspectionWithThePluginsRights(t *testing.T) {
	s := newSite(t)
	in, err := s.one.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if in.Machine.Name != lab.ThisVM || in.DiskUUIDs != mooring.Yes || in.Controllers != 4 || in.SnapshotsOK != mooring.Yes || in.RightsOK != mooring.Yes ||
		in.HA.Cluster == "" || in.HA.Override != mooring.No || len(in.Snapshots)+len(in.Twins)+len(in.Missing) > 0 || in.Policies != "" {
		t.Errorf("got %+v, want a machine with which nothing is wrong", in)
	}
}

func TestDiskThatOnlyLingersOnAnotherMachineIsWaitedFor(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	if err := s.two.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	patient := esx.NewHost(session(t, s.VCenter, s.Plugin()), esx.Where{VM: lab.ThisBIOS, Linger: 20 * time.Second}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	looks := s.Calls()["CreateContainerView"]
	go func() { done <- patient.Attach(t.Context(), vol) }()
	until(t, "it was looked who has the disk", func() bool { return s.Calls()["CreateContainerView"] > looks })
	if err := s.two.Detach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !s.attached(vol.Disk) {
		t.Errorf("got %v, want the disk attached", err)
	}
}

// In the ancestor's days vCenter showed the policy of such disks as "None".
func TestPolicyIsSeenOnTheAttachedDisk(t *testing.T) {
	s := newSite(t)
	s.policy(t, "SW=2", "stripeWidth", 2)
	vol := s.volume(t, "db", "SW=2")
	if err := s.one.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	m, err := s.one.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Disks, func(a mooring.Attachment) bool { return a.Disk == vol.Disk })
	if i < 0 || m.Disks[i].Policy != "SW=2" || m.Disks[i].Profile != vol.Profile || m.Disks[i].Compliance != "compliant" {
		t.Errorf("got %+v, want %s with SW=2, compliant", m.Disks, vol.Disk)
	}
}

func TestDeletedPolicyDoesNotKeepAVolumeDown(t *testing.T) {
	s := newSite(t)
	s.policy(t, "SW=2", "stripeWidth", 2)
	vol := s.volume(t, "db", "SW=2")
	if err := s.admin.DeleteProfile(t.Context(), "SW=2"); err != nil {
		t.Fatal(err)
	}
	if err := s.one.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if got := s.one.Conditions(); len(got) != 1 || got[0].Volume != "db" || !s.attached(vol.Disk) {
		t.Errorf("got conditions %+v, want one on db, which is attached", got)
	}
}

// The policy service is a process of its own in vCenter, and is down more often than vCenter is.
func TestPolicyServiceThatIsDownHidesPoliciesAndNothingElse(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	for _, method := range []string{"PbmRetrieveServiceContent", "PbmQueryAssociatedProfiles", "PbmFetchComplianceResult"} {
		if err := s.Fail(method, "SystemError", -1, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.one.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	m, err := s.one.Machine(t.Context())
	if err != nil || !slices.ContainsFunc(m.Disks, func(a mooring.Attachment) bool { return a.Disk == vol.Disk && a.Profile == "" }) {
		t.Errorf("got %+v, %v, want %s without a profile", m, err, vol.Disk)
	}
	spec := mooring.Spec{Name: "new", Size: mooring.GB, FSType: mooring.Ext4, Policy: "SW=2"}
	if _, err := s.one.Create(t.Context(), spec, mooring.Given{Policy: true}); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("create with a policy: got %v, want ErrUnavailable", err)
	}
}

// Hosts of a cluster make their first volumes at the same moment when a stack is brought up on each.
func TestMachinesThatCreateOneNameAtOnceAgree(t *testing.T) {
	s := newSite(t)
	hosts := []*esx.Host{s.one, s.two}
	vols := make([]mooring.Volume, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() {
			vol, err := h.Create(t.Context(), mooring.Spec{Name: "db", Size: mooring.GB, FSType: mooring.XFS}, mooring.Given{Size: true})
			if err != nil {
				t.Error(err)
			}
			vols[i] = vol
		})
	}
	all.Wait()
	if vols[0].Disk != vols[1].Disk || vols[0].FSUUID != vols[1].FSUUID || vols[0].FSUUID == "" || vols[0].Format != mooring.FormatNone {
		t.Errorf("got %+v and %+v, want one volume", vols[0], vols[1])
	}
}

func TestPolicyThatNoDatastoreCanKeepIsRefused(t *testing.T) {
	s := newSite(t)
	s.policy(t, "FTT=3", "hostFailuresToTolerate", 3) // wants seven hosts, there are three
	_, err := s.one.Create(t.Context(), mooring.Spec{Name: "db", Size: mooring.GB, FSType: mooring.Ext4, Policy: "FTT=3"}, mooring.Given{Policy: true})
	if !errors.Is(err, mooring.ErrPolicy) {
		t.Errorf("got %v, want ErrPolicy", err)
	}
	if names, err := s.one.Names(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("got %v, %v, want nothing made", names, err)
	}
}

func TestPluginsAccountMayNotMakePolicies(t *testing.T) {
	s := newSite(t)
	plugin := session(t, s.VCenter, s.Plugin())
	_, err := plugin.CreateProfile(t.Context(), "SW=2", "", []mooring.Capability{{Namespace: "VSAN", ID: "stripeWidth", Value: int32(2)}})
	if !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "StorageProfile.Update") {
		t.Errorf("got %v, want the privilege named", err)
	}
}

// A thin disk takes space when it is written to; one whose policy reserves its space takes it at once.
func TestDiskForWhichThereIsNoSpaceIsRefusedAndLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.policy(t, "reserved", "proportionalCapacity", 100)
	if err := s.SetCapacity("vsanDatastore", int64(mooring.GB)); err != nil {
		t.Fatal(err)
	}
	spec := mooring.Spec{Name: "db", Size: 2 * mooring.GB, FSType: mooring.Ext4, Policy: "reserved"}
	if _, err := s.one.Create(t.Context(), spec, mooring.Given{Policy: true}); !errors.Is(err, mooring.ErrCapacity) {
		t.Errorf("got %v, want ErrCapacity", err)
	}
	if names, err := s.one.Names(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("got %v, %v, want nothing left", names, err)
	}
}

// Four controllers with 15 units each hold the boot disk and 59 volumes.
func TestDisksFillAllControllersAndNotOneMore(t *testing.T) {
	s := newSite(t)
	vols := s.volumes(t, 60)
	before := s.Tasks()["ReconfigVM_Task"]
	if err := errors.Join(attachAll(t, s.one, vols[:59])...); err != nil {
		t.Fatal(err)
	}
	after := s.Tasks()["ReconfigVM_Task"]
	if n := after.Succeeded - before.Succeeded; n > 10 || after.Failed != before.Failed {
		t.Errorf("got %d tasks, %d failed, for 59 disks that came together, want a few and none", n, after.Failed-before.Failed)
	}
	err := s.one.Attach(t.Context(), vols[59])
	_, ok := errors.AsType[*mooring.HintError](err)
	if !errors.Is(err, mooring.ErrCapacity) || !ok || !strings.Contains(err.Error(), "the four controllers") {
		t.Errorf("the 61st disk: got %v, want ErrCapacity with a hint", err)
	}
	if err := s.one.Detach(t.Context(), vols[:59]...); err != nil {
		t.Fatal(err)
	}
	if n := s.Tasks()["ReconfigVM_Task"].Succeeded - after.Succeeded; n != 1 {
		t.Errorf("got %d tasks for the detachment of 59 disks, want 1", n)
	}
}

func TestOneMissingDiskDoesNotKeepOthersAway(t *testing.T) {
	s := newSite(t)
	vols := s.volumes(t, 8)
	lost := vols[3]
	if err := s.one.Delete(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	for i, err := range attachAll(t, s.one, vols) {
		if i == 3 && !errors.Is(err, mooring.ErrNotFound) || i != 3 && (err != nil || !s.attached(vols[i].Disk)) {
			t.Errorf("%s: got %v", vols[i].Name, err)
		}
	}
}

// A second operation on a machine that is busy fails at once on a real host.
func TestBusyMachineIsWaitedFor(t *testing.T) {
	s := newSite(t, func(o *vcenter.Options) { o.Busy = true })
	vols := s.volumes(t, 2)
	s.Delay("ReconfigVM_Task", time.Second)
	other := s.host(t, lab.ThisBIOS) // of the same machine, so that it knows nothing of the first
	first := make(chan error, 1)
	go func() { first <- s.one.Attach(t.Context(), vols[0]) }()
	calls := s.Calls()["ReconfigVM_Task"]
	until(t, "the first task was asked for", func() bool { return s.Calls()["ReconfigVM_Task"] > calls })
	if err := errors.Join(other.Attach(t.Context(), vols[1]), <-first); err != nil {
		t.Errorf("got %v", err)
	}
}

// G9: an outage is told within ten seconds, and ends without a restart.
func TestVCenterThatGoesAndComesBackNeedsNoRestart(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	for name, leave := range map[string]func() error{
		"stopped": s.StopServing,
		"hanging": func() error { s.Hang(); return nil },
	} {
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		for verb, do := range map[string]func() error{
			"attach": func() error { return s.one.Attach(t.Context(), vol) },
			"create": func() error {
				_, err := s.one.Create(t.Context(), mooring.Spec{Name: "new", Size: mooring.GB, FSType: mooring.Ext4}, mooring.Given{})
				return err
			},
		} {
			begin := time.Now()
			if err := do(); !errors.Is(err, mooring.ErrUnavailable) {
				t.Errorf("%s, %s: got %v, want ErrUnavailable", name, verb, err)
			}
			if took := time.Since(begin); took > promise {
				t.Errorf("%s, %s: took %s, want at most %s", name, verb, took, promise)
			}
		}
		s.KillSessions(s.Plugin().User) // a vCenter that was restarted knows no session
		if err := s.StartServing(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.one.Attach(t.Context(), vol), s.one.Detach(t.Context(), vol)); err != nil {
			t.Errorf("%s, and back: got %v", name, err)
		}
	}
}

// vCenter works on while nobody can reach it: the task that it was given is done when it is back.
func TestTaskThatEndsWhileVCenterIsAwayIsReadBack(t *testing.T) {
	s := newSite(t)
	vol := s.volume(t, "db", "")
	s.Delay("ReconfigVM_Task", 300*time.Millisecond)
	calls := s.Calls()["ReconfigVM_Task"]
	done := make(chan error, 1)
	go func() { done <- s.one.Attach(t.Context(), vol) }()
	until(t, "the task was asked for", func() bool { return s.Calls()["ReconfigVM_Task"] > calls })
	if err := s.StopServing(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil && !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	until(t, "the disk is attached", func() bool { return s.attached(vol.Disk) })
	if err := s.StartServing(); err != nil {
		t.Fatal(err)
	}
	if err := s.one.Attach(t.Context(), vol); err != nil || s.Calls()["ReconfigVM_Task"] != calls+1 {
		t.Errorf("got %v and %d tasks, want the one", err, s.Calls()["ReconfigVM_Task"]-calls)
	}
}
