package authfile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/hint"
	shown "github.com/mabuild/mabuild/internal/text"
)

// maxOutput bounds what is read of a credential helper, in bytes.
const maxOutput = 64 << 10

// maxWords bounds what is shown of it, in bytes.
const maxWords = 256

// program is what a helper is called on PATH.
func program(helper string) string { return "docker-credential-" + helper }

// A HelperError says how a credential helper failed. It may repeat the helper's words,
// which the protocol has on standard output, and never an answer to get.
type HelperError struct {
	Program string
	Words   string // may be ""
	Err     error

	action, key string
	file        string // that names the program
}

func (e *HelperError) Error() string {
	if e.Words == "" {
		return e.Program + ": " + e.Err.Error()
	}
	return e.Program + ": " + e.Words + " (" + e.Err.Error() + ")"
}

// Is reports whether target is the kind of the error.
func (*HelperError) Is(target error) bool { return target == hint.Credentials }

func (e *HelperError) Unwrap() error { return e.Err }

// Hint returns the way out, which lies with the helper.
func (e *HelperError) Hint() string {
	if e.missing() {
		return "install it, or remove it from " + cmp.Or(e.file, "the file")
	}
	if e.action != "get" {
		return fmt.Sprintf("log in with the program that %s belongs to, or remove it from %s", e.Program, cmp.Or(e.file, "the file"))
	}
	return fmt.Sprintf("log in with the program that %s belongs to; to see its output, run: echo %s | %s get", e.Program, e.key, e.Program)
}

// missing reports whether the program is not installed.
func (e *HelperError) missing() bool { return errors.Is(e.Err, exec.ErrNotFound) }

// notFound is what a helper says that has nothing (docker-credential-helpers,
// credentials/error.go). The protocol has no other sign of it.
const notFound = "credentials not found in native keychain"

// Get asks a helper for the credentials of a key (docker-credential-helpers,
// "Development"); the zero AuthConfig is that it has none. A helper that gives no answer
// within limit ends, as with ctx, with all that it started.
func Get(ctx context.Context, limit time.Duration, helper, key string) (authn.AuthConfig, error) {
	inner, stop := context.WithTimeout(ctx, limit)
	defer stop()
	text, err := runHelper(inner, helper, "get", key, key)
	if inner.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer after %v", limit)
		return authn.AuthConfig{}, &HelperError{Program: program(helper), Err: err, action: "get", key: key}
	}
	if h := (*HelperError)(nil); errors.As(err, &h) && text == notFound {
		return authn.AuthConfig{}, nil
	}
	if err != nil {
		return authn.AuthConfig{}, err
	}
	var said struct{ Username, Secret string }
	if json.Unmarshal([]byte(text), &said) != nil {
		return authn.AuthConfig{}, &HelperError{Program: program(helper), Err: errors.New("the output is not from a credential helper"), action: "get", key: key}
	}
	if said.Username == "<token>" {
		return authn.AuthConfig{IdentityToken: said.Secret}, nil
	}
	return authn.AuthConfig{Username: said.Username, Password: said.Secret}, nil
}

// Store gives a helper credentials to keep.
func Store(ctx context.Context, helper, key, user, password string) error {
	raw, err := json.Marshal(map[string]string{"ServerURL": key, "Username": user, "Secret": password})
	if err != nil {
		return err
	}
	_, err = runHelper(ctx, helper, "store", key, string(raw))
	if h := (*HelperError)(nil); errors.As(err, &h) && strings.Contains(h.Words, password) {
		h.Words = ""
	}
	return err
}

// Erase makes a helper forget a key.
func Erase(ctx context.Context, helper, key string) error {
	_, err := runHelper(ctx, helper, "erase", key, key)
	return err
}

// runHelper runs a helper and returns what it printed. An error is a [*HelperError], or that of
// a context which ended.
func runHelper(ctx context.Context, helper, action, key, input string) (string, error) {
	out := &bounded{left: maxOutput}
	cmd := exec.CommandContext(ctx, program(helper), action) //nolint:gosec // the user's own config names it
	cmd.Stdin, cmd.Stdout = strings.NewReader(input), out
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	asGroup(cmd)
	err := cmd.Run()
	text := strings.TrimSpace(out.buffer.String())
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", program(helper), ctx.Err())
	case out.left < 0:
		err = fmt.Errorf("prints more than %d bytes", maxOutput)
		return "", &HelperError{Program: program(helper), Err: err, action: action, key: key}
	case err != nil:
		return text, &HelperError{Program: program(helper), Words: words(text), Err: plain(err), action: action, key: key}
	}
	return text, nil
}

// plain takes the name of the program off an error that says it once more.
func plain(err error) error {
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		return fmt.Errorf("%w", e.Err)
	}
	return err
}

// words returns what a helper that failed printed, as far as it is a sentence: what looks
// like an answer, or is one word, may be a secret.
func words(text string) string {
	if strings.ContainsAny(text, "{}") || len(strings.Fields(text)) < 2 {
		return ""
	}
	text = shown.Redact(strings.Join(strings.Fields(text), " "))
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}

// bounded keeps what is written to it, and refuses more than left.
type bounded struct {
	buffer bytes.Buffer
	left   int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much output")
	}
	return b.buffer.Write(p)
}
