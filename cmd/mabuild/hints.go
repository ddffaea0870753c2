package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// hintOf returns what the user can do about err, or "".
func hintOf(err error) string { return hint.Of(err, words) }

// words returns the hint for an error of a library that states a fact, if a flag or the
// configuration file helps. It is about err alone, not about what err wraps.
func words(err error) string {
	switch e := err.(type) { //nolint:errorlint // hint.Of asks for every layer
	case *build.SpecError:
		return specWords(e)
	case *build.BaseError:
		if e.Ref == build.Static && len(e.Missing) > 0 {
			key := platform.Key(e.Missing[0])
			return "set another base image for these platforms: --base static --base " + key + "=IMAGE, or in .mabuild.yaml base: {default: static, " + key + ": IMAGE}"
		}
		if errors.Is(e, manifest.ErrNotFound) {
			return "check the name and the tag of the base image"
		}
	case *build.DebuggerError:
		return "use --platforms with one or more of " + strings.Join(e.Supported, ", ")
	case *crosscompile.CommandError:
		return commandWords[e.Field]
	case *crosscompile.PackageError:
		if len(e.Ignored) > 0 {
			return "use --as-main to build it as the main module"
		}
	case *registry.Error:
		return registryWords(e)
	case *manifest.PlatformError:
		return "ask for platforms that the image has, or build the missing ones, too"
	case *manifest.AssemblyError:
		return assemblyWords[e.Field]
	case *local.SeveralError:
		if len(e.Platforms) > 0 {
			return "select one with --platforms"
		}
	case *local.AbsentError:
		if len(e.Complete) > 0 {
			return "not all platforms of the index were exported; complete are --platforms " + strings.ReplaceAll(platform.Keys(e.Complete), ", ", ",")
		}
	}
	return ""
}

// commandWords has the hints by the field of the Request that an error is about.
var commandWords = map[string]string{
	"Cgo":   `the package imports "C": use --cgo, or cgo: true in the configuration file, with a C compiler for each platform; on the bases static and scratch also --cgo-static`,
	"Flags": `quote a value with spaces: --ldflags "-X 'main.text=two words'"`,
}

// assemblyWords has the hints by the field of the Assembly that an error is about.
var assemblyWords = map[string]string{
	"Select":      "select only platforms that exist, or add the missing ones to the source",
	"Remove":      "mabuild inspect INDEX lists its platforms and digests",
	"Base":        "to delete the index, use mabuild delete",
	"Items":       "omit one of them: an index has one image for each platform",
	"Replace":     "use --replace to replace it",
	"Type":        "use --type oci, or omit --type",
	"Annotations": "use --type oci for an OCI index, which supports annotations",
	"Platforms":   "copy it without --platforms, or declare its platform in an index with mabuild manifest create",
}

func specWords(e *build.SpecError) string {
	switch {
	case e.Field == "image: entrypoint" && e.Want != "":
		return "use --entrypoint " + e.Want
	case e.Field == "files" && errors.Is(e.Err, intree.ErrOutside):
		return "copy the file into the directory of .mabuild.yaml"
	case e.Field == "sources" && e.Err != nil:
		return "copy the target of the link into the source tree, or allow its directory with --allow-path"
	case strings.HasSuffix(e.Field, "race"):
		return "use --cgo, or cgo in the configuration file, with a C compiler for each platform"
	}
	return ""
}

// registryWords has the hints by the setting of the client that an error is about.
func registryWords(e *registry.Error) string {
	switch e.Setting {
	case "PlainHTTP":
		return "to allow plain HTTP, use --insecure-registry " + e.SettingHost + ", or in the configuration file registries: {" + e.SettingHost + ": {plain_http: true}}"
	case "SkipVerify":
		return "to skip the verification of its certificate, use --insecure-registry " + e.SettingHost
	case "CAFile":
		return "to trust the authority of its certificate, use --ca-file FILE"
	case "ClientCert":
		return "to send a client certificate, use --client-cert and --client-key"
	case "TrustRealms":
		return "if you trust it with the credentials, use --trust-realm " + e.SettingHost
	case "QuotaReserve":
		at, _ := e.RetryAt()
		return "wait until " + at.UTC().Format(time.RFC3339) + ", use an account with a larger quota, or lower --quota-reserve"
	}
	return ""
}

// unqualified returns a hint if a request to Docker Hub failed for a name that the user
// typed without a registry, as w2 for HOST/w2, otherwise "".
func unqualified(err error, typed []string) string {
	var r *registry.Error
	if !errors.As(err, &r) || r.Host != "docker.io" {
		return ""
	}
	also := ""
	if slices.ContainsFunc(typed, func(word string) bool { return slices.Contains(takeLayouts, word) }) {
		also = ", or oci:DIR for a layout on disk"
	}
	for _, word := range typed {
		// A flag and its value, a source and its platform: --tag=w2, w2=linux/arm64.
		for _, text := range strings.Split(word, "=") {
			at := imageref.Parts{Repository: imageref.Cut(text).Repository}
			if at.Repository == "" || at.Named() {
				continue
			}
			// A destination of --repo is a namespace.
			for _, meant := range []string{at.Canonical().Repository, "docker.io/" + at.Repository} {
				if strings.HasPrefix("docker.io/"+r.Repository+"/", meant+"/") {
					return at.Repository + " names no registry, so it means " + meant + "; for another registry write HOST/" + at.Repository + also
				}
			}
		}
	}
	return ""
}

// takeLayouts are the commands whose images may be in a layout.
var takeLayouts = []string{"mirror", "copy", "cp", "manifest", "inspect", "sbom", "verify"}

// invalidManifest gives err, of storing c, the way out if the registry refuses the
// manifest itself (400 MANIFEST_INVALID): one that is old may take no OCI media types, or
// no index. The ways are the flags for that, each "" where it changes nothing.
func invalidManifest(err error, c manifest.Content, docker, noIndex string) error {
	var r *registry.Error
	if !errors.As(err, &r) || !r.InvalidManifest() {
		return err
	}
	mediaType, unknown := c.MediaType()
	if unknown != nil {
		return err
	}
	oci := slices.Contains([]string{"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"}, string(mediaType))
	switch {
	case oci && docker != "" && noIndex != "":
		return &hint.Error{Err: err, Hint: "old registries do not support OCI media types or indexes: try " + docker + ", or " + noIndex}
	case oci && docker != "":
		return &hint.Error{Err: err, Hint: "old registries do not support OCI media types: try " + docker}
	case noIndex != "":
		return &hint.Error{Err: err, Hint: "old registries do not support indexes: try " + noIndex}
	}
	return err
}
