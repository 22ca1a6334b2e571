package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring"
)

// The options of docker volume create.
const (
	optSize   = "size"
	optFSType = "fstype"
	optPolicy = "vsan-policy-name"
)

// ParseOptions returns the volume that name and the options of docker volume create ask for, and which of them were given. All
// that is wrong is reported at once, each error naming the option, its value and what is allowed; it wraps [mooring.ErrInvalid].
func ParseOptions(name string, opts map[string]string) (mooring.Spec, mooring.Given, error) {
	var (
		spec  = mooring.Spec{Size: mooring.DefaultSize, FSType: mooring.Ext4}
		given mooring.Given
		errs  []error
	)
	n, err := mooring.ParseName(name)
	errs = append(errs, err)
	spec.Name = n
	keys := make([]string, 0, len(opts))
	for key := range opts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := opts[key]
		switch key {
		case optSize:
			given.Size = true
			spec.Size, err = mooring.ParseSize(value)
		case optFSType:
			given.FSType = true
			spec.FSType, err = parseFSType(value)
		case optPolicy:
			given.Policy = true
			spec.Policy, err = parsePolicy(value)
		default:
			err = fmt.Errorf("option %s=%q: unknown, allowed are %s, %s and %s: %w", key, value, optSize, optFSType, optPolicy, mooring.ErrInvalid)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return mooring.Spec{}, mooring.Given{}, err
	}
	if spec.FSType == mooring.XFS && spec.Size < mooring.MinXFSSize {
		return mooring.Spec{}, mooring.Given{}, fmt.Errorf("option size=%q: fstype xfs wants %s at least: %w", opts[optSize], mooring.MinXFSSize, mooring.ErrInvalid)
	}
	return spec, given, nil
}

func parseFSType(s string) (mooring.FSType, error) {
	if slices.Contains(mooring.FSTypes(), mooring.FSType(s)) {
		return mooring.FSType(s), nil
	}
	allowed := make([]string, 0, len(mooring.FSTypes()))
	for _, t := range mooring.FSTypes() {
		allowed = append(allowed, string(t))
	}
	return "", fmt.Errorf("option fstype=%q: allowed are %s: %w", s, strings.Join(allowed, " and "), mooring.ErrInvalid)
}

func parsePolicy(s string) (mooring.PolicyName, error) {
	if strings.TrimSpace(s) == "" {
		return "", fmt.Errorf("option vsan-policy-name=%q: want the name of a storage policy, see mooring policy ls: %w", s, mooring.ErrInvalid)
	}
	return mooring.PolicyName(s), nil
}

// differences returns what the given options ask for that vol is not, each as "size is 10gb, not 20gb".
func differences(vol mooring.Volume, spec mooring.Spec, given mooring.Given) []string {
	var diffs []string
	add := func(differs bool, what, is, want string) {
		if differs {
			if is == "" {
				is = "not set"
			}
			diffs = append(diffs, fmt.Sprintf("%s is %s, not %s", what, is, want))
		}
	}
	add(given.Size && vol.Size != spec.Size, optSize, vol.Size.String(), spec.Size.String())
	add(given.FSType && vol.FSType != spec.FSType, optFSType, string(vol.FSType), string(spec.FSType))
	add(given.Policy && vol.Policy != spec.Policy, optPolicy, string(vol.Policy), string(spec.Policy))
	return diffs
}
