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

// The text of a place is FORM:PATH[:NAME][@DIGEST][,platform=P]. A path ends at its first
// colon, at a digest and, in a Docker form, at an option. A path or a name that would be
// cut elsewhere is written in double quotes, in which "" is one quote: oci:"/a:b":v1. So
// every path and name can be written.

// meant returns the place that a text probably means: a path, or a destination as buildx
// writes it. Otherwise it returns all forms.
func meant(text string) string {
	if found := buildx.FindStringSubmatch(text); found != nil {
		return found[1] + "-archive:" + found[2]
	}
	switch {
	case strings.HasSuffix(text, ".tar"), strings.HasSuffix(text, ".tar.gz"):
		return FormArchive + ":" + text + " or " + FormDockerArchive + ":" + text
	case strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"), strings.HasPrefix(text, "/"):
		return FormLayout + ":" + text
	}
	return forms
}

// buildx matches the value of docker buildx build --output for an archive.
var buildx = regexp.MustCompile(`^type=(oci|docker),dest=([^,]+)$`)

// Parse reads one of the forms. Its errors have a hint that lists them. Parse(p.String())
// is p, without Out and Scratch. Nothing is looked up: the file need not exist.
func Parse(text string) (Place, error) {
	form, rest, _ := strings.Cut(text, ":")
	p := Place{Form: form}
	if !Is(text) {
		return p, hint.New(hint.Build, "write "+meant(text), "%q is not a local destination or source", text)
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
	// The daemon has neither paths nor digests here: the tag of the image is the
	// reference of Put.
	case form == FormDockerDaemon && (p.Path != "" || p.Name != "" || p.Digest != v1.Hash{}):
		return p, hint.New(hint.Build, "write docker-daemon: or docker-daemon:platform=linux/amd64", "docker-daemon: %q is invalid", text)
	case form != FormDockerDaemon && p.Path == "":
		return p, hint.New(hint.Build, "write "+forms, "%q has no path", text)
	}
	return p, nil
}

// String returns the place as Parse reads it, with quotes where they are needed.
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

// Ref returns the reference of the image for the place's [manifest.Source]:
// NAME[@DIGEST], @DIGEST, or "" for the only image.
func (p Place) Ref() string { return writeRef(p.Name, p.Digest) }

// writeRef returns a reference of a layout or archive, with the name in quotes if need
// be.
func writeRef(name string, digest v1.Hash) string {
	ref := writeName(name, false)
	if digest != (v1.Hash{}) {
		ref += "@" + digest.String()
	}
	return ref
}

// parseRef reads what writeRef returns.
func parseRef(ref string) (name string, digest v1.Hash, err error) {
	name, rest, err := cutName(ref, false)
	if err == nil && rest != "" {
		digest, err = v1.NewHash(rest[1:])
	}
	return name, digest, err
}

// writeName returns a name, quoted if cutName would read it differently.
func writeName(name string, docker bool) string {
	if read, rest, err := cutName(name, docker); err != nil || read != name || rest != "" {
		return quote(name)
	}
	return name
}

// digestMark matches the beginning of a digest. The algorithm is part of it, because a
// name may contain an @.
var digestMark = regexp.MustCompile(`@sha(256|512):`)

// optionMark matches the beginning of an option. docker-daemon:platform=P has it without
// a comma.
var optionMark = regexp.MustCompile(`^platform=|,[a-z]+=`)

// cutPath splits a path from the beginning of s. It ends at the first colon, as with
// skopeo, at a digest, or at an option of a Docker form. On Windows the colon of a drive
// is part of it.
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

// cutName splits a name from the beginning of s. It ends at the last digest, and in a
// Docker form at an option.
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

// cutOption splits the options from the end of s, with a comma before them.
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

// parseOption reads an option without its comma; platform=P is the only one.
func parseOption(option string) (p ocispec.Platform, err error) {
	text, ok := strings.CutPrefix(option, "platform=")
	if !ok {
		return p, hint.New(hint.Build, "the only option is platform=P", "unknown option %q", option)
	}
	return platform.Parse(text)
}

// quote puts s in double quotes and doubles those within.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// unquote splits a quoted text from the beginning of s. The end of s or the next part of
// the place must follow it.
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
