package vcenter

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/vmware/govmomi/pbm/methods"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rules is what a profile demands of vSAN.
type rules struct {
	failures    int32 // hostFailuresToTolerate
	erasure     bool  // RAID 5 or 6 in place of mirrors
	force       bool  // forceProvisioning
	reservation int32 // proportionalCapacity, per cent
	vsan        bool  // there is any vSAN rule
}

// hosts returns how many hosts the rules need.
func (r rules) hosts() int32 {
	switch {
	case r.erasure && r.failures == 1:
		return 4
	case r.erasure && r.failures == 2:
		return 6
	}
	return 2*r.failures + 1
}

// copies returns how many bytes vSAN keeps for each byte.
func (r rules) copies() float64 {
	switch {
	case r.erasure && r.failures == 1:
		return 4.0 / 3
	case r.erasure && r.failures == 2:
		return 1.5
	}
	return float64(r.failures) + 1
}

// capability is a rule that vSAN has.
type capability struct {
	kind     reflect.Kind
	min, max int32
	values   []string
}

// capabilities returns the rules of vSAN by ID, with what their values may be.
func capabilities() map[string]capability {
	number := func(lo, hi int32) capability { return capability{kind: reflect.Int32, min: lo, max: hi} }
	boolean := capability{kind: reflect.Bool}
	text := func(v ...string) capability { return capability{kind: reflect.String, values: v} }
	return map[string]capability{
		"hostFailuresToTolerate":      number(0, 3),
		"subFailuresToTolerate":       number(0, 3),
		"stripeWidth":                 number(1, 12),
		"proportionalCapacity":        number(0, 100),
		"cacheReservation":            number(0, 1000000),
		"iopsLimit":                   number(0, 2147483647),
		"forceProvisioning":           boolean,
		"checksumDisabled":            boolean,
		"replicaPreference":           text("RAID-1 (Mirroring) - Performance", "RAID-5/6 (Erasure Coding) - Capacity"),
		"locality":                    text("None", "Preferred Fault Domain", "Secondary Fault Domain", "HostLocal"),
		"storageType":                 text("Allflash", "Hybrid"),
		"compressionState":            text("compressionOnly", "noSpaceEfficiency"),
		"dataService":                 text("None", "deduplication", "compression"),
		"storageTier":                 text("Allflash", "Hybrid"),
		"affinity":                    text(),
		"spaceEfficiency":             text("None", "Compression", "DedupAndCompression"),
		"secondaryFailuresToTolerate": number(0, 3),
	}
}

// properties calls f for each rule of the constraints.
func properties(c pbmtypes.BasePbmCapabilityConstraints, f func(namespace string, p pbmtypes.PbmCapabilityPropertyInstance) types.BaseMethodFault) types.BaseMethodFault {
	sub, ok := c.(*pbmtypes.PbmCapabilitySubProfileConstraints)
	if !ok {
		return nil
	}
	for _, s := range sub.SubProfiles {
		for _, i := range s.Capability {
			for _, con := range i.Constraint {
				for _, p := range con.PropertyInstance {
					if fault := f(i.Id.Namespace, p); fault != nil {
						return fault
					}
				}
			}
		}
	}
	return nil
}

// checkRules refuses rules that vSAN does not have, and values that it does not take.
func checkRules(c pbmtypes.BasePbmCapabilityConstraints) types.BaseMethodFault {
	known := capabilities()
	n := 0
	fault := properties(c, func(namespace string, p pbmtypes.PbmCapabilityPropertyInstance) types.BaseMethodFault {
		n++
		spec, ok := known[p.Id]
		bad := func(format string, args ...any) types.BaseMethodFault {
			return withMessage(&types.InvalidArgument{InvalidProperty: "createSpec.constraints"}, "pbm.capability",
				"capability %s.%s: %s", namespace, p.Id, fmt.Sprintf(format, args...))
		}
		if namespace != vsanNamespace || !ok {
			return bad("is unknown")
		}
		value := reflect.ValueOf(p.Value)
		if !value.IsValid() || value.Kind() != spec.kind {
			return bad("has a value of type %T, want %s", p.Value, spec.kind)
		}
		switch spec.kind { //nolint:exhaustive // the table has no others
		case reflect.Int32:
			if v := int32(value.Int()); v < spec.min || v > spec.max {
				return bad("is %d, allowed are %d to %d", v, spec.min, spec.max)
			}
		case reflect.String:
			if len(spec.values) > 0 && !slices.Contains(spec.values, value.String()) {
				return bad("is %q, allowed are %q", value.String(), spec.values)
			}
		}
		return nil
	})
	if fault == nil && n == 0 {
		return &types.InvalidArgument{InvalidProperty: "createSpec.constraints"}
	}
	return fault
}

