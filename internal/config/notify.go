package config

import (
	"fmt"
	"time"

	"github.com/mooring-sh/mooring"
)

// Notify says who is told how a recovery ended.
type Notify struct {
	Webhooks []Webhook `mapstructure:"webhooks"`
	Commands []Command `mapstructure:"commands"`
	// MailTo are those who get a mail. None: there is none.
	MailTo []string `mapstructure:"mail_to"`
	// MailFrom is the sender. Empty: as the mail transfer agent has it.
	MailFrom string `mapstructure:"mail_from"`
	// Sendmail is the mail transfer agent's command.
	Sendmail string `mapstructure:"sendmail"`
}

// Webhook is an address to which the report is posted.
type Webhook struct {
	URL string `mapstructure:"url"`
	// URLFile is a file with the URL, where that is a secret. Files are named as [VCenter]'s.
	URLFile string `mapstructure:"url_file"`
	// Header is sent with what HeaderFile holds.
	Header     string        `mapstructure:"header"`
	HeaderFile string        `mapstructure:"header_file"`
	CAFile     string        `mapstructure:"ca_file"`
	Timeout    time.Duration `mapstructure:"timeout"`
}

// Command is a program that reads the report.
type Command struct {
	Argv  []string      `mapstructure:"argv"`
	Limit time.Duration `mapstructure:"limit"`
}

// Secrets returns the webhook's URL, and the path of the file with the header's value. The error shows neither.
func (w Webhook) Secrets() (url, headerFile string, err error) {
	if w.URL != "" && w.URLFile != "" {
		return "", "", fmt.Errorf("notify.webhooks: url and url_file exclude each other: %w", mooring.ErrInvalid)
	}
	url = w.URL
	if w.URLFile != "" {
		if url, err = password("notify.webhooks: url_file", w.URLFile); err != nil {
			return "", "", err
		}
	}
	if w.HeaderFile != "" {
		headerFile, err = credential("notify.webhooks: header_file", w.HeaderFile)
	}
	return url, headerFile, err
}
