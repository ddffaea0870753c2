package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/internal/stream"
)

// passwordVariable has the password of an encrypted key, as for cosign.
const passwordVariable = "COSIGN_PASSWORD"

// attest sets the signer of pub, and the command that runs before tags move. The key is read,
// and its password asked for, before anything is built; not at all if nothing is published
// where a signature can be stored.
func (a *app) attest(ctx context.Context, pub *publish.Publisher, plans []publish.Plan) error {
	c := a.config
	if c.BeforeTag != "" {
		words, err := config.SplitWords(c.BeforeTag)
		if err == nil && len(words) == 0 {
			err = errors.New("is empty")
		}
		if i := slices.IndexFunc(words, func(w string) bool { return slices.Contains([]string{"&&", "||", "|", ";", "&", ">", "<"}, w) }); err == nil && i >= 0 {
			return usage("--before-tag 'sh -c \"…\"'", "--before-tag runs no shell, so %s has no meaning", words[i])
		}
		if err != nil {
			return usage("for example --before-tag 'trivy image --exit-code 1'", "--before-tag %s", err)
		}
		pub.Gate = func(ctx context.Context, image string, r *publish.Result) error {
			return a.beforeTag(ctx, words, image, r)
		}
	}
	able, err := plan.CanAttest(plans, c.SignFormat)
	if c.Sign == config.SignNone && !pub.Provenance {
		pub.InIndex = pub.InIndex && able && err == nil // for SBOMs
		return nil
	}
	if !able && err == nil {
		a.log.WarnContext(ctx, "no destination can hold signatures and provenance")
	}
	if err != nil || !able {
		pub.Provenance, pub.InIndex = false, false
		return err
	}
	if c.Sign == config.SignNone {
		if c.Attest {
			a.log.WarnContext(ctx, unsigned)
		}
		return nil
	}
	signer, id, err := a.signer(ctx)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	pub.Signer, pub.SignerID = signer, id
	return nil
}

// unsigned is the warning if --attest finds nothing to sign with.
const unsigned = "attested, but not signed: there is no key (--sign, COSIGN_PRIVATE_KEY) and no identity of a CI job (the permission id-token: write)"

// signer returns what --sign names, and what identifies it in the cache.
func (a *app) signer(ctx context.Context) (sign.Signer, string, error) {
	if a.config.Sign == config.SignCosign {
		if err := sign.Installed(); err != nil {
			return nil, "", err
		}
		cosign := sign.Cosign{Args: a.config.SignArgs, Dir: a.workDir}
		if isTerminal(a.stderr) {
			cosign.Show = func(line string) { a.log.Warn("cosign: " + line) } // what it asks a person
		}
		return cosign, fmt.Sprintf("cosign %.8x", sha256.Sum256(fmt.Appendf(nil, "%q", a.config.SignArgs))), nil // arguments can hold a token
	}
	if a.config.Sign == "true" {
		return nil, "", usage("name a key: --sign cosign.key, --sign env://VARIABLE or --sign cosign", "true is not a key")
	}
	text, err := readKey(a.config.Sign, "create a key with cosign generate-key-pair")
	if err != nil {
		return nil, "", err
	}
	encrypted := false
	key, err := sign.Parse(text, func() ([]byte, error) {
		encrypted = true
		return a.keyPassword(ctx)
	})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", a.config.Sign, err)
	}
	if encrypted {
		debug.FreeOSMemory() // the password has cost 64 MiB, which the compilers can use
	}
	id, err := key.Public().ID()
	return key, id, err
}

// readKey reads the text of a key from a file or, with env://, from a variable. way says what
// to do if there is no file.
func readKey(from, way string) ([]byte, error) {
	if variable, ok := strings.CutPrefix(from, config.SignEnv); ok {
		text, set := os.LookupEnv(variable)
		if !set || text == "" {
			return nil, usage("set the variable to the text of the key", "the variable %s is not set", plain(variable))
		}
		return []byte(text), nil
	}
	f, err := os.Open(from)
	if err == nil {
		if info, statErr := f.Stat(); statErr == nil && info.IsDir() {
			err = errors.Join(f.Close(), usage(way, "%s is a directory, not a key", plain(from)))
		}
	}
	if err != nil {
		return nil, noFile(from, way, err)
	}
	defer f.Close() //nolint:errcheck // was opened to read
	text, err := io.ReadAll(io.LimitReader(f, sign.MaxKey+1))
	if err == nil && len(text) > sign.MaxKey {
		err = usage("name the file of a key", "%s has more than %d bytes", from, sign.MaxKey)
	}
	return text, err
}

