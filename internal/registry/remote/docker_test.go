package remote_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/remote"
)

func basicAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func dockerFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// helper puts a credential helper into the PATH, which answers each registry with a line of its own.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\n[ \"$1\" = get ] || exit 9\nread -r key || :\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(text), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// People have logged in with docker, in one of several ways, and need not do so again.
func TestCredentialsComeFromDockersConfiguration(t *testing.T) {
	helper(t, "keys", `case $key in
	harbor.example.com) echo '{"ServerURL":"x","Username":"ann","Secret":"kept"}';;
	https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"refresh"}';;
	broken.example.com) echo 'the keyring is locked'; exit 1;;
	*) echo 'credentials not found in native keychain'; exit 1;;
	esac`)
	auths := `{"auths":{"harbor.example.com":{"auth":"` + basicAuth("robot$library+verify", "pass:word") + `"},"https://other.example.com:8443/v1/":{"auth":"` + basicAuth("bob", "secret") + `"},
		"token.example.com":{"identitytoken":"refresh"},"empty.example.com":{},"torn.example.com":{"auth":"%%%"},"https://index.docker.io/v1/":{"auth":"` + basicAuth("hub", "pw") + `"}}`
	for _, c := range []struct {
		name, conf, registry string
		want                 remote.Credentials
		err                  error
	}{
		{"an entry", auths + "}", "harbor.example.com", remote.Credentials{User: "robot$library+verify", Password: "pass:word"}, nil},
		{"with https in front", auths + "}", "https://harbor.example.com/", remote.Credentials{User: "robot$library+verify", Password: "pass:word"}, nil},
		{"an entry with a path", auths + "}", "other.example.com:8443", remote.Credentials{User: "bob", Password: "secret"}, nil},
		{"another port", auths + "}", "other.example.com", remote.Credentials{}, mooring.ErrNotFound},
		{"an identity token", auths + "}", "token.example.com", remote.Credentials{Token: "refresh"}, nil},
		{"docker's own", auths + "}", "docker.io", remote.Credentials{User: "hub", Password: "pw"}, nil},
		{"an empty entry", auths + "}", "empty.example.com", remote.Credentials{}, mooring.ErrNotFound},
		{"an entry that is torn", auths + "}", "torn.example.com", remote.Credentials{}, mooring.ErrInvalid},
		{"a store", `{"auths":{"harbor.example.com":{}},"credsStore":"keys"}`, "harbor.example.com", remote.Credentials{User: "ann", Password: "kept"}, nil},
		{"a store for docker's own", `{"credsStore":"keys"}`, "docker.io", remote.Credentials{Token: "refresh"}, nil},
		{"a store that has none, and an entry", auths + `,"credsStore":"keys"}`, "other.example.com:8443", remote.Credentials{User: "bob", Password: "secret"}, nil},
		{"a helper for this one", auths + `,"credHelpers":{"harbor.example.com":"keys"}}`, "harbor.example.com", remote.Credentials{User: "ann", Password: "kept"}, nil},
		{"a helper for another", `{"credHelpers":{"harbor.example.com":"keys"}}`, "x.example.com", remote.Credentials{}, mooring.ErrNotFound},
		{"a helper that fails", `{"credsStore":"keys"}`, "broken.example.com", remote.Credentials{}, mooring.ErrInvalid},
		{"a helper that is not there", `{"credsStore":"absent-from-this-machine"}`, "x.example.com", remote.Credentials{}, mooring.ErrInvalid},
		{"a helper that is a path", `{"credsStore":"../../tmp/x"}`, "x.example.com", remote.Credentials{}, mooring.ErrInvalid},
		{"nothing", "{}", "harbor.example.com", remote.Credentials{}, mooring.ErrNotFound},
		{"no JSON", "{", "harbor.example.com", remote.Credentials{}, mooring.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := remote.DockerCredentials(t.Context(), dockerFile(t, c.conf), c.registry)
			if got != c.want {
				t.Errorf("got %q %q %q, want %q %q %q", got.User, string(got.Password), string(got.Token), c.want.User, string(c.want.Password), string(c.want.Token))
			}
			switch {
			case c.err != nil:
				wantError(t, err, c.err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

func TestWhoNeverLoggedInHasNoCredentials(t *testing.T) {
	_, err := remote.DockerCredentials(t.Context(), filepath.Join(t.TempDir(), "absent"), "a")
	wantError(t, err, mooring.ErrNotFound)
	_, err = remote.DockerCredentials(t.Context(), "", "a")
	wantError(t, err, mooring.ErrNotFound)
	t.Setenv("DOCKER_CONFIG", "/elsewhere")
	want(t, "file", remote.DockerConfigFile(), "/elsewhere/config.json")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", "/home/ann")
	want(t, "file", remote.DockerConfigFile(), "/home/ann/.docker/config.json")
}

// The file is written by other programs, and may be anything. It gives credentials, or says why not.
func FuzzDockerCredentials(f *testing.F) {
	f.Add(`{"auths":{"a.example.com":{"auth":"YW5uOnBhc3M="}}}`)
	f.Add(`{"auths":{"https://a.example.com/v1/":{"username":"ann","password":"pass"}},"credHelpers":{}}`)
	f.Add(`{"auths":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := remote.DockerEntry([]byte(text), "a.example.com")
		if (err == nil) == (c == (remote.Credentials{})) {
			t.Errorf("got %v, and credentials %v", err, c != (remote.Credentials{}))
		}
	})
}
