package sign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/text"
)

// cosignTimeout bounds a call of cosign. It may wait for a person in a browser.
const cosignTimeout = 5 * time.Minute

// maxOutput bounds the text of a program that an error shows, in bytes.
const maxOutput = 1 << 10

// cosignMajor is the oldest major version of cosign that writes bundles by default.
const cosignMajor = 3

// Cosign signs and verifies with the program cosign on PATH. It gets all of the
// environment, so identities of CI systems, key management services and tokens work as
// cosign documents them.
type Cosign struct {
	// Args are added to each call, for example --key=awskms://…, or an identity.
	Args []string
	// Dir returns a directory for files that live as long as one call.
	Dir func(context.Context) (string, error)
	// Show gets each line that cosign prints while it runs, without secret values. Without a
	// token, cosign asks a person to open a page and to enter a code. nil shows nothing.
	Show func(line string)
}

// Sign has cosign sign a statement (cosign attest-blob). The bundle must hold that
// statement.
func (c Cosign) Sign(ctx context.Context, statement []byte) ([]byte, error) {
	var bundle []byte
	err := c.in(ctx, func(dir string) error {
		file, out := filepath.Join(dir, "statement.json"), filepath.Join(dir, "bundle.json")
		if err := os.WriteFile(file, statement, 0o600); err != nil {
			return err
		}
		if err := c.run(ctx, "attest-blob", "--statement", file, "--bundle", out, "--yes"); err != nil {
			return err
		}
		info, err := os.Stat(out)
		if err != nil {
			return hint.New(hint.Build, c.wayOut(ctx, "omit --bundle from --sign-arg"), "cosign has written no bundle")
		}
		if info.Size() > MaxBundle {
			return broken("cosign: the bundle has %d bytes, more than %d", info.Size(), MaxBundle)
		}
		bundle, err = os.ReadFile(out)
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := ParseBundle(bundle)
	if err != nil {
		return nil, &hint.Error{Kind: hint.Content, Err: fmt.Errorf("cosign: %w", err), Hint: c.wayOut(ctx, "")}
	}
	if same, err := equal(b.Envelope.Payload, statement); err != nil || !same {
		return nil, broken("cosign has signed another statement")
	}
	return bundle, nil
}

// Verify has cosign check a bundle about content with a SHA-256 digest
// (cosign verify-blob-attestation), and returns its statement.
func (c Cosign) Verify(ctx context.Context, bundle []byte, digest, predicateType string) ([]byte, error) {
	b, err := ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	err = c.in(ctx, func(dir string) error {
		file := filepath.Join(dir, "bundle.json")
		if err := os.WriteFile(file, bundle, 0o600); err != nil {
			return err
		}
		return c.run(ctx, "verify-blob-attestation", "--bundle", file, "--digest", digest, "--digestAlg", "sha256", "--type", predicateType)
	})
	return b.Envelope.Payload, err
}

// VerifyBlob has cosign check a bundle about a file (cosign verify-blob).
func (c Cosign) VerifyBlob(ctx context.Context, bundle []byte, file string) error {
	return c.in(ctx, func(dir string) error {
		at := filepath.Join(dir, "bundle.json")
		if err := os.WriteFile(at, bundle, 0o600); err != nil {
			return err
		}
		return c.run(ctx, "verify-blob", "--bundle", at, file)
	})
}

// in calls do with a new directory, which is removed after that.
func (c Cosign) in(ctx context.Context, do func(dir string) error) error {
	parent, err := c.Dir(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "cosign-")
	if err != nil {
		return err
	}
	return errors.Join(do(dir), os.RemoveAll(dir))
}

// tooOld is the hint if cosign does not do what a new one does.
var tooOld = fmt.Sprintf("install cosign %d or later", cosignMajor)

// Installed returns an error if there is no cosign on PATH.
func Installed() error {
	_, err := installed()
	return err
}

// installed returns the path of cosign.
func installed() (string, error) {
	program, err := exec.LookPath("cosign")
	if err != nil {
		return "", hint.New(hint.Usage, tooOld, "cosign is not on PATH")
	}
	return program, nil
}

// run calls cosign. It is killed if it does not end in time.
func (c Cosign) run(ctx context.Context, args ...string) error {
	program, err := installed()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cosignTimeout, fmt.Errorf("no answer in %s", cosignTimeout))
	defer cancel()
	output := &stream.Tail{Max: maxOutput}
	cmd := exec.CommandContext(ctx, program, slices.Concat(args, c.Args)...) //nolint:gosec // cosign, with arguments of the user
	cmd.Stdout = output
	if c.Show != nil {
		cmd.Stdout = io.MultiWriter(output, c.lines())
	}
	cmd.Stderr = cmd.Stdout
	process.Group(cmd)
	err = cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has left a process behind
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cosign %s: %w", args[0], context.Cause(ctx))
	}
	return hint.New(hint.Build, c.wayOut(ctx, ""), "cosign %s: %w: %s", args[0], err, text.Line(c.redact(output.String()), maxOutput))
}

