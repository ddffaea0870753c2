package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Errors of libraries that state a fact get the hint that names the flag or the key.
func TestWords(t *testing.T) {
	arm := []ocispec.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"}}
	absent := &local.AbsentError{Complete: arm}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&build.SpecError{Field: "image: entrypoint", Want: "/mabuild/app"}, "use --entrypoint /mabuild/app"},
		{&build.SpecError{Field: "image: entrypoint"}, ""},
		{&build.SpecError{Field: "files", Err: intree.ErrOutside}, "copy the file into the directory of .mabuild.yaml"},
		{&build.SpecError{Field: "files", Way: "rename it"}, "rename it"},
		{&build.SpecError{Field: "sources", Err: intree.ErrGit}, "copy the target of the link into the source tree, or allow its directory with --allow-path"},
		{&build.SpecError{Field: "sources"}, ""},
		{&build.SpecError{Field: "race"}, "use --cgo, or cgo in the configuration file, with a C compiler for each platform"},
		{&build.BaseError{Ref: build.Static, Err: manifest.ErrNotFound, Missing: arm}, "set another base image for these platforms: --base static --base linux/arm64=IMAGE, or in .mabuild.yaml base: {default: static, linux/arm64: IMAGE}"},
		{&build.BaseError{Ref: "x", Err: manifest.ErrNotFound, Missing: arm, Way: "omit these platforms"}, "omit these platforms"},
		{&build.BaseError{Ref: "x", Err: absent}, "not all platforms of the index were exported; complete are --platforms linux/arm64,linux/s390x"},
		{&build.DebuggerError{Supported: []string{"linux/386", "linux/amd64"}}, "use --platforms with one or more of linux/386, linux/amd64"},
		{&crosscompile.CommandError{Field: "Flags"}, `quote a value with spaces: --ldflags "-X 'main.text=two words'"`},
		{&crosscompile.CommandError{Field: "Cgo"}, `the package imports "C": use --cgo, or cgo: true in the configuration file, with a C compiler for each platform; on the bases static and scratch also --cgo-static`},
		{&crosscompile.CommandError{Way: "run go mod tidy"}, "run go mod tidy"},
		{&crosscompile.PackageError{Ignored: []string{"replace"}}, "use --as-main to build it as the main module"},
		{&manifest.AssemblyError{Field: "Items"}, "omit one of them: an index has one image for each platform"},
		{&manifest.AssemblyError{Field: "Replace"}, "use --replace to replace it"},
		{&manifest.AssemblyError{Field: "Type"}, "use --type oci, or omit --type"},
		{&manifest.AssemblyError{Field: "Annotations"}, "use --type oci for an OCI index, which supports annotations"},
		{&manifest.AssemblyError{Field: "Platforms"}, "copy it without --platforms, or declare its platform in an index with mabuild manifest create"},
		{&manifest.AssemblyError{}, ""},
		{&local.SeveralError{Platforms: arm}, "select one with --platforms"},
		{&local.SeveralError{Images: []string{"oci:x:a", "oci:x:b"}}, "use one of oci:x:a, oci:x:b"},
		{&registry.Error{Op: "PUT", Err: absent}, "not all platforms of the index were exported; complete are --platforms linux/arm64,linux/s390x"},
		{fmt.Errorf("x: %w", absent), "not all platforms of the index were exported; complete are --platforms linux/arm64,linux/s390x"},
		{&local.AbsentError{}, ""},
		{&registry.Error{Setting: "PlainHTTP", SettingHost: "r:5000"}, "to allow plain HTTP, use --insecure-registry r:5000, or in the configuration file registries: {r:5000: {plain_http: true}}"},
		{&registry.Error{Setting: "SkipVerify", SettingHost: "r:5000"}, "to skip the verification of its certificate, use --insecure-registry r:5000"},
		{&registry.Error{Setting: "CAFile"}, "to trust the authority of its certificate, use --ca-file FILE"},
		{&registry.Error{Setting: "ClientCert"}, "to send a client certificate, use --client-cert and --client-key"},
		{&registry.Error{Setting: "TrustRealms", SettingHost: "auth.x"}, "if you trust it with the credentials, use --trust-realm auth.x"},
		{&registry.Error{Status: 401, Err: &registry.Error{Setting: "TrustRealms", SettingHost: "auth.x"}}, "if you trust it with the credentials, use --trust-realm auth.x"},
		{&registry.Error{Setting: "QuotaReserve"}, "wait until 0001-01-01T00:00:00Z, use an account with a larger quota, or lower --quota-reserve"},
	} {
		if got := hintOf(test.err); got != test.want {
			t.Errorf("%T: %q, want %q", test.err, got, test.want)
		}
	}
}

