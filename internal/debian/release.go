package debian

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/text"
)

const (
	maxVerifierOutput = 64 << 10         // bytes of what gpgv prints
	maxVerifierTime   = 30 * time.Second // of gpgv
	maxKeyring        = 16 << 20         // bytes of a keyring
)

// DefaultKeyring is where Debian's package debian-archive-keyring has the keys of its archive.
const DefaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// A release is the file InRelease of a suite.
type release struct {
	suite, codename string
	architectures   []string
	components      []string
	date, until     time.Time // until is zero if the release does not expire
	byHash          bool
	sums            map[string]string // sha256 of the indexes, by path below the suite
}

// releaseKeys are the fields that are read.
var releaseKeys = []string{"suite", "codename", "architectures", "components", "date", "valid-until", "acquire-by-hash", "sha256"}

// parseRelease reads a release without its signature.
func parseRelease(content []byte) (*release, error) {
	var of *release
	err := paragraphs(bytes.NewReader(content), releaseKeys, func(f []string) error {
		if of != nil {
			return errors.New("it has two paragraphs")
		}
		of = &release{
			suite: f[0], codename: f[1], architectures: strings.Fields(f[2]), components: strings.Fields(f[3]),
			byHash: f[6] == "yes", sums: map[string]string{},
		}
		var err error
		if of.date, err = parseTime(f[4]); err != nil {
			return fmt.Errorf("the field Date: %w", err)
		}
		if f[5] != "" {
			if of.until, err = parseTime(f[5]); err != nil {
				return fmt.Errorf("the field Valid-Until: %w", err)
			}
		}
		for line := range strings.SplitSeq(f[7], "\n") {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if len(words) != 3 || checkSum(words[0]) != nil {
				return fmt.Errorf("the field SHA256 has the line %.200q", line)
			}
			of.sums[words[2]] = words[0]
		}
		return nil
	})
	if err == nil && of == nil {
		err = errors.New("it is empty")
	}
	return of, err
}

// parseTime reads a time as in a release. It is always in UTC, which some archives name so.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC1123, strings.Replace(text, "+0000", "UTC", 1))
	if err != nil {
		return at, fmt.Errorf("%.100q is not a time", text)
	}
	return at, nil
}

// check returns an error unless the release is that of a suite and in force. A snapshot never
// expires, but has nothing that is younger.
func (of *release) check(a *Archive, now time.Time) error {
	from := a.String()
	last := a.Suite[strings.LastIndexByte(a.Suite, '/')+1:]
	switch {
	case !slices.Contains([]string{of.suite, of.codename}, last) && !slices.Contains([]string{of.suite, of.codename}, a.Suite):
		return hint.New(hint.Content, "", "%s: the release is of the suite %.100q (%.100q)", from, of.suite, of.codename)
	case a.Snapshot.IsZero() && !of.until.IsZero() && now.After(of.until):
		return hint.New(hint.Content, "set the clock, or use another mirror: this one is not updated any more", "%s: the release expired on %s", from, of.until.Format(time.DateTime))
	case !a.Snapshot.IsZero() && of.date.After(a.Snapshot):
		return hint.New(hint.Content, "use another mirror of snapshots", "%s: the release is of %s, which is after the snapshot", from, of.date.Format(time.DateTime))
	}
	// The security archive of Debian calls its components updates/main, and its files main.
	for i, c := range of.components {
		of.components[i] = strings.TrimPrefix(c, "updates/")
	}
	for _, c := range a.Components {
		if !slices.Contains(of.components, c) {
			return hint.New(hint.Usage, "the components are: "+strings.Join(of.components, ", "), "%s has no component %s", from, c)
		}
	}
	return nil
}

// has returns an error unless the release has an architecture.
func (of *release) has(a *Archive, architecture string) error {
	if slices.Contains(of.architectures, architecture) {
		return nil
	}
	list := slices.DeleteFunc(slices.Clone(of.architectures), func(name string) bool { return name == "all" })
	return hint.New(hint.Usage, "omit the platform, or use a suite that has it; the architectures are: "+strings.Join(list, ", "), "%s has no architecture %s", a, architecture)
}

// unsign returns the content of a signed file without its signature, which it does not check.
func unsign(signed []byte) ([]byte, error) {
	const begin, end = "-----BEGIN PGP SIGNED MESSAGE-----\n", "\n-----BEGIN PGP SIGNATURE-----"
	content, isSigned := bytes.CutPrefix(signed, []byte(begin))
	if !isSigned {
		return signed, nil
	}
	_, content, header := bytes.Cut(content, []byte("\n\n"))
	content, _, footer := bytes.Cut(content, []byte(end))
	if !header || !footer {
		return nil, errors.New("it ends early")
	}
	return content, nil
}

