package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mooring-sh/mooring"
)

// dockerHub is under what docker keeps the credentials of its own registry.
const dockerHub = "https://index.docker.io/v1/"

// dockerConfig is what is read of docker's config.json.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"` // user:password, in base64
	Username      string `json:"username"`
	Password      Secret `json:"password"`
	IdentityToken Secret `json:"identitytoken"`
}

// DockerConfigFile returns where `docker login` keeps credentials: in $DOCKER_CONFIG, or below the home directory. Empty: there is neither.
func DockerConfigFile() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// DockerCredentials returns the credentials that docker would use for the registry: from the credential helper that the file names for it, from the one for
// all, or from the file itself, in this order, as docker does. None: the error wraps [mooring.ErrNotFound]. A helper is a program docker-credential-NAME of the PATH.
func DockerCredentials(ctx context.Context, file, name string) (Credentials, error) {
	text, err := os.ReadFile(file)
	switch {
	case file == "" || errors.Is(err, fs.ErrNotExist):
		return Credentials{}, fmt.Errorf("credentials for %s: there is no file of docker's: %w", name, mooring.ErrNotFound)
	case err != nil:
		return Credentials{}, fmt.Errorf("credentials for %s: %w", name, err)
	}
	address, err := parseAddress(name, true)
	if err != nil {
		return Credentials{}, err
	}
	conf, err := parseDockerConfig(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials for %s: %s: %w", name, file, err)
	}
	keys := dockerKeys(address.host)
	c, err := Credentials{}, mooring.ErrNotFound
	if helper, asked := conf.helper(keys); helper != "" {
		c, err = askHelpers(ctx, helper, asked)
	}
	if errors.Is(err, mooring.ErrNotFound) {
		c, err = conf.entry(keys)
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials for %s, of %s: %w", name, file, err)
	}
	return c, nil
}

// helper returns the credential helper for a registry, and under what to ask it.
func (c dockerConfig) helper(keys []string) (name string, asked []string) {
	for _, key := range keys {
		if c.CredHelpers[key] != "" {
			return c.CredHelpers[key], []string{key}
		}
	}
	return c.CredsStore, keys
}

// entry returns the credentials that the file itself has.
func (c dockerConfig) entry(keys []string) (Credentials, error) {
	for _, key := range keys {
		if auth, ok := c.Auths[key]; ok {
			if c, err := auth.credentials(); err != nil || c != (Credentials{}) {
				return c, err
			}
		}
	}
	return Credentials{}, fmt.Errorf("none: docker login makes some: %w", mooring.ErrNotFound)
}

// dockerKeys returns under what a registry's credentials may be kept.
func dockerKeys(host string) []string {
	if host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io" {
		return []string{dockerHub, "docker.io"}
	}
	return []string{host, "https://" + host, "https://" + host + "/", "http://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/"}
}

// parseDockerConfig reads the file; no error shows any of it.
func parseDockerConfig(text []byte) (dockerConfig, error) {
	var conf dockerConfig
	if err := json.Unmarshal(text, &conf); err != nil {
		return dockerConfig{}, fmt.Errorf("no JSON as docker writes it: %w", mooring.ErrInvalid)
	}
	return conf, nil
}

// credentials are those of an entry, or none: beside a credential helper, docker leaves empty entries behind.
func (a dockerAuth) credentials() (Credentials, error) {
	c := Credentials{User: a.Username, Password: a.Password, Token: a.IdentityToken}
	if a.Auth == "" {
		return c, nil
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return Credentials{}, fmt.Errorf("an entry of docker's configuration is no user and password in base64: %w", mooring.ErrInvalid)
	}
	c.User, c.Password = user, Secret(strings.TrimRight(password, "\x00"))
	return c, nil
}

// askHelpers asks a credential helper for each of the keys, until it has something.
func askHelpers(ctx context.Context, helper string, keys []string) (Credentials, error) {
	if strings.ContainsAny(helper, "/\\") {
		return Credentials{}, fmt.Errorf("credential helper %q: want a name, not a path: %w", helper, mooring.ErrInvalid)
	}
	for _, key := range keys {
		c, err := askHelper(ctx, "docker-credential-"+helper, key)
		if !errors.Is(err, mooring.ErrNotFound) {
			return c, err
		}
	}
	return Credentials{}, fmt.Errorf("credential helper %s: it has none: %w", helper, mooring.ErrNotFound)
}

// tokenUser is what helpers say instead of a user's name when the secret is an identity token.
const tokenUser = "<token>"

// askHelper runs the helper's get. What it prints is a secret, and shown only when it fails.
func askHelper(ctx context.Context, program, key string) (Credentials, error) {
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(key)
	out, err := cmd.Output()
	if err != nil {
		said := string(bytes.TrimSpace(out))
		if strings.Contains(said, "credentials not found") {
			return Credentials{}, fmt.Errorf("%s: %w", program, mooring.ErrNotFound)
		}
		return Credentials{}, fmt.Errorf("run %s get: %w: %s: %w", program, err, answer{body: out}.said(), mooring.ErrInvalid)
	}
	var got struct {
		Username string
		Secret   Secret
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return Credentials{}, fmt.Errorf("run %s get: no JSON came: %w", program, mooring.ErrInvalid)
	}
	switch {
	case got.Secret == "":
		return Credentials{}, fmt.Errorf("%s: %w", program, mooring.ErrNotFound)
	case got.Username == tokenUser:
		return Credentials{Token: got.Secret}, nil
	}
	return Credentials{User: got.Username, Password: got.Secret}, nil
}