// read returns the rules among the constraints. What they leave open is vSAN's default: one failure tolerated by mirrors.
func read(c pbmtypes.BasePbmCapabilityConstraints) rules {
	r := rules{failures: 1}
	_ = properties(c, func(namespace string, p pbmtypes.PbmCapabilityPropertyInstance) types.BaseMethodFault {
		if namespace != vsanNamespace {
			return nil
		}
		r.vsan = true
		switch v := p.Value.(type) {
		case int32:
			switch p.Id {
			case "hostFailuresToTolerate":
				r.failures = v
			case "proportionalCapacity":
				r.reservation = v
			}
		case bool:
			r.force = r.force || p.Id == "forceProvisioning" && v
		case string:
			r.erasure = r.erasure || p.Id == "replicaPreference" && v != "RAID-1 (Mirroring) - Performance"
		}
		return nil
	})
	return r
}

// rules returns what the profile with that ID demands; of one that is gone, vSAN's default.
func (p *profiles) rules(id string) rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(id); c != nil {
		return read(c.Constraints)
	}
	return rules{failures: 1, vsan: true}
}

// usable returns a fault if the profile is not there, or cannot be used on a datastore of that kind.
func (p *profiles) usable(id, datastore, name string) types.BaseMethodFault {
	if id == "" {
		return nil
	}
	p.mu.Lock()
	c := p.find(id)
	p.mu.Unlock()
	if c == nil {
		return withMessage(&types.InvalidArgument{InvalidProperty: "profile"}, "pbm.profile.gone", "there is no storage profile %s", id)
	}
	ds := p.v.datastore(datastore)
	if ds == nil {
		return &types.InvalidDatastore{Name: datastore}
	}
	if read(c.Constraints).vsan && ds.Summary.Type != vsanType {
		return withMessage(&types.InvalidArgument{InvalidProperty: "profile"}, "pbm.incompatible",
			"the storage policy %q cannot be used for %s: the datastore is not a vSAN datastore", c.Name, name)
	}
	return nil
}

// placeable returns a fault if no disk with the profile can be made on the datastore.
func (p *profiles) placeable(id, datastore, name string) types.BaseMethodFault {
	if fault := p.usable(id, datastore, name); fault != nil {
		return fault
	}
	ds := p.v.datastore(datastore)
	if ds == nil || ds.Summary.Type != vsanType {
		return nil
	}
	r := p.rules(id)
	have, need := int32(len(ds.Host)), r.hosts()
	if have >= need || r.force {
		return nil
	}
	return withMessage(&types.CannotCreateFile{FileFault: types.FileFault{File: name}}, "vob.vsan.clomd.needMoreFaultDomains2",
		"There are currently %d usable fault domains. The operation requires %d more usable fault domains.", have, need-have)
}

// placement is SPBM's placement solver.
type placement struct {
	types.ManagedObjectReference
	p *profiles
}

// hub judges one datastore.
func (s *placement) hub(ds *simulator.Datastore, want []rules) pbmtypes.PbmPlacementCompatibilityResult {
	out := pbmtypes.PbmPlacementCompatibilityResult{
		Hub: pbmtypes.PbmPlacementHub{HubType: ds.Self.Type, HubId: ds.Self.Value},
	}
	for _, r := range want {
		why := ""
		switch {
		case !r.vsan:
		case ds.Summary.Type != vsanType:
			why = "the datastore is not a vSAN datastore"
		case int32(len(ds.Host)) < r.hosts() && !r.force:
			why = fmt.Sprintf("the policy needs %d hosts, the cluster has %d", r.hosts(), len(ds.Host))
		}
		if why != "" {
			out.Error = append(out.Error, types.LocalizedMethodFault{
				Fault: &pbmtypes.PbmCompatibilityCheckFault{Hub: out.Hub}, LocalizedMessage: why,
			})
		}
	}
	return out
}

// hubs judges the datastores that were asked about, all if none was named.
func (s *placement) hubs(ask []pbmtypes.PbmPlacementHub, want []rules) []pbmtypes.PbmPlacementCompatibilityResult {
	var out []pbmtypes.PbmPlacementCompatibilityResult
	for _, e := range s.p.v.reg.All("Datastore") {
		ds, ok := e.(*simulator.Datastore)
		if !ok {
			continue
		}
		named := slices.ContainsFunc(ask, func(h pbmtypes.PbmPlacementHub) bool { return h.HubId == ds.Self.Value })
		if len(ask) == 0 || named {
			out = append(out, s.hub(ds, want))
		}
	}
	return out
}

// profile returns the rules of a profile that exists.
func (s *placement) profile(id pbmtypes.PbmProfileId) (rules, types.BaseMethodFault) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	c := s.p.find(id.UniqueId)
	if c == nil {
		return rules{}, &types.InvalidArgument{InvalidProperty: "profile"}
	}
	return read(c.Constraints), nil
}