// keyPassword returns the password of an encrypted key: that of the variable, what is typed in
// a terminal, or the first line of standard input.
func (a *app) keyPassword(ctx context.Context) ([]byte, error) {
	if password, set := os.LookupEnv(passwordVariable); set {
		return []byte(password), nil
	}
	if file, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		password, err := a.readPassword(ctx, file, "Password of "+plain(a.config.Sign)+": ")
		return []byte(password), err
	}
	password, err := a.firstLine(ctx)
	if err == nil && len(password) == 0 {
		err = &hint.Error{Kind: hint.Credentials, Err: errors.New("the key is encrypted, and stdin has no password"), Hint: "set " + passwordVariable + " to the password of the key"}
	}
	return password, err
}

// maxPassword bounds a password on standard input, in bytes.
const maxPassword = 64 << 10

// firstLine returns the first line of standard input without its end. A pipe that nobody writes
// to or closes has none after a time.
func (a *app) firstLine(ctx context.Context) ([]byte, error) {
	type read struct {
		line []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		var r read
		r.err = guard.Do(func() error {
			line, err := bufio.NewReader(io.LimitReader(a.stdin, maxPassword)).ReadBytes('\n')
			r.line = bytes.TrimRight(line, "\r\n")
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		})
		done <- r
	}()
	limit := time.NewTimer(passwordTimeout)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.line, r.err
	case <-limit.C:
		return nil, nil // as if there were none
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// passwordTimeout bounds the wait for a password on standard input.
const passwordTimeout = 10 * time.Second

// maxGateOutput bounds the output of a command of --before-tag that an error shows, in bytes.
const maxGateOutput = 2 << 10

// beforeTag runs the command of --before-tag for an image, which is stored by its digest. The
// command gets MABUILD_IMAGE, MABUILD_DIGEST and MABUILD_METADATA. Its output is shown if it
// fails.
func (a *app) beforeTag(ctx context.Context, words []string, image string, r *publish.Result) error {
	dir, err := a.workDir(ctx)
	if err != nil {
		return err
	}
	program, err := publish.Describe(r)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(program, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "metadata-*.json")
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "running "+filepath.Base(words[0]), "image", image)
	output := &stream.Tail{Max: maxGateOutput}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // the user names it
	cmd.Stdout, cmd.Stderr = output, output
	process.Group(cmd)
	cmd.Env = append(os.Environ(), "MABUILD_IMAGE="+image, "MABUILD_DIGEST="+r.Digest.String(), "MABUILD_METADATA="+file.Name())
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) { // which a process in the background causes
		return &hint.Error{
			Err:  fmt.Errorf("%s: --before-tag %s: %w\n%s", image, words[0], errors.Join(err, ctx.Err()), plainLines(output.String())),
			Hint: "no tag of " + plain(r.Name) + " has moved; the image is stored by its digest",
		}
	}
	return nil
}

// plannedAttestations returns the lines of a dry run about signatures and provenance.
func plannedAttestations(c *config.Config) string {
	var lines []string
	if c.Provenance != "none" {
		lines = append(lines, "  + provenance, "+c.Provenance+"\n")
	}
	if c.Sign != config.SignNone {
		lines = append(lines, "  + signature by "+plain(c.Sign)+"\n")
	} else if c.Attest {
		lines = append(lines, "  ! no signature: there is no key and no identity\n")
	}
	if c.BeforeTag != "" {
		lines = append(lines, "  ? "+plain(c.BeforeTag)+"\n")
	}
	return strings.Join(lines, "")
}
