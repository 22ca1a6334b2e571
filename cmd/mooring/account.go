//go:build !laptop

package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// accountHelp says how an administrator tells a command who he is. The variables are govc's, so that one environment serves both.
const accountHelp = `The command logs in to vCenter as whoever types it: the plugin's own account can use storage policies and not make them.
What neither a flag nor the environment says is asked for on the terminal. There is no flag for the password: any
user of the machine could read it in the list of processes.

ENVIRONMENT
  GOVC_URL             vCenter, as host, https://host or https://user:password@host
  GOVC_USERNAME        the user, before the one in GOVC_URL
  GOVC_PASSWORD        the password, before the one in GOVC_URL
  GOVC_TLS_CA_CERTS    a PEM file with the authorities that may have signed vCenter's certificate
  GOVC_TLS_THUMBPRINT  the SHA-256 thumbprint of vCenter's certificate, in place of an authority
  GOVC_INSECURE        refused: without a certificate anybody may be vCenter`

// credentials are the flags that say who logs in where. What they leave out the environment or the terminal says.
type credentials struct {
	url, username, caFile, thumbprint string
}

// register gives cmd and all commands below it the flags.
func (c *credentials) register(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.url, "url", "", "vCenter's `address` (GOVC_URL)")
	flags.StringVar(&c.username, "username", "", "`user` who logs in (GOVC_USERNAME)")
	flags.StringVar(&c.caFile, "ca-file", "", "PEM `file` with authorities for vCenter's certificate (GOVC_TLS_CA_CERTS)")
	flags.StringVar(&c.thumbprint, "thumbprint", "", "`SHA-256` of vCenter's certificate (GOVC_TLS_THUMBPRINT)")
}

// account returns the account that flags, environment and terminal together name, each asked before the next.
func (c *credentials) account(cmd *cobra.Command) (esx.Account, error) {
	if err := refuseInsecure(os.Getenv("GOVC_INSECURE")); err != nil {
		return esx.Account{}, err
	}
	authorities, err := c.authorities()
	if err != nil {
		return esx.Account{}, err
	}
	prompt := prompter{in: cmd.InOrStdin(), out: cmd.ErrOrStderr()}
	text := cmp.Or(c.url, os.Getenv("GOVC_URL"))
	if text == "" {
		if text, err = prompt.line(cmd.Context(), "vCenter: "); err != nil {
			return esx.Account{}, unknown(err, "vCenter's address", "set GOVC_URL, or give --url")
		}
	}
	address, user, err := splitURL(text)
	if err != nil {
		return esx.Account{}, err
	}
	username := cmp.Or(c.username, os.Getenv("GOVC_USERNAME"), user.Username())
	if username == "" {
		if username, err = prompt.line(cmd.Context(), "User name at "+address.Host+": "); err != nil {
			return esx.Account{}, unknown(err, "the user name", "set GOVC_USERNAME, or give --username")
		}
	}
	password, _ := user.Password()
	if password = cmp.Or(os.Getenv("GOVC_PASSWORD"), password); password == "" {
		if password, err = prompt.secret(cmd.Context(), "Password of "+username+" at "+address.Host+": "); err != nil {
			return esx.Account{}, unknown(err, "the password", "set GOVC_PASSWORD")
		}
	}
	return esx.Account{
		URL:        address.String(),
		Username:   username,
		Password:   esx.Secret(password),
		CAFile:     authorities,
		Thumbprint: cmp.Or(c.thumbprint, os.Getenv("GOVC_TLS_THUMBPRINT")),
	}, nil
}

// authorities returns the file with vCenter's authorities. govc takes a list of them, esx one.
func (c *credentials) authorities() (string, error) {
	list := cmp.Or(c.caFile, os.Getenv("GOVC_TLS_CA_CERTS"))
	if files := filepath.SplitList(list); len(files) > 1 {
		return "", &mooring.HintError{
			Err:  fmt.Errorf("certificate authorities %q: %d files, want one: %w", list, len(files), mooring.ErrInvalid),
			Hint: "cat " + strings.Join(files, " ") + " > vcenter-ca.pem",
		}
	}
	return list, nil
}

// refuseInsecure refuses what would make govc talk to whoever answers.
func refuseInsecure(value string) error {
	if value == "" {
		return nil
	}
	if insecure, err := strconv.ParseBool(value); err == nil && !insecure {
		return nil
	}
	return &mooring.HintError{
		Err: fmt.Errorf("GOVC_INSECURE=%s: Mooring does not send a password to a server that it cannot recognise: %w", value, mooring.ErrInvalid),
		Hint: "unset GOVC_INSECURE and set GOVC_TLS_CA_CERTS or GOVC_TLS_THUMBPRINT; to see a thumbprint: " +
			"openssl s_client -connect HOST:443 </dev/null | openssl x509 -noout -fingerprint -sha256",
	}
}

// splitURL returns the address without the user information, and that. Errors never show the text: it may hold a password.
func splitURL(text string) (*url.URL, *url.Userinfo, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, nil, &mooring.HintError{
			Err:  fmt.Errorf("vCenter's address is no URL: %w", mooring.ErrInvalid),
			Hint: "a password with / # ? or % in it does not fit into a URL: set GOVC_USERNAME and GOVC_PASSWORD, and leave only the host in GOVC_URL",
		}
	}
	user := u.User
	u.User = nil
	return u, user, nil
}

// unknown says that something is given nowhere; other errors than the absence of a terminal it returns as they are.
func unknown(err error, what, hint string) error {
	if !errors.Is(err, errNoTerminal) {
		return err
	}
	return &mooring.HintError{Err: fmt.Errorf("%s is not known: %w: %w", what, mooring.ErrInvalid, err), Hint: hint}
}

// trust adds to an error about vCenter's certificate how to say that it is the right one, if it is.
func trust(err error) error {
	untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(untrusted.UnverifiedCertificates) == 0 {
		return err
	}
	sum := sha256.Sum256(untrusted.UnverifiedCertificates[0].Raw)
	return &mooring.HintError{
		Err: err,
		Hint: fmt.Sprintf("give --ca-file with the authority that signed the certificate; or, if vCenter's own console shows "+
			"the same SHA-256 thumbprint: --thumbprint %X", sum),
	}
}