// verify returns the content of a file that a key of the keyring has signed. It is what gpgv
// has read, so text around the signed one does not count.
func (a *Archive) verify(ctx context.Context, signed []byte) ([]byte, error) {
	if a.Unsigned {
		return unsign(signed)
	}
	program, err := exec.LookPath("gpgv")
	if err != nil {
		return nil, hint.New(hint.Build, "install gpgv (package gpgv, or gnupg)", "gpgv is not on PATH, and it checks the signature of %s", a)
	}
	dir, err := os.MkdirTemp(a.Work, "gpgv-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the caller removes Work
	keyring, err := a.keyring(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxVerifierTime)
	defer cancel()
	in, out := filepath.Join(dir, "signed"), filepath.Join(dir, "content")
	if err := os.WriteFile(in, signed, 0o600); err != nil {
		return nil, err
	}
	status, errout := stream.Head{Max: maxVerifierOutput}, stream.Head{Max: maxVerifierOutput}
	cmd := exec.CommandContext(ctx, program, "--homedir", dir, "--keyring", keyring, "--status-fd", "1", "--output", out, in) //nolint:gosec // its arguments are files
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = &status, &errout
	process.Group(cmd)
	err = cmd.Run() // it fails if any key is missing, and one signature is enough
	if ctx.Err() != nil {
		return nil, fmt.Errorf("gpgv: %w", context.Cause(ctx))
	}
	if way := judge(status.String()); way != "" || err != nil && !strings.Contains(status.String(), goodSignature) {
		return nil, hint.New(hint.Content, cmp.Or(way, "set packages.debian.keyring to the keys of this archive"), "%s: the signature of InRelease is not valid: %s", a, text.Line(lastLines(errout.String()), 300))
	}
	return os.ReadFile(out)
}

// goodSignature is the status of a signature that holds, by a key that has not expired.
const goodSignature = "[GNUPG:] GOODSIG "

// judge reads the status lines of gpgv. It returns what to do if no signature counts, or one
// is wrong.
func judge(status string) (way string) {
	switch {
	case strings.Contains(status, "[GNUPG:] BADSIG "):
		return "the file was changed after it was signed, or a proxy mixes two versions of it; try again or use another mirror"
	case strings.Contains(status, goodSignature):
		return ""
	case strings.Contains(status, "[GNUPG:] EXPKEYSIG "), strings.Contains(status, "[GNUPG:] REVKEYSIG "):
		return "the key has expired or was revoked; update the package debian-archive-keyring"
	case strings.Contains(status, "[GNUPG:] NO_PUBKEY "):
		return "the keyring lacks the key; update the package debian-archive-keyring, or set packages.debian.keyring"
	}
	return "use a mirror that has signed indexes; for an archive of your own without signatures, use --unsigned"
}

// lastLines joins the lines of what gpgv says, without its name.
func lastLines(said string) string {
	var list []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "gpgv: "))
		if line != "" && !strings.HasPrefix(line, "using ") && !strings.HasPrefix(line, "                ") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "; ")
}

// keyring returns the path of the keyring in the binary form that gpgv reads.
func (a *Archive) keyring(dir string) (string, error) {
	name := cmp.Or(a.Keyring, DefaultKeyring)
	f, err := os.Open(name)
	if err != nil {
		return "", hint.New(hint.Usage, "install debian-archive-keyring, or set packages.debian.keyring", "keyring: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(io.LimitReader(f, maxKeyring))
	if err != nil {
		return "", err
	}
	if content, err = dearmor(content); err != nil {
		return "", hint.New(hint.Usage, "export it with gpg --export", "keyring %s: %w", name, err)
	}
	path := filepath.Join(dir, "keyring")
	return path, os.WriteFile(path, content, 0o600)
}

// suffixes are the forms of an index, the one that is read fastest first.
var suffixes = []string{".gz", ".xz", ""}

// index returns the path below the suite, and the sha256, of an index in the first form that
// the release has.
func (of *release) index(component, architecture string) (path, sum string, ok bool) {
	for _, suffix := range suffixes {
		dir := component + "/binary-" + architecture + "/"
		if sum, ok = of.sums[dir+"Packages"+suffix]; !ok {
			continue
		}
		if of.byHash {
			return dir + "by-hash/SHA256/" + sum, sum, true
		}
		return dir + "Packages" + suffix, sum, true
	}
	return "", "", false
}

// ParseSnapshot reads the time of a snapshot, such as 20260801T000000Z.
func ParseSnapshot(text string) (time.Time, error) {
	at, err := time.Parse("20060102T150405Z", text)
	if err != nil {
		return at, hint.New(hint.Usage, "for example 20260801T000000Z", "snapshot: %s is not a time", strconv.Quote(text))
	}
	return at, nil
}
