package notify_test

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/notify"
)

// agent returns a sendmail that keeps what it is given, and then does what the script says.
func agent(t *testing.T, script string) (program, dir string) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(dir, "sendmail")
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" >" + dir + "/args\ncat >" + dir + "/mail\n" + script
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil { //nolint:gosec // it is executed
		t.Fatal(err)
	}
	return program, dir
}

// The mail is one that any program reads, whatever is in the report's texts.
func TestMailIsHandedToTheAgent(t *testing.T) {
	program, dir := agent(t, "")
	m := notify.Mail{To: []string{"ops@example.com", `Jürgen <j@example.com>`}, From: "mooring@docker1.example.com", Sendmail: program}
	text := "Zürich = 100 %\n.\nFrom here\n" + strings.Repeat("long ", 100) + "\n"
	subject := "docker1: the stack is back IN PART; not up: größe, " + strings.Repeat("é", 40)
	if err := errors.Join(m.Check(), m.Send(t.Context(), notify.Message{Subject: subject, Text: text})); err != nil {
		t.Fatal(err)
	}
	if args, err := os.ReadFile(filepath.Join(dir, "args")); err != nil || string(args) != "-t\n-oi\n" {
		t.Errorf("arguments: got %q, %v", args, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "mail"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(raw) {
		if len(l) > 78 || bytes.ContainsFunc(l, func(r rune) bool { return r > '~' || r == '\r' }) {
			t.Errorf("line %q: want at most 76 characters of ASCII, and a line feed", l)
		}
	}
	got, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil || string(body) != text {
		t.Errorf("body: got %q, %v", body, err)
	}
	if s, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject")); err != nil || s != subject {
		t.Errorf("subject: got %q, %v", s, err)
	}
	if to, err := got.Header.AddressList("To"); err != nil || len(to) != 2 || to[1].Name != "Jürgen" || to[1].Address != "j@example.com" {
		t.Errorf("to: got %v, %v", to, err)
	}
	if d, err := got.Header.Date(); err != nil || d.IsZero() || got.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("got headers %v, %v", got.Header, err)
	}
}

func TestMailLooksLikeThis(t *testing.T) {
	rep := recovered()
	m := notify.Mail{To: []string{"ops@example.com"}}
	msg := notify.Message{Subject: notify.Subject("docker1", rep, rep.Ended), Text: "Recovery 20300102T030200Z: settled\n"}
	got, err := m.Compose(msg, at("03:02:07"))
	want := `To: <ops@example.com>
Subject: docker1: the stack is back after 1m6s (the machine ended at 2030-01-02 03:01:00 UTC, back at 03:02:06)
Date: Wed, 02 Jan 2030 03:02:07 +0000
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

Recovery 20300102T030200Z: settled
`
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%s, want\n%s", err, got, want)
	}
}

func TestMailThatTheAgentRefuses(t *testing.T) {
	program, _ := agent(t, "echo 'ops@example.com... User unknown' >&2; exit 67")
	m := notify.Mail{To: []string{"ops@example.com"}, Sendmail: program}
	wantError(t, m.Send(t.Context(), notify.Message{}), "exit status 67: ops@example.com... User unknown")
	m.Sendmail = "/nonexistent/sendmail"
	wantError(t, m.Send(t.Context(), notify.Message{}), "no such file")
	if m.Name() != "by mail ops@example.com" {
		t.Errorf("name: got %s", m.Name())
	}
	for _, c := range []struct {
		mail notify.Mail
		says string
	}{
		{notify.Mail{}, "to is empty"},
		{notify.Mail{To: []string{"nobody at home"}}, `to "nobody at home"`},
		{notify.Mail{To: []string{"a@b.c\nBcc: x@y.z"}}, "to "},
		{notify.Mail{To: []string{"a@b.c"}, From: "me"}, `from "me"`},
		{notify.Mail{To: []string{"a@b.c"}, Sendmail: "sendmail"}, "want an absolute path"},
	} {
		if err := c.mail.Check(); !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: got %v, want ErrInvalid with %q", c.mail, err, c.says)
		}
	}
}
