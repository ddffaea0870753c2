package places

import (
	"cmp"
	"os"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest/local"
)

// foreign are transports of other tools, such as skopeo, and words for a file, which are
// no names of official images at Docker Hub.
var foreign = []string{"containers-storage", "dir", "ostree", "sif", "docker-tarball", "tarball", "oci-layout", "containerd-storage", "tar", "file", "archive", "layout", "oci-dir", "oci-tar", "docker-tar"}

// CheckReference rejects what is not the name of an image in a registry, with a hint
// about what was probably meant: users paste URLs, file names and transports of other
// tools. A valid name is rejected only if a file of that name exists and the name has a
// dot.
func CheckReference(ref string) error {
	// Docker takes the port for the tag of an image at Docker Hub.
	if hostAlone.MatchString(ref) {
		return usage("write HOST/REPOSITORY:TAG, for example "+ref+"/app:v1", "%q is a registry, not an image", ref)
	}
	return checkName(ref, "an image reference")
}

// checkName is CheckReference of what an error calls kind.
func checkName(ref, kind string) error {
	if scheme, rest, ok := strings.Cut(ref, "://"); ok {
		return usage("omit "+scheme+"://: "+bareReference(rest), "%q has a URL scheme, but an image reference has none", ref)
	}
	form, _, _ := strings.Cut(ref, ":")
	for _, f := range foreign {
		if form == f && strings.HasPrefix(ref, f+":") {
			return usage("write oci:DIR, oci-archive:FILE or docker-archive:FILE for local images, or HOST/REPOSITORY:TAG", "%s: is not supported", form)
		}
	}
	_, err := name.ParseReference(ref)
	// go-containerregistry accepts names that no registry has.
	bad := err != nil || strings.HasSuffix(ref, "/") || dots.MatchString(ref)
	if way := asPath(ref, bad); way != "" {
		return usage(way, "%s is a local path, not an image in a registry", ref)
	}
	if bad {
		return usage(whyBad(ref), "%s is not %s", quoteRef(ref), kind)
	}
	return nil
}

// dots matches the relative elements of a path.
var dots = regexp.MustCompile(`(^|/)\.\.?([/:@]|$)`)

// hostAlone matches a host and its port.
var hostAlone = regexp.MustCompile(`^(localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+):[0-9]+$`)

// bareReference removes the query and outer slashes from a pasted URL without its scheme.
func bareReference(text string) string {
	text, _, _ = strings.Cut(text, "?")
	return strings.Trim(text, "/")
}

// archiveName matches the name of a file that is an archive, and of no image that anybody has.
var archiveName = regexp.MustCompile(`^[^/:@]+\.(tar|tgz|tar\.gz)$`)

// asPath returns a hint if ref is rather a local path, otherwise "". bad tells that ref
// is not a valid name of an image.
func asPath(ref string, bad bool) string {
	info, err := os.Stat(ref)
	rooted := strings.HasPrefix(ref, "/") || ref == "." || ref == ".." || strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../")
	switch {
	case err != nil && archiveName.MatchString(ref):
		return "for an archive, write oci-archive:" + ref + " or docker-archive:" + ref
	case err != nil && rooted:
		return "write oci:DIR, oci-archive:FILE or docker-archive:FILE for local images"
	case err != nil || !rooted && !bad && (info.IsDir() || !strings.Contains(ref, ".")):
		return ""
	case info.IsDir():
		return "for an OCI layout, write oci:" + ref
	}
	return "for an archive, write oci-archive:" + ref + " or docker-archive:" + ref
}

// quoteRef returns a reference in quotes, with control characters escaped.
func quoteRef(ref string) string { return `"` + text.Escape(ref, "") + `"` }

// slashTag matches a reference whose tag has a slash, as the name of a branch has.
var slashTag = regexp.MustCompile(`^([^/]+/[^:]+):([A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_./-]+)$`)

// whyBad returns a hint about the mistake in an invalid name.
func whyBad(ref string) string {
	path, tag := imageref.Cut(ref).Repository, ""
	if path != ref {
		tag = ref[len(path)+1:]
	}
	if before, digest, ok := strings.Cut(ref, "@"); ok {
		path, tag = imageref.Cut(before).Repository, ""
		if _, err := name.NewDigest("x@" + digest); err != nil {
			return "a digest is sha256: and 64 hexadecimal digits"
		}
	}
	switch {
	case strings.HasSuffix(ref, "/"):
		return "omit the slash at the end: " + strings.TrimRight(ref, "/")
	case strings.Contains(ref, ","):
		return "separate images by blanks: " + strings.ReplaceAll(ref, ",", " ")
	case path != ref && tag == "" && strings.HasSuffix(ref, ":"):
		return "write a tag after the colon, or omit the colon"
	case slashTag.MatchString(ref):
		parts := slashTag.FindStringSubmatch(ref)
		return "a tag has no slash: write " + parts[1] + ":" + strings.ReplaceAll(parts[2], "/", "-")
	case strings.ToLower(path) != path:
		return "write the repository in lower case: " + strings.ToLower(path) + strings.TrimPrefix(ref, path)
	}
	return "write HOST/REPOSITORY:TAG, for example ghcr.io/acme/app:v1"
}

// WithTag returns the reference to a tag in the repository, or local place, of ref.
func WithTag(ref, tag string) string {
	at, err := Parse(ref)
	if err != nil {
		return ref // its own check reports it
	}
	return at.ByTag(tag).String()
}

// CheckImage is CheckReference for a reference that may be a local place.
func CheckImage(ref string) error {
	if local.Is(ref) {
		_, err := local.Parse(ref)
		if err != nil {
			return &hint.Error{Kind: hint.Usage, Err: err}
		}
		return nil
	}
	return CheckReference(ref)
}

// CheckRepository rejects what is not a repository in a registry.
func CheckRepository(repo string) error {
	if local.Is(repo) {
		return usage("mabuild inspect "+repo+" lists its images", "%s is not a repository in a registry", repo)
	}
	return checkName(repo, "a repository")
}

// CheckTag rejects what is not a valid repository:tag.
func CheckTag(ref string) error {
	if strings.Contains(ref, "@") {
		return usage("write repository:tag", "tag %q has a digest, but the build determines the digest", ref)
	}
	err := CheckReference(ref)
	if err == nil {
		_, err = name.NewTag(ref, name.WeakValidation)
	}
	if err != nil {
		return usage(cmp.Or(hint.Of(err), "write repository:tag, for example ghcr.io/acme/app:v1"), "tag %s", strings.TrimPrefix(err.Error(), "tag "))
	}
	return nil
}

// usage returns an error about what the user wrote, with a hint.
func usage(way, format string, args ...any) error { return hint.New(hint.Usage, way, format, args...) }
