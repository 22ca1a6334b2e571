package vcenter_test

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/pbm/methods"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

func (s *site) spbm() *pbm.Client {
	s.t.Helper()
	c, err := pbm.NewClient(s.t.Context(), s.c.Client)
	s.must(err)
	return c
}

// policy makes a profile with vSAN rules, given as ID and value in turn.
func (s *site) policy(name string, rules ...any) (string, error) {
	s.t.Helper()
	var caps []pbmtypes.PbmCapabilityInstance
	for i := 0; i+1 < len(rules); i += 2 {
		id, _ := rules[i].(string)
		caps = append(caps, pbmtypes.PbmCapabilityInstance{
			Id: pbmtypes.PbmCapabilityMetadataUniqueId{Namespace: "VSAN", Id: id},
			Constraint: []pbmtypes.PbmCapabilityConstraintInstance{{
				PropertyInstance: []pbmtypes.PbmCapabilityPropertyInstance{{Id: id, Value: rules[i+1]}},
			}},
		})
	}
	id, err := s.spbm().CreateProfile(s.t.Context(), pbmtypes.PbmCapabilityProfileCreateSpec{
		Name: name, Category: string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT),
		ResourceType: pbmtypes.PbmProfileResourceType{ResourceType: string(pbmtypes.PbmProfileResourceTypeEnumSTORAGE)},
		Constraints: &pbmtypes.PbmCapabilitySubProfileConstraints{
			SubProfiles: []pbmtypes.PbmCapabilitySubProfile{{Name: "rules", Capability: caps}},
		},
	})
	if err != nil {
		return "", err
	}
	return id.UniqueId, nil
}

func defined(id string) types.BaseVirtualMachineProfileSpec {
	return &types.VirtualMachineDefinedProfileSpec{ProfileId: id}
}

// Two policies of one name could not be told apart by those who ask for one.
func TestPolicyNamesAreUnique(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		_, err := s.policy("SW=2", "stripeWidth", int32(2))
		s.must(err)
		_, err = s.policy("SW=2", "stripeWidth", int32(3))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &pbmtypes.PbmDuplicateName{})
	})
}

// vSAN knows its rules and their ranges.
func TestRulesThatVSANDoesNotHaveAreRefused(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]any{
		"unknown":      {"stripes", int32(2)},
		"out of range": {"stripeWidth", int32(13)},
		"wrong type":   {"stripeWidth", "2"},
		"wrong word":   {"replicaPreference", "RAID-0"},
		"none":         {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(s *site, plain bool) {
				t := s.t
				_, err := s.policy("bad", rules...)
				if plain {
					if err != nil {
						t.Fatalf("plain vcsim has got the rule: %v", err)
					}
					return
				}
				wantFault(t, err, &types.InvalidArgument{})
			})
		})
	}
}

// compatible returns the names of the datastores that the placement solver finds compatible.
func (s *site) compatible(id string) []string {
	s.t.Helper()
	res, err := s.spbm().CheckRequirements(s.t.Context(), nil, nil, []pbmtypes.BasePbmPlacementRequirement{
		&pbmtypes.PbmPlacementCapabilityProfileRequirement{ProfileId: pbmtypes.PbmProfileId{UniqueId: id}},
	})
	s.must(err)
	var out []string
	for _, hub := range res.CompatibleDatastores() {
		ds := object.NewDatastore(s.c.Client, types.ManagedObjectReference{Type: hub.HubType, Value: hub.HubId})
		name, err := ds.ObjectName(s.t.Context())
		s.must(err)
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// A vSAN policy can be kept on vSAN only, and only by as many hosts as it takes.
func TestOnlyDatastoresThatCanKeepAPolicyAreCompatible(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		for name, c := range map[string]struct {
			rules []any
			want  []string
		}{
			"one failure":               {[]any{"hostFailuresToTolerate", int32(1)}, []string{vcenter.VSANDatastore}},
			"two failures, three hosts": {[]any{"hostFailuresToTolerate", int32(2)}, nil},
			"forced": {
				[]any{"hostFailuresToTolerate", int32(2), "forceProvisioning", true}, []string{vcenter.VSANDatastore},
			},
			"RAID 5, three hosts": {
				[]any{"hostFailuresToTolerate", int32(1), "replicaPreference", "RAID-5/6 (Erasure Coding) - Capacity"}, nil,
			},
		} {
			id, err := s.policy(name, c.rules...)
			s.must(err)
			if got := s.compatible(id); slices.Equal(got, c.want) == plain {
				t.Errorf("%s: got %q, want %q: %v", name, got, c.want, !plain)
			}
		}
	})
}

