package local

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// The text of a place is FORM:PATH[:NAME][@DIGEST][,platform=P]. A path ends at its
// first colon, at a digest and, in a Docker form, at an option. A path or a name that
// would be cut elsewhere stands in double quotes, in which "" is one of them:
// oci:"/a:b":v1.

// Parse reads one of the forms. Its errors have a hint that lists them.
// Parse(p.String()) is p.
func Parse(text string) (Place, error) {
	form, rest, _ := strings.Cut(text, ":")
	p := Place{Form: form}
	if !Is(text) {
		return p, hint.New(hint.Build, "write "+forms, "%q is not a local destination or source", text)
	}
	if form == FormContainerd {
		p.Path = rest
		if strings.ContainsAny(rest, "/:@ ") || strings.HasPrefix(rest, "-") {
			return p, hint.New(hint.Build, "write containerd:, or containerd:k8s.io", "containerd: %q is not a namespace", rest)
		}
		return p, nil
	}
	docker := form == FormDockerArchive || form == FormDockerDaemon
	var err error
	p.Path, rest, err = cutPath(rest, docker)
	if err == nil && strings.HasPrefix(rest, ":") {
		p.Name, rest, err = cutName(rest[1:], docker)
	}
	if err == nil && strings.HasPrefix(rest, "@") {
		digest, option := rest[1:], ""
		if docker {
			digest, option = cutOption(digest)
		}
		p.Digest, err = v1.NewHash(digest)
		rest = option
	}
	if err != nil {
		return p, hint.New(hint.Build, "write "+forms, "%q is invalid: %w", text, err)
	}
	if option, ok := strings.CutPrefix(rest, ","); ok {
		if !docker {
			return p, hint.New(hint.Build, "write "+forms, "%q is invalid: %s has no options", text, form)
		}
		if p.Platform, err = parseOption(option); err != nil {
			return p, fmt.Errorf("%s: %w", form, err)
		}
	}
	switch {
	case form == FormDockerDaemon && (p.Path != "" || p.Name != "" || p.Digest != v1.Hash{}):
		return p, hint.New(hint.Build, "write docker-daemon: or docker-daemon:platform=linux/amd64", "docker-daemon: %q is invalid", text)
	case form != FormDockerDaemon && p.Path == "":
		return p, hint.New(hint.Build, "write "+forms, "%q has no path", text)
	}
	return p, nil
}

// String returns the place as Parse reads it.
func (p Place) String() string {
	if p.Form == FormContainerd {
		return p.Form + ":" + p.Path
	}
	docker := p.Form == FormDockerArchive || p.Form == FormDockerDaemon
	s := p.Path
	if path, rest, err := cutPath(p.Path, docker); err != nil || path != p.Path || rest != "" {
		s = quote(p.Path)
	}
	if p.Name != "" {
		s += ":" + writeName(p.Name, docker)
	}
	if p.Digest != (v1.Hash{}) {
		s += "@" + p.Digest.String()
	}
	if p.Platform.OS != "" {
		if p.Form != FormDockerDaemon {
			s += ","
		}
		s += "platform=" + platform.Key(p.Platform)
	}
	return p.Form + ":" + s
}

// Ref is the reference of the place's image for its [manifest.Source]: NAME[@DIGEST],
// @DIGEST, or empty for the only image there is.
func (p Place) Ref() string { return writeRef(p.Name, p.Digest) }

func writeRef(name string, digest v1.Hash) string {
	ref := writeName(name, false)
	if digest != (v1.Hash{}) {
		ref += "@" + digest.String()
	}
	return ref
}

// parseRef reads what writeRef wrote.
func parseRef(ref string) (name string, digest v1.Hash, err error) {
	name, rest, err := cutName(ref, false)
	if err == nil && rest != "" {
		digest, err = v1.NewHash(rest[1:])
	}
	return name, digest, err
}

func writeName(name string, docker bool) string {
	if read, rest, err := cutName(name, docker); err != nil || read != name || rest != "" {
		return quote(name)
	}
	return name
}

// digestMark begins a digest.
var digestMark = regexp.MustCompile(`@sha(256|512):`)

// optionMark begins an option, which stands alone in docker-daemon:platform=P.
var optionMark = regexp.MustCompile(`^platform=|,[a-z]+=`)

// cutPath takes a path off the beginning of s, at the first colon that may end one, as
// skopeo does.
func cutPath(s string, docker bool) (path, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return unquote(s)
	}
	from := 0
	if runtime.GOOS == "windows" {
		from = len(filepath.VolumeName(s))
	}
	end := len(s)
	if at := strings.IndexByte(s[from:], ':'); at >= 0 {
		end = from + at
	}
	if at := digestMark.FindStringIndex(s); at != nil {
		end = min(end, at[0])
	}
	if docker {
		before, option := cutOption(s)
		if end = min(end, len(before)); end == 0 && option != "" {
			return "", option, nil
		}
	}
	return s[:end], s[end:], nil
}

// cutName takes a name off the beginning of s: all of it but its digest, and but the
// option of a Docker form.
func cutName(s string, docker bool) (name, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		name, rest, err = unquote(s)
		if err == nil && strings.HasPrefix(rest, ":") {
			err = fmt.Errorf("the text after %s is neither a digest nor an option", quote(name))
		}
		return name, rest, err
	}
	option := ""
	if docker {
		s, option = cutOption(s)
	}
	if all := digestMark.FindAllStringIndex(s, -1); all != nil {
		at := all[len(all)-1][0]
		return s[:at], s[at:] + option, nil
	}
	return s, option, nil
}

// cutOption takes the options off the end of s, with the comma before them.
func cutOption(s string) (before, option string) {
	at := optionMark.FindStringIndex(s)
	switch {
	case at == nil:
		return s, ""
	case s[at[0]] != ',':
		return s[:at[0]], "," + s[at[0]:]
	}
	return s[:at[0]], s[at[0]:]
}

func parseOption(option string) (p ocispec.Platform, err error) {
	text, ok := strings.CutPrefix(option, "platform=")
	if !ok {
		return p, hint.New(hint.Build, "the only option is platform=P", "unknown option %q", option)
	}
	return platform.Parse(text)
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// unquote takes a quoted text off the beginning of s. Behind it nothing stands, or the
// next part of the place.
func unquote(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case strings.HasPrefix(s[i:], `""`):
			b.WriteByte('"')
			i++
		case i+1 < len(s) && !strings.ContainsRune(":@,", rune(s[i+1])):
			return "", "", fmt.Errorf("unexpected text %q after a quoted text", s[i+1:])
		default:
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("%s: the quotation mark is not closed", s)
}
