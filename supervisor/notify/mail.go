package notify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
)

// Sendmail is where mail transfer agents have their command.
const Sendmail = "/usr/sbin/sendmail"

// Mail hands a mail to the machine's own mail transfer agent.
type Mail struct {
	To []string
	// From is the sender. Empty: as the agent has it, which is root of this machine.
	From string
	// Sendmail is the agent's command. Empty: [Sendmail].
	Sendmail string
	// Limit is after what time the agent's command is killed. Zero: 30 s.
	Limit time.Duration
	// Apart is as [Command]'s.
	Apart bool
}

// Name is those to whom it goes.
func (m Mail) Name() string { return "by mail " + strings.Join(m.To, ", ") }

// Check says what is wrong with the settings.
func (m Mail) Check() error {
	_, _, err := m.addresses()
	errs := []error{err}
	if program := cmp.Or(m.Sendmail, Sendmail); !filepath.IsAbs(program) {
		errs = append(errs, fmt.Errorf("mail: sendmail %q: want an absolute path: %w", program, mooring.ErrInvalid))
	}
	if m.Limit < 0 || m.Limit > maxLimit {
		errs = append(errs, fmt.Errorf("mail: limit %s: allowed are up to %s: %w", m.Limit, maxLimit, mooring.ErrInvalid))
	}
	return errors.Join(errs...)
}

// addresses returns the headers From, which may be empty, and To.
func (m Mail) addresses() (from, to string, err error) {
	var errs []error
	parse := func(key, text string) string {
		a, err := mail.ParseAddress(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("mail: %s %q: %w: %w", key, text, err, mooring.ErrInvalid))
			return ""
		}
		return a.String()
	}
	if m.From != "" {
		from = parse("from", m.From)
	}
	var all []string
	for _, t := range m.To {
		all = append(all, parse("to", t))
	}
	if len(all) == 0 {
		errs = append(errs, fmt.Errorf("mail: to is empty: want the address of somebody: %w", mooring.ErrInvalid))
	}
	return from, strings.Join(all, ",\n "), errors.Join(errs...)
}

// Send hands the mail over. Whether it arrives is the agent's affair.
func (m Mail) Send(ctx context.Context, msg Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	text, err := m.compose(msg, time.Now())
	if err != nil {
		return err
	}
	return run(ctx, []string{cmp.Or(m.Sendmail, Sendmail), "-t", "-oi"}, text, cmp.Or(m.Limit, commandLimit), m.Apart)
}

// compose writes the mail as RFC 5322 and 2045 have it, but with the line ends that sendmail reads.
func (m Mail) compose(msg Message, now time.Time) ([]byte, error) {
	from, to, err := m.addresses()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	if from != "" {
		header("From", from)
	}
	header("To", to)
	header("Subject", encoded(msg.Subject))
	header("Date", now.Format(time.RFC1123Z))
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=UTF-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteByte('\n')
	body := quotedprintable.NewWriter(&b)
	if _, err := body.Write([]byte(msg.Text)); err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")), nil
}

// encoded is the text as a header has it: as it is if it is ASCII, else in words of RFC 2047, one on each line.
func encoded(text string) string {
	words := mime.QEncoding.Encode("UTF-8", text)
	if words == text {
		return text
	}
	return "\n " + strings.ReplaceAll(words, "?= =?", "?=\n =?")
}