// A name without a registry is one of Docker Hub. The hint says so if a request there fails,
// and only for a name that the user typed.
func TestUnqualified(t *testing.T) {
	for _, test := range []struct {
		typed      string
		repository string
		want       string
	}{
		{"mirror r:5000/web:v1 w2", "library/w2", "w2 names no registry, so it means docker.io/library/w2; for another registry write HOST/w2, or oci:DIR for a layout on disk"},
		{"manifest create m:v1 r:5000/web:v1", "library/m", "m names no registry, so it means docker.io/library/m; for another registry write HOST/m, or oci:DIR for a layout on disk"},
		{"manifest create r:5000/m:v1 web:v1=linux/arm64", "library/web", "web names no registry, so it means docker.io/library/web; for another registry write HOST/web, or oci:DIR for a layout on disk"},
		{"push --tag=acme/app:v1", "acme/app", "acme/app names no registry, so it means docker.io/acme/app; for another registry write HOST/acme/app"},
		{"push --repo acme", "acme/app", "acme names no registry, so it means docker.io/acme; for another registry write HOST/acme"},
		{"tag web:v1 v2", "library/web", "web names no registry, so it means docker.io/library/web; for another registry write HOST/web"},
		{"inspect docker.io/library/web", "library/web", ""},
		{"push --base alpine -t r:5000/app", "library/app", ""},
		{"mirror -f mirror.yaml", "library/web", ""},
	} {
		err := fmt.Errorf("x: %w", &registry.Error{Op: "HEAD", Host: "docker.io", Repository: test.repository})
		if got := unqualified(err, strings.Fields(test.typed)); got != test.want {
			t.Errorf("%s: %q, want %q", test.typed, got, test.want)
		}
	}
	if got := unqualified(&registry.Error{Host: "r:5000", Repository: "library/web"}, []string{"web"}); got != "" {
		t.Error(got)
	}
}

// Each flag that a hint about other tools names exists: on the command that the hint names
// before it, or on the one that was run. Each hint about a flag is given by some command.
func TestOtherTools(t *testing.T) {
	root := newRoot(&app{})
	given := map[string]bool{}
	for _, cmd := range commands(root) {
		cmd.InheritedFlags() // adds them to the command's
		for key := range flagsOfOthers {
			flag := key[strings.LastIndex(key, " ")+1:]
			if cmd.Flags().Lookup(flag) != nil || len(flag) == 1 && hasFlag(cmd, flag) {
				continue
			}
			way := theirFlag(cmd, flag)
			given[way] = true
			if wrong := absentFlag(cmd, way); wrong != "" {
				t.Errorf("%s --%s: %q: no flag %s", cmd.CommandPath(), flag, way, wrong)
			}
		}
	}
	for key, way := range flagsOfOthers {
		if !given[way] {
			t.Errorf("no command gives the hint of %s: %s", key, way)
		}
	}
	for _, ways := range []map[string]string{otherTools, groupsOfOthers} {
		for key, way := range ways {
			if wrong := absentFlag(root, way); wrong != "" {
				t.Errorf("%s: %q: no flag %s", key, way, wrong)
			}
		}
	}
	for _, test := range [][2]string{{"use --nowhere", "--nowhere"}, {"mabuild manifest create --replace replaces one", "--replace"}, {"mabuild manifest add -t x, or --help", ""}, {"mabuild apply -- -z", ""}} {
		if got := absentFlag(root, test[0]); got != test[1] {
			t.Errorf("%s: %q, want %q", test[0], got, test[1])
		}
	}
}

// absentFlag returns the first flag in a hint of cmd that its command lacks, or "".
func absentFlag(cmd *cobra.Command, way string) string {
	at, words := cmd, strings.Fields(way)
	for i, word := range words {
		flag, _, _ := strings.Cut(strings.TrimRight(word, ",;:"), "=")
		switch {
		case word == "mabuild":
			found, _, err := cmd.Root().Find(words[i+1:])
			if at = found; err != nil || found == cmd.Root() { // mabuild is the program, as in mabuild asks nothing
				at = cmd
			}
			at.InheritedFlags()
			at.InitDefaultHelpFlag()
		case slices.Contains([]string{"kubectl", "cosign", "docker", "git", "--"}, flag):
			at = nil
		case at != nil && len(flag) > 1 && flag[0] == '-' && !hasFlag(at, strings.TrimLeft(flag, "-")):
			return flag
		}
	}
	return ""
}

// hasFlag reports whether cmd has a flag, or a letter that is repeated.
func hasFlag(cmd *cobra.Command, name string) bool {
	letter := strings.Trim(name, name[:1]) == "" && cmd.Flags().ShorthandLookup(name[:1]) != nil
	return letter || cmd.Flags().Lookup(name) != nil
}
