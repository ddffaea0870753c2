// Package debian reads Debian archives and packages, and runs nothing of them.
//
// An [Archive] is the suite of an archive on a web server. Its signature is checked by gpgv,
// and everything else by the sha256 that the signed file leads to. [Index.Resolve] chooses
// the packages that others depend on, as apt does without recommended packages. [Read] reads
// a package, and [Alternatives] what its script tells update-alternatives.
//
// Archives, packages and the package databases of base images may be hostile, so all that is
// read is bounded. The package writes no files: the caller unpacks.
package debian

import (
	"fmt"
	"regexp"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// architectures has Debian's name of each platform, without the variants of the table below.
var architectures = map[string]string{
	"386": "i386", "amd64": "amd64", "arm64": "arm64", "loong64": "loong64", "mips64le": "mips64el", "ppc64le": "ppc64el",
	"riscv64": "riscv64", "s390x": "s390x",
}

// Architecture returns Debian's name of the architecture of a platform. It is an error if
// Debian's programs do not run there.
func Architecture(p ocispec.Platform) (string, error) {
	if p.OS != "linux" {
		return "", hint.New(hint.Usage, "list the platforms of linux only, or move packages into a build of its own", "%s: Debian packages are for linux", platform.Key(p))
	}
	if p.Architecture != "arm" {
		if name, ok := architectures[p.Architecture]; ok {
			return name, nil
		}
		return "", hint.New(hint.Usage, "omit the platform", "%s: Debian has no such architecture", platform.Key(p))
	}
	switch p.Variant {
	case "v5":
		return "armel", nil
	case "v6":
		return "", hint.New(hint.Usage, "use linux/arm/v7, or linux/arm/v5, whose packages run on ARMv6", "%s: Debian's armhf requires ARMv7, so its programs do not run on ARMv6", platform.Key(p))
	}
	return "armhf", nil
}

// The forms of names (Debian Policy, sections 5.6.1 and 5.6.7).
var (
	nameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	suiteForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._~-]*(/[A-Za-z0-9][A-Za-z0-9+._~-]*)*$`)
)

// IsName reports whether text can be the name of a package.
func IsName(text string) bool { return nameForm.MatchString(text) }

// IsSuite reports whether text can be the name of a suite or component.
func IsSuite(text string) bool { return suiteForm.MatchString(text) }

// describe names a package with its version in errors.
func describe(name, version string) string { return fmt.Sprintf("%s %s", name, version) }
