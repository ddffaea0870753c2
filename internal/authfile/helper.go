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
	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/internal/stream"
	shown "github.com/mabuild/mabuild/internal/text"
)

// maxOutput bounds the output of a credential helper, in bytes. More is an error.
const maxOutput = 64 << 10

// maxWords bounds the part of the output that an error may repeat, in bytes.
const maxWords = 256

// program returns the file name of a helper, which is searched on PATH.
func program(helper string) string { return "docker-credential-" + helper }

// A HelperError is returned if a credential helper fails. It may repeat the helper's
// message, which the protocol prints to standard output, but never the output of a get
// that succeeded, since that is a secret.
type HelperError struct {
	Program string
	Words   string // the helper's message, safe to print; may be ""
	Err     error

	action, key string
	file        string // the file of credentials that names the program; may be ""
}

// Error returns the program, its message if there is a safe one, and the cause.
func (e *HelperError) Error() string {
	if e.Words == "" {
		return e.Program + ": " + e.Err.Error()
	}
	return e.Program + ": " + e.Words + " (" + e.Err.Error() + ")"
}

// Is reports whether target is the kind of the error.
func (*HelperError) Is(target error) bool { return target == hint.Credentials }

func (e *HelperError) Unwrap() error { return e.Err }

// Hint says what to do. Only the program that the helper belongs to can repair its store,
// so the hint shows how to see its output.
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

// notFound is the output of a helper that has no credentials for a key
// (docker-credential-helpers, credentials/error.go). The protocol has no other sign: the
// exit code is the same as for any failure.
const notFound = "credentials not found in native keychain"

// Get asks a helper for the credentials of a key (docker-credential-helpers,
// "Development"). The zero AuthConfig means that it has none. The helper and all
// processes that it started are killed after limit or at the end of ctx. The user name
// "<token>" marks the secret as an identity token, which a token service exchanges.
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

// Store gives credentials to a helper. A message of the helper that contains the password
// is not part of the error.
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

// Erase makes a helper delete the credentials of a key.
func Erase(ctx context.Context, helper, key string) error {
	_, err := runHelper(ctx, helper, "erase", key, key)
	return err
}

// runHelper runs a helper and returns its output without surrounding space. input is
// written to its standard input; its standard error is dropped. An error is a
// [*HelperError], or wraps the error of ctx if that ended. The output is returned with a
// failure too, because [notFound] is one.
func runHelper(ctx context.Context, helper, action, key, input string) (string, error) {
	var buffer bytes.Buffer
	left := maxOutput
	// A write beyond the bound fails, which ends the copying of the output.
	out := stream.Writer(func(p []byte) (int, error) {
		if left -= len(p); left < 0 {
			return 0, errors.New("too much output")
		}
		return buffer.Write(p)
	})
	cmd := exec.CommandContext(ctx, program(helper), action) //nolint:gosec // named by the user
	cmd.Stdin, cmd.Stdout = strings.NewReader(input), out
	cmd.WaitDelay = time.Second // a process that the helper started may keep the pipe open
	process.Group(cmd)
	err := cmd.Run()
	text := strings.TrimSpace(buffer.String())
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", program(helper), ctx.Err())
	case left < 0:
		err = fmt.Errorf("prints more than %d bytes", maxOutput)
		return "", &HelperError{Program: program(helper), Err: err, action: action, key: key}
	case err != nil:
		return text, &HelperError{Program: program(helper), Words: words(text), Err: plain(err), action: action, key: key}
	}
	return text, nil
}

// plain removes the name of the program from an error of os/exec: [HelperError] has it
// already.
func plain(err error) error {
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		return fmt.Errorf("%w", e.Err)
	}
	return err
}

// words returns the output of a failed helper if it reads like a sentence, else "".
// Output with braces or of one word may be credentials.
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
