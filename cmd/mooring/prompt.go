package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errNoTerminal says that there is nobody to ask.
var errNoTerminal = errors.New("standard input is no terminal")

// prompter asks whoever sits at the terminal. Questions go to standard error: standard output may be a file.
type prompter struct {
	in  io.Reader
	out io.Writer
}

// line asks for a line that may be seen.
func (p prompter) line(ctx context.Context, question string) (string, error) {
	return p.ask(ctx, question, func(terminal *os.File) (string, error) {
		// Byte by byte, because what follows the line is the answer to another question.
		var line []byte
		for b := make([]byte, 1); ; {
			n, err := terminal.Read(b)
			if n == 1 && b[0] == '\n' {
				return strings.TrimSpace(string(line)), nil
			}
			line = append(line, b[:n]...)
			if err != nil {
				return "", err
			}
		}
	})
}

// secret asks for a line that the terminal does not show.
func (p prompter) secret(ctx context.Context, question string) (string, error) {
	return p.ask(ctx, question, func(terminal *os.File) (string, error) {
		line, err := term.ReadPassword(int(terminal.Fd()))
		_, _ = io.WriteString(p.out, "\n") // the terminal did not show the one that was typed
		return string(line), err
	})
}

// ask prints the question and returns what read reads. A read from a terminal cannot be called off: when ctx ends, the
// goroutine that reads is left behind and the terminal is put back into its state, for the process is about to end.
func (p prompter) ask(ctx context.Context, question string, read func(*os.File) (string, error)) (string, error) {
	terminal, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", errNoTerminal
	}
	state, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return "", fmt.Errorf("look at the terminal: %w", err)
	}
	if _, err := io.WriteString(p.out, question); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := read(terminal)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return "", fmt.Errorf("read from the terminal: %w", a.err)
		}
		return a.text, nil
	case <-ctx.Done():
		_, _ = io.WriteString(p.out, "\n")
		return "", errors.Join(ctx.Err(), term.Restore(int(terminal.Fd()), state))
	}
}