// lines returns a writer that shows what is written line by line, of each its first maxOutput
// bytes. What follows the last line break is not shown.
func (c Cosign) lines() stream.Writer {
	line := &stream.Head{Max: maxOutput}
	return func(p []byte) (int, error) {
		for part := range bytes.Lines(p) {
			_, _ = line.Write(part) // never fails
			if !bytes.HasSuffix(part, []byte("\n")) {
				continue
			}
			if said := text.Line(c.redact(line.String()), maxOutput); said != "" {
				c.Show(said)
			}
			line = &stream.Head{Max: maxOutput}
		}
		return len(p), nil
	}
}

// secretArgument matches the name of an argument whose value is a secret.
var secretArgument = regexp.MustCompile(`(?i)token|passw|secret`)

// Redact returns arguments of cosign without values that are secret.
func Redact(args []string) []string {
	shown := slices.Clone(args)
	for i, arg := range shown {
		name, _, ok := strings.Cut(arg, "=")
		switch {
		case ok && secretArgument.MatchString(name):
			shown[i] = name + "=…"
		case i > 0 && !strings.HasPrefix(arg, "-") && !strings.Contains(args[i-1], "=") && secretArgument.MatchString(args[i-1]):
			shown[i] = "…"
		}
	}
	return shown
}

// redact removes the secret values of the arguments from the output of cosign, which may repeat
// them.
func (c Cosign) redact(output string) string {
	for i, arg := range Redact(c.Args) {
		if arg == c.Args[i] {
			continue
		}
		if _, value, ok := strings.Cut(c.Args[i], "="); ok && value != "" {
			output = strings.ReplaceAll(output, value, "…")
		} else {
			output = strings.ReplaceAll(output, c.Args[i], "…")
		}
	}
	return output
}

// wayOut returns what to do if cosign has failed: install a new one, or way.
func (c Cosign) wayOut(ctx context.Context, way string) string {
	if program, err := installed(); err == nil && outdated(ctx, program) {
		return tooOld
	}
	return way
}

// cosignVersion matches the version in the output of cosign version --json.
var cosignVersion = regexp.MustCompile(`"gitVersion":\s*"v([0-9]+)\.`)

// versionTimeout bounds the question for the version of cosign.
const versionTimeout = 5 * time.Second

// outdated reports whether the program says that it is older than cosignMajor.
func outdated(ctx context.Context, program string) bool {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out := &stream.Head{Max: maxOutput}
	cmd := exec.CommandContext(ctx, program, "version", "--json")
	cmd.Stdout = out
	process.Group(cmd)
	err := cmd.Run()
	m := cosignVersion.FindStringSubmatch(out.String())
	if err != nil || m == nil {
		return false
	}
	major, err := strconv.Atoi(m[1])
	return err == nil && major < cosignMajor
}

// equal reports whether two JSON documents have the same values.
func equal(a, b []byte) (bool, error) {
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		return false, err
	}
	p, errP := json.Marshal(x)
	q, errQ := json.Marshal(y)
	return bytes.Equal(p, q), errors.Join(errP, errQ)
}
