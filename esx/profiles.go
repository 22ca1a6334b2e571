package esx

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/pbm/methods"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// Profile is a storage policy's object in vCenter.
type Profile struct {
	ID           mooring.ProfileID
	Name         mooring.PolicyName
	Description  string
	Capabilities []mooring.Capability
}

// spbm returns a client for vCenter's storage policy service.
func (s *Session) spbm(ctx context.Context) (*pbm.Client, error) {
	l, err := s.after(ctx, 0)
	if err != nil {
		return nil, explain(err)
	}
	c := &pbm.Client{Client: l.vim.NewServiceClient(pbm.Path, pbm.Namespace), RoundTripper: pbmTrip{s}}
	err = read(ctx, func() error {
		res, err := methods.PbmRetrieveServiceContent(ctx, c, &pbmtypes.PbmRetrieveServiceContent{This: pbm.ServiceInstance})
		if err == nil {
			c.ServiceContent = res.Returnval
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask vCenter's storage policy service: %w", err)
	}
	return c, nil
}

// Profiles lists the storage policies that may be asked for, by name.
func (s *Session) Profiles(ctx context.Context) ([]Profile, error) {
	c, err := s.spbm(ctx)
	if err != nil {
		return nil, err
	}
	return profiles(ctx, c)
}

func profiles(ctx context.Context, c *pbm.Client) ([]Profile, error) {
	var list []Profile
	err := read(ctx, func() error {
		kind := pbmtypes.PbmProfileResourceType{ResourceType: string(pbmtypes.PbmProfileResourceTypeEnumSTORAGE)}
		ids, err := c.QueryProfile(ctx, kind, string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT))
		if err != nil || len(ids) == 0 {
			return err
		}
		content, err := c.RetrieveContent(ctx, ids)
		list = make([]Profile, 0, len(content))
		for _, b := range content {
			list = append(list, profileOf(b))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list storage policies: %w", err)
	}
	slices.SortFunc(list, func(a, b Profile) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return list, nil
}

// profileOf returns what SPBM describes. Of a capability with several properties, which vSAN has none of, each becomes one of ours.
func profileOf(b pbmtypes.BasePbmProfile) Profile {
	base := b.GetPbmProfile()
	p := Profile{ID: mooring.ProfileID(base.ProfileId.UniqueId), Name: mooring.PolicyName(base.Name), Description: base.Description}
	c, ok := b.(*pbmtypes.PbmCapabilityProfile)
	if !ok {
		return p
	}
	constraints, ok := c.Constraints.(*pbmtypes.PbmCapabilitySubProfileConstraints)
	if !ok {
		return p
	}
	for _, sub := range constraints.SubProfiles {
		for _, instance := range sub.Capability {
			for _, constraint := range instance.Constraint {
				for _, property := range constraint.PropertyInstance {
					p.Capabilities = append(p.Capabilities, mooring.Capability{
						Namespace: instance.Id.Namespace, ID: property.Id, Value: property.Value,
					})
				}
			}
		}
	}
	return p
}

// FindProfile returns the storage policy of that name. The error wraps [mooring.ErrPolicy] and lists those there are.
func (s *Session) FindProfile(ctx context.Context, name mooring.PolicyName) (Profile, error) {
	list, err := s.Profiles(ctx)
	if err != nil {
		return Profile{}, err
	}
	return pick(list, name)
}

func pick(list []Profile, name mooring.PolicyName) (Profile, error) {
	var names []string
	for _, p := range list {
		if p.Name == name {
			return p, nil
		}
		names = append(names, fmt.Sprintf("%q", p.Name))
	}
	return Profile{}, fmt.Errorf("there is no storage policy %q, there are %s: %w", name, strings.Join(names, ", "), mooring.ErrPolicy)
}

// CreateProfile makes a storage policy. The account needs the right to (StorageProfile.Update), which the plugin's account does not have. The
// error wraps [mooring.ErrExists] if there is one of that name, [mooring.ErrInvalid] if a value's type is none that SPBM knows.
func (s *Session) CreateProfile(ctx context.Context, name mooring.PolicyName, description string, rules []mooring.Capability) (mooring.ProfileID, error) {
	spec, err := profileSpec(name, description, rules)
	if err != nil {
		return "", err
	}
	c, err := s.spbm(ctx)
	if err != nil {
		return "", err
	}
	list, err := profiles(ctx, c)
	if err != nil {
		return "", err
	}
	if p, err := pick(list, name); err == nil {
		return p.ID, fmt.Errorf("make storage policy %q: there is one with ID %s: %w", name, p.ID, mooring.ErrExists)
	}
	id, err := c.CreateProfile(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("make storage policy %q: %w", name, explain(err))
	}
	return mooring.ProfileID(id.UniqueId), nil
}

// profileSpec returns what SPBM is asked to make.
func profileSpec(name mooring.PolicyName, description string, rules []mooring.Capability) (pbmtypes.PbmCapabilityProfileCreateSpec, error) {
	var none pbmtypes.PbmCapabilityProfileCreateSpec
	switch {
	case name == "" || len(name) > 80:
		return none, fmt.Errorf("storage policy name %q: want 1 to 80 characters: %w", name, mooring.ErrInvalid)
	case len(rules) == 0:
		return none, fmt.Errorf("storage policy %q: has no rule: %w", name, mooring.ErrInvalid)
	}
	instances := make([]pbmtypes.PbmCapabilityInstance, 0, len(rules))
	for _, r := range rules {
		switch r.Value.(type) {
		case int32, bool, string:
		default:
			return none, fmt.Errorf("storage policy %q: %s.%s has a value of type %T, want int32, bool or string: %w", name, r.Namespace, r.ID, r.Value, mooring.ErrInvalid)
		}
		instances = append(instances, pbmtypes.PbmCapabilityInstance{
			Id: pbmtypes.PbmCapabilityMetadataUniqueId{Namespace: r.Namespace, Id: r.ID},
			Constraint: []pbmtypes.PbmCapabilityConstraintInstance{{
				PropertyInstance: []pbmtypes.PbmCapabilityPropertyInstance{{Id: r.ID, Value: r.Value}},
			}},
		})
	}
	return pbmtypes.PbmCapabilityProfileCreateSpec{
		Name: string(name), Description: description,
		Category:     string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT),
		ResourceType: pbmtypes.PbmProfileResourceType{ResourceType: string(pbmtypes.PbmProfileResourceTypeEnumSTORAGE)},
		Constraints: &pbmtypes.PbmCapabilitySubProfileConstraints{
			SubProfiles: []pbmtypes.PbmCapabilitySubProfile{{Name: "Rule-Set 1", Capability: instances}},
		},
	}, nil
}

// DeleteProfile removes the storage policy of that name. Volumes that were made with it keep their placement.
func (s *Session) DeleteProfile(ctx context.Context, name mooring.PolicyName) error {
	c, err := s.spbm(ctx)
	if err != nil {
		return err
	}
	list, err := profiles(ctx, c)
	if err != nil {
		return err
	}
	p, err := pick(list, name)
	if err != nil {
		return err
	}
	outcomes, err := c.DeleteProfile(ctx, []pbmtypes.PbmProfileId{{UniqueId: string(p.ID)}})
	if err != nil {
		return fmt.Errorf("remove storage policy %q: %w", name, explain(err))
	}
	for _, o := range outcomes {
		if o.Fault != nil {
			return fmt.Errorf("remove storage policy %q: %w", name, explain(&missing{o.Fault}))
		}
	}
	return nil
}

// missing is a fault that stands beside a result, as in a missing set.
type missing struct{ *types.LocalizedMethodFault }

// Error returns the fault's message.
func (m *missing) Error() string { return m.LocalizedMessage }

// CompatibleDatastores lists the names of the datastores that can hold a disk with the profile, as vCenter's placement says.
func (s *Session) CompatibleDatastores(ctx context.Context, id mooring.ProfileID) ([]string, error) {
	vim, err := s.vim(ctx)
	if err != nil {
		return nil, err
	}
	var stores []mo.Datastore
	err = read(ctx, func() error {
		stores = nil
		v, err := view.NewManager(vim).CreateContainerView(ctx, vim.ServiceContent.RootFolder, []string{"Datastore"}, true)
		if err != nil {
			return err
		}
		defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
		return v.Retrieve(ctx, []string{"Datastore"}, []string{"name"}, &stores)
	})
	if err != nil {
		return nil, fmt.Errorf("list datastores: %w", err)
	}
	return s.compatible(ctx, id, stores)
}

// compatible returns the names of those datastores among stores that can hold a disk with the profile.
func (s *Session) compatible(ctx context.Context, id mooring.ProfileID, stores []mo.Datastore) ([]string, error) {
	c, err := s.spbm(ctx)
	if err != nil {
		return nil, err
	}
	var hubs []pbmtypes.PbmPlacementHub
	names := map[string]string{}
	for _, ds := range stores {
		hubs = append(hubs, pbmtypes.PbmPlacementHub{HubType: ds.Self.Type, HubId: ds.Self.Value})
		names[ds.Self.Value] = ds.Name
	}
	want := []pbmtypes.BasePbmPlacementRequirement{
		&pbmtypes.PbmPlacementCapabilityProfileRequirement{ProfileId: pbmtypes.PbmProfileId{UniqueId: string(id)}},
	}
	var list []string
	err = read(ctx, func() error {
		res, err := c.CheckRequirements(ctx, hubs, nil, want)
		list = nil
		for _, hub := range res.CompatibleDatastores() {
			if name := names[hub.HubId]; name != "" {
				list = append(list, name)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask which datastores are compatible with profile %s: %w", id, err)
	}
	slices.Sort(list)
	return list, nil
}

// placeable returns the profile of the policy if our datastore can hold a disk with it. The error wraps [mooring.ErrPolicy] and names what there is.
func (h *Host) placeable(ctx context.Context, p *place, policy mooring.PolicyName) (mooring.ProfileID, error) {
	profile, err := h.session.FindProfile(ctx, policy)
	if err != nil {
		return "", err
	}
	list, err := h.session.compatible(ctx, profile.ID, p.stores)
	if err != nil {
		return "", err
	}
	if slices.Contains(list, p.ds.Name) {
		return profile.ID, nil
	}
	others := "no datastore is"
	if len(list) > 0 {
		others = "compatible are " + strings.Join(list, ", ")
	}
	return "", fmt.Errorf("the datastore %s is not compatible with the storage policy %q, %s: %w", p.ds.Name, policy, others, mooring.ErrPolicy)
}