// A disk is made with a policy only where it can be kept, and with a policy that is there.
func TestDiskIsNotMadeAgainstItsPolicy(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.folder()
		s.must(object.NewFileManager(s.c.Client).MakeDirectory(t.Context(), "[vmfsDatastore] dockvols", s.dc, false))
		sw, err := s.policy("SW=2", "stripeWidth", int32(2))
		s.must(err)
		ftt, err := s.policy("FTT=2", "hostFailuresToTolerate", int32(2))
		s.must(err)
		s.must(s.create("[vsanDatastore] dockvols/good.vmdk", 32, defined(sw)))
		for name, c := range map[string]struct {
			disk, profile string
			want          types.BaseMethodFault
		}{
			"not vSAN":       {"[vmfsDatastore] dockvols/a.vmdk", sw, &types.InvalidArgument{}},
			"too few hosts":  {"[vsanDatastore] dockvols/b.vmdk", ftt, &types.CannotCreateFile{}},
			"no such policy": {"[vsanDatastore] dockvols/c.vmdk", "gone", &types.InvalidArgument{}},
		} {
			err := s.create(c.disk, 32, defined(c.profile))
			if plain {
				if err != nil {
					t.Errorf("%s: plain vcsim has got the rule: %v", name, err)
				}
				continue
			}
			wantFault(t, err, c.want)
		}
	})
}

// associated returns the profile that vCenter shows for the machine's only disk, and whether the disk complies.
func (s *site) associated(vm *object.VirtualMachine) (id, status string) {
	s.t.Helper()
	d := s.disks(vm)[0]
	c := s.spbm()
	ref := pbmtypes.PbmServerObjectRef{
		ObjectType: string(pbmtypes.PbmObjectTypeVirtualDiskId),
		Key:        vm.Reference().Value + ":" + itoa(d.Key),
	}
	res, err := methods.PbmQueryAssociatedProfiles(s.t.Context(), c, &pbmtypes.PbmQueryAssociatedProfiles{
		This: c.ServiceContent.ProfileManager, Entities: []pbmtypes.PbmServerObjectRef{ref},
	})
	s.must(err)
	if len(res.Returnval) > 0 && len(res.Returnval[0].ProfileId) > 0 {
		id = res.Returnval[0].ProfileId[0].UniqueId
	}
	fetched, err := methods.PbmFetchComplianceResult(s.t.Context(), c, &pbmtypes.PbmFetchComplianceResult{
		This: c.ServiceContent.ComplianceManager, Entities: []pbmtypes.PbmServerObjectRef{ref},
	})
	if err == nil && len(fetched.Returnval) > 0 {
		status = fetched.Returnval[0].ComplianceStatus
	}
	return id, status
}

// The policy of an attached disk is shown if it was given with it. Without, vCenter shows none, whatever the object was placed by.
func TestAttachedDiskShowsItsPolicy(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.folder()
		id, err := s.policy("SW=2", "stripeWidth", int32(2))
		s.must(err)
		disk := "[vsanDatastore] dockvols/web.vmdk"
		s.must(s.create(disk, 32, defined(id)))
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		if got, _ := s.associated(s.one); got != "" {
			t.Fatalf("attached without profile: got %q, want none", got)
		}
		s.must(s.reconfigure(s.one, remove(s.disks(s.one)[0].Key)))
		c := add(disk, 1001, new(int32(0)))
		c.Profile = []types.BaseVirtualMachineProfileSpec{defined(id)}
		s.must(s.reconfigure(s.one, c))
		got, status := s.associated(s.one)
		if right := got == id && status == string(pbmtypes.PbmComplianceStatusCompliant); right == plain {
			t.Fatalf("got profile %q, %q, which is right: %v, want %v", got, status, right, !plain)
		}
	})
}

// A policy that was deleted cannot be used any more, and says so where it is still shown.
func TestDeletedPolicyCannotBeUsed(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		id, err := s.policy("SW=2", "stripeWidth", int32(2))
		s.must(err)
		first, second := s.disk("first"), s.disk("second")
		attach := func(disk string, u int32) error {
			c := add(disk, 1001, new(u))
			c.Profile = []types.BaseVirtualMachineProfileSpec{defined(id)}
			return s.reconfigure(s.one, c)
		}
		s.must(attach(first, 0))
		_, err = s.spbm().DeleteProfile(t.Context(), []pbmtypes.PbmProfileId{{UniqueId: id}})
		s.must(err)
		err = attach(second, 1)
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.InvalidArgument{})
		if _, status := s.associated(s.one); status != string(pbmtypes.PbmComplianceStatusUnknown) {
			t.Fatalf("got compliance %q, want unknown", status)
		}
		res, err := s.spbm().DeleteProfile(t.Context(), []pbmtypes.PbmProfileId{{UniqueId: id}})
		s.must(err)
		if len(res) != 1 || res[0].Fault == nil {
			t.Fatalf("deleted twice: got %+v, want a fault beside the profile", res)
		}
	})
}

// What a policy reserves is taken from the datastore at once, for each copy.
func TestReservationOfAPolicyTakesSpace(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	s.folder()
	id, err := s.policy("reserved", "proportionalCapacity", int32(100), "hostFailuresToTolerate", int32(1))
	s.must(err)
	s.must(s.SetCapacity(vcenter.VSANDatastore, 10<<30))
	s.must(s.create("[vsanDatastore] dockvols/a.vmdk", 4<<10, defined(id)))
	wantFault(t, s.create("[vsanDatastore] dockvols/b.vmdk", 4<<10, defined(id)), &types.NoDiskSpace{})
	s.must(s.create("[vsanDatastore] dockvols/b.vmdk", 4<<10))
}
