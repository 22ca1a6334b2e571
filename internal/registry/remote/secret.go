package remote

import "log/slog"

// Secret is a password or a token. Whatever prints, logs or encodes it gets a placeholder; string(s) is the one way to what it holds.
type Secret string

const hidden = "[hidden]"

// String hides the secret, and says no more than whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from JSON and whatever else is made of a configuration.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