// PbmCheckRequirements says which datastores can keep the requirements, and of the others why not.
func (s *placement) PbmCheckRequirements(req *pbmtypes.PbmCheckRequirements) soap.HasFault {
	body := new(methods.PbmCheckRequirementsBody)
	var want []rules
	for _, r := range req.PlacementSubjectRequirement {
		switch r := r.(type) {
		case *pbmtypes.PbmPlacementCapabilityProfileRequirement:
			one, fault := s.profile(r.ProfileId)
			if fault != nil {
				body.Fault_ = simulator.Fault("", fault)
				return body
			}
			want = append(want, one)
		case *pbmtypes.PbmPlacementCapabilityConstraintsRequirement:
			want = append(want, read(r.Constraints))
		}
	}
	body.Res = &pbmtypes.PbmCheckRequirementsResponse{Returnval: s.hubs(req.HubsToSearch, want)}
	return body
}

// PbmCheckCompatibility does the same for one profile.
func (s *placement) PbmCheckCompatibility(req *pbmtypes.PbmCheckCompatibility) soap.HasFault {
	body := new(methods.PbmCheckCompatibilityBody)
	want, fault := s.profile(req.Profile)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &pbmtypes.PbmCheckCompatibilityResponse{Returnval: s.hubs(req.HubsToSearch, []rules{want})}
	return body
}

// PbmQueryMatchingHub lists the datastores that can keep the profile.
func (s *placement) PbmQueryMatchingHub(req *pbmtypes.PbmQueryMatchingHub) soap.HasFault {
	body := new(methods.PbmQueryMatchingHubBody)
	want, fault := s.profile(req.Profile)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = new(pbmtypes.PbmQueryMatchingHubResponse)
	for _, r := range s.hubs(req.HubsToSearch, []rules{want}) {
		if len(r.Error) == 0 {
			body.Res.Returnval = append(body.Res.Returnval, r.Hub)
		}
	}
	return body
}

// compliance is SPBM's compliance manager.
type compliance struct {
	types.ManagedObjectReference
	p *profiles
}

// judge compares how the disk was placed with what its profile demands.
func (c *compliance) judge(e pbmtypes.PbmServerObjectRef) (pbmtypes.PbmComplianceResult, types.BaseMethodFault) {
	res := pbmtypes.PbmComplianceResult{
		CheckTime: time.Now(), Entity: e, ComplianceTaskStatus: string(pbmtypes.PbmComplianceResultComplianceTaskStatusSuccess),
		ComplianceStatus: string(pbmtypes.PbmComplianceStatusNotApplicable),
	}
	id, uuid, fault := c.p.associated(e)
	if fault != nil || id == "" {
		return res, fault
	}
	res.Profile = &pbmtypes.PbmProfileId{UniqueId: id}
	c.p.v.hw.Lock()
	placed := c.p.v.applied[uuid]
	c.p.v.hw.Unlock()
	c.p.mu.Lock()
	known := c.p.find(id) != nil
	c.p.mu.Unlock()
	want := c.p.rules(id)
	ds := c.p.v.datastore(VSANDatastore)
	switch {
	case !known:
		res.ComplianceStatus = string(pbmtypes.PbmComplianceStatusUnknown)
	case placed != id || int32(len(ds.Host)) < want.hosts():
		res.ComplianceStatus = string(pbmtypes.PbmComplianceStatusNonCompliant)
		res.Mismatch = placed != id
	default:
		res.ComplianceStatus = string(pbmtypes.PbmComplianceStatusCompliant)
	}
	return res, nil
}

func (c *compliance) all(entities []pbmtypes.PbmServerObjectRef) ([]pbmtypes.PbmComplianceResult, types.BaseMethodFault) {
	var out []pbmtypes.PbmComplianceResult
	for _, e := range entities {
		r, fault := c.judge(e)
		if fault != nil {
			return nil, fault
		}
		out = append(out, r)
	}
	return out, nil
}

// PbmCheckCompliance checks attached disks now.
func (c *compliance) PbmCheckCompliance(req *pbmtypes.PbmCheckCompliance) soap.HasFault {
	body := new(methods.PbmCheckComplianceBody)
	out, fault := c.all(req.Entities)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &pbmtypes.PbmCheckComplianceResponse{Returnval: out}
	return body
}

// PbmFetchComplianceResult returns what the last check found; the lab checks anew.
func (c *compliance) PbmFetchComplianceResult(req *pbmtypes.PbmFetchComplianceResult) soap.HasFault {
	body := new(methods.PbmFetchComplianceResultBody)
	out, fault := c.all(req.Entities)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &pbmtypes.PbmFetchComplianceResultResponse{Returnval: out}
	return body
}
