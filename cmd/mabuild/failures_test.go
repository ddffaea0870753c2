//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Wrong command lines, the exit code of each, and all that it prints on standard error.
// Leading NAME=VALUE words are variables, and single quotes keep blanks. $R is a registry with an
// index app:v1 of linux/amd64 and linux/arm64 and an image app:one of linux/amd64; $S requires a
// login, and $T has a certificate of an unknown authority. $D is the working directory, $K has keys, $HOST is the platform of this machine, $GO the version of Go,
// and SHA any digest.
var failures = []struct {
	run  string
	code int
	says string
}{
	{`psuh ./ok`, exitUsage, `mabuild: unknown command "psuh"
hint: did you mean push?`},
	{`image ls`, exitUsage, `mabuild: unknown command "image"
hint: mabuild --help lists the commands`},
	{`publish ./ok`, exitUsage, `mabuild: unknown command "publish"
hint: mabuild push`},
	{`manifest creat a b`, exitUsage, `mabuild: unknown command "manifest creat"
hint: did you mean create?`},
	{`completion tcsh`, exitUsage, `mabuild: unknown command "completion tcsh"
hint: did you mean bash?`},
	{`push ./ok --platfrms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --platfrms
hint: did you mean --platforms?`},
	{`push ./ok --push -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --push
hint: omit it: mabuild push publishes; mabuild build writes to local destinations instead`},
	{`resolve -f ok.yaml --push=false`, exitUsage, `mabuild: unknown flag: --push
hint: omit it: the images are published; with --dry-run, nothing is`},
	{`build ./ok --push`, exitUsage, `mabuild: unknown flag: --push
hint: mabuild push publishes, and mabuild build writes to local destinations`},
	{`inspect --push=false $R/app:v1`, exitUsage, `mabuild: unknown flag: --push
hint: mabuild inspect --help lists the flags`},
	{`config init --force`, exitUsage, `mabuild: unknown flag: --force
hint: mabuild overwrites no file: remove it first`},
	{`config import --force`, exitUsage, `mabuild: unknown flag: --force
hint: mabuild overwrites no file: remove it first`},
	{`push ./ok --force`, exitUsage, `mabuild: unknown flag: --force
hint: omit it: mabuild asks nothing`},
	{`check --image $R/app:v1`, exitUsage, `mabuild: unknown flag: --image
hint: the manifests name the images; mabuild inspect --require PLATFORMS IMAGE checks one`},
	{`mirror --image $R/app:v1`, exitUsage, `mabuild: unknown flag: --image
hint: the images are arguments: mabuild mirror SOURCE TARGET`},
	{`mirror $R/app:v1 --tarball x.tar`, exitUsage, `mabuild: unknown flag: --tarball
hint: an archive may be the target: mabuild mirror IMAGE docker-archive:FILE`},
	{`resolve -L -f ok.yaml`, exitUsage, `mabuild: unknown shorthand flag: 'L' in -L
hint: use --load, which also loads the image into Docker or podman`},
	{`resolve --tarball x.tar -f ok.yaml`, exitUsage, `mabuild: unknown flag: --tarball
hint: use --output docker-archive:FILE`},
	{`apply -k overlays`, exitUsage, `mabuild: unknown shorthand flag: 'k' in -k
hint: kubectl kustomize DIR | mabuild apply -f -`},
	{`mirror --all-tags $R/app $R/copy`, exitUsage, `mabuild: unknown flag: --all-tags
hint: name the tags in a file: mabuild config init mirror writes one; tags: {glob: "*"} are all`},
	{`mirror --src-tls-verify=false $R/app:v1 $R/copy:v1`, exitUsage, `mabuild: unknown flag: --src-tls-verify
hint: use --insecure-registry HOST`},
	{`mirror --dest-creds a:b $R/app:v1 $R/copy:v1`, exitUsage, `mabuild: unknown flag: --dest-creds
hint: mabuild login HOST stores credentials`},
	{`mirror -r $R/app:v1 $R/copy:v1`, exitUsage, `mabuild: unknown shorthand flag: 'r' in -r
hint: use --referrers`},
	{`resolve -f ok.yaml -o yaml`, exitUsage, `mabuild: -o yaml is a format, not a file
hint: omit it: the manifests are printed as they are; a file of this name is ./yaml`},
	{`inspect --config $R/app:v1`, exitUsage, `mabuild: inspect requires IMAGE
hint: --config names mabuild's own file; --platform PLATFORM prints the config of an image`},
	{`completion bash zsh`, exitUsage, `mabuild: completion bash takes no arguments, got "zsh"
hint: mabuild completion bash --help`},
	{`-version`, exitUsage, `mabuild: -version: a flag of several letters has two dashes
hint: write --version`},
	{`sbom .`, exitUsage, `mabuild: . is a local path, not an image in a registry
hint: for an OCI layout, write oci:.`},
	{`inspect $R/../app:v1`, exitUsage, `mabuild: "$R/../app:v1" is not an image reference
hint: write HOST/REPOSITORY:TAG, for example ghcr.io/acme/app:v1`},
	{`man push`, exitUsage, `mabuild: man push: names a command, not a directory
hint: mabuild push --help, or man mabuild-push; a directory of this name is ./push`},
	{`push ./ok --cache-repo type=registry,ref=$R/acme/cc,mode=max -t $R/new:v1`, exitUsage, `mabuild: --cache-repo type=registry,ref=$R/acme/cc,mode=max is not the name of a repository
hint: write --cache-repo $R/acme/cc`},
	{`push ./ok --sign -q -t $R/new:v1`, exitUsage, `mabuild: --sign needs a value, and -q is a flag
hint: write --sign FILE: Sign with the private key in FILE or env://VARIABLE, or with the program cosign; none signs nothing (default none)`},
	{`push ./ok --sbom -t $R/new:v1`, exitUsage, `mabuild: --sbom needs a value, and -t is a flag
hint: write --sbom VALUE: Attach a software bill of materials (SBOM) to each image: none, spdx, cyclonedx (default none)`},
	{`push ./ok --sign=true --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: sign: true is not a key
hint: name a key: --sign cosign.key, --sign env://VARIABLE or --sign cosign`},
	{`push --config ko.yaml`, exitUsage, `mabuild: ko.yaml:1: defaultPlatforms: unknown key
hint: mabuild config import ko.yaml converts a file of ko`},
	{`place --cluster`, exitUsage, `mabuild: place: no manifests
hint: name a file or a directory, or - for standard input; with --policy it takes the images of the cluster`},
	{`resolve -f nope.yaml`, exitUsage, `mabuild: nope.yaml:4:10: package ./nope: no such directory
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`list-tags $R/app`, exitUsage, `mabuild: unknown command "list-tags"
hint: mabuild tags REPOSITORY`},
	{`docs`, exitUsage, `mabuild: unknown command "docs"
hint: mabuild COMMAND --help, or mabuild man DIR for the manual pages`},
	{`push ./ok busybox:1.36 -t $R/new:v1`, exitUsage, `mabuild: busybox:1.36 is an image, not a package
hint: mabuild mirror copies an image that exists, docker run starts it; -t names the image that is built`},
	{`push ./ok --platforms linux/amd64 linux/arm64 -t $R/new:v1`, exitUsage, `mabuild: linux/arm64 is a platform, not a package
hint: write --platforms linux/arm64; separate several by commas: --platforms linux/amd64,linux/arm64`},
	{`push ./ok -P linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: linux/amd64 is a platform, not a package
hint: write --platforms linux/amd64; separate several by commas: --platforms linux/amd64,linux/arm64`},
	{`inspect -P linux/amd64 $R/app:v1`, exitUsage, `mabuild: unknown shorthand flag: 'P' in -P
hint: use --platforms linux/amd64,linux/arm64`},
	{`inspect --require lnux/amd64 $R/app:v1`, exitUsage, `mabuild: platform "lnux/amd64": has no known operating system
hint: did you mean linux/amd64?`},
	{`inspect --require linux/amd64, $R/app:v1`, exitUsage, `mabuild: --require has an empty item
hint: remove the comma; check that the script's variables are set`},
	{`inspect missing.tar`, exitUsage, `mabuild: missing.tar is a local path, not an image in a registry
hint: for an archive, write oci-archive:missing.tar or docker-archive:missing.tar`},
	{`tag $R/app:v1 $R/app:v2`, exitUsage, `mabuild: "$R/app:v2" is not a tag
hint: mabuild tag $R/app:v1 v2`},
	{`tag $R/app:v1 v1+2`, exitUsage, `mabuild: "v1+2" is not a tag
hint: a tag has letters, digits, _, . and -`},
	{`catalog https://$R`, exitUsage, `mabuild: "https://$R" has a URL scheme, but a registry is HOST[:PORT]
hint: mabuild catalog $R`},
	{`check $R/app:v1`, exitUsage, `mabuild: stat $R/app:v1: no such file or directory
hint: mabuild inspect --require PLATFORMS $R/app:v1 checks an image`},
	{`push ./ok -f Dockerfile -t $R/new:v1`, exitUsage, `mabuild: unknown shorthand flag: 'f' in -f
hint: mabuild reads no Dockerfile: name the package, ./cmd/NAME`},
	{`push ./ok --builder multi -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --builder
hint: omit it: the go command compiles here, without a builder`},
	{`manifest annotat --purge $R/app:v1`, exitUsage, `mabuild: unknown command "manifest annotat"
hint: did you mean annotate?`},
	{`imagetools create -t $R/new:v1 $R/app:v1`, exitUsage, `mabuild: unknown command "imagetools"
hint: mabuild manifest create, or mabuild inspect`},
	{`inspect --require linux/amd46 $R/app:v1`, exitUsage, `mabuild: platform "linux/amd46": has no known architecture
hint: did you mean linux/amd64?`},
	{`push ./ok --no-cache -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --no-cache
hint: mabuild compares what feeds a build each time; --cache DIR with an empty directory starts from nothing`},
	{`push ./ok --jobs many -t $R/new:v1`, exitUsage, `mabuild: --jobs "many": must be a whole number
hint: mabuild push --help describes the flag`},
	{`push ./ok --dry-run=perhaps -t $R/new:v1`, exitUsage, `mabuild: --dry-run "perhaps": must be true or false
hint: mabuild push --help describes the flag`},
	{`push ./ok --timeout 5 -t $R/new:v1`, exitUsage, `mabuild: flag --timeout: must be a duration such as 90s, 1h30m or 3d`},
	{`push ./ok --progress fancy -t $R/new:v1`, exitUsage, `mabuild: flag --progress: "fancy" is not one of auto, tty, plain, json, none`},
	{`push ./ok -q --progress plain -t $R/new:v1`, exitUsage, `mabuild: --quiet and --progress cannot be used together
hint: use only one of them`},
	{`push ./ok -t`, exitUsage, `mabuild: flag needs an argument: 't' in -t
hint: write --tag VALUE: Publish under these tags; templates such as {{.Version}} take their values from git (default latest)`},
	{`push ./ok --sbom`, exitUsage, `mabuild: flag needs an argument: --sbom
hint: write --sbom VALUE: Attach a software bill of materials (SBOM) to each image: none, spdx, cyclonedx (default none)`},
	{`delete -f ok.yaml`, exitUsage, `mabuild: unknown shorthand flag: 'f' in -f
hint: mabuild delete deletes images; kubectl delete -f FILE deletes objects`},
	{`cache clear`, exitUsage, `mabuild: unknown command "cache clear"
hint: mabuild cache prune --max 0 empties the cache`},
	{`push ./ok --cache-repo oci:records -t $R/new:v1`, exitUsage, `mabuild: --cache-repo oci:records is not in a registry
hint: use a repository such as ghcr.io/acme/build-cache`},
	{`check --platforms linux/amd64 linux/arm64`, exitUsage, `mabuild: stat linux/arm64: no such file or directory
hint: separate platforms by commas: --platform linux/amd64,linux/arm64`},
	{`apply -n web -f ok.yaml`, exitUsage, `mabuild: unknown shorthand flag: 'n' in -n
hint: flags of kubectl come after --: mabuild apply -f FILE -- --context NAME --namespace NAME`},
	{`push ./ok --media-types dockr -t $R/new:v1`, exitUsage, `mabuild: flag --media-types: "dockr" is not one of oci, docker; did you mean docker?`},
	{`push ./ok --sbom spdxx -t $R/new:v1`, exitUsage, `mabuild: flag --sbom: "spdxx" is not one of none, spdx, cyclonedx; did you mean spdx?`},
	{`push ./ok --sbom cdx -t $R/new:v1`, exitUsage, `mabuild: flag --sbom: "cdx" is not one of none, spdx, cyclonedx; did you mean cyclonedx?`},
	{`push ./ok --sbom=true -t $R/new:v1`, exitUsage, `mabuild: flag --sbom: "true" is not one of none, spdx, cyclonedx; did you mean spdx?`},
	{`push ./ok --provenance mode=max -t $R/new:v1`, exitUsage, `mabuild: flag --provenance: "mode=max" is not one of none, min, max; did you mean max?`},
	{`push ./ok --provenance=false -t $R/new:v1`, exitUsage, `mabuild: flag --provenance: "false" is not one of none, min, max; did you mean none?`},
	{`push ./ok --vv -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --vv
hint: use -vv, with one dash`},
	{`resolve -f ok.yaml --stream -o x`, exitUsage, `mabuild: --stream and -o/--output-file cannot be used together
hint: use only one of them`},
	{`push ./ok --compression lz4 -t $R/new:v1`, exitUsage, `mabuild: flag --compression: must be gzip or zstd, optionally with a level such as gzip:6`},
	{`push ./ok --env FOO -t $R/new:v1`, exitUsage, `mabuild: flag --env: "FOO" must be KEY=VALUE`},
	{`push ./ok --label x -t $R/new:v1`, exitUsage, `mabuild: flag --label: "x" must be KEY=VALUE`},
	{`push ./ok --port http -t $R/new:v1`, exitUsage, `mabuild: image: ports: "http" is not a port
hint: for example 8080/tcp`},
	{`push ./ok --file ok -t $R/new:v1`, exitUsage, `mabuild: --file "ok": must be SRC:DST
hint: for example --file ./web:/srv/web`},
	{`push ./ok --file nowhere:/x --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: files: nowhere does not exist
hint: check the path; it is looked for in $D
nothing was published; no tag was changed`},
	{`push ./ok --platforms linux/amd64 -t $R/new:v1 --cache-repo $R/records --require-cache`, exitBuild, `mabuild: linux/amd64: compile: no build record in $R/records, but --require-cache is set
hint: run mabuild cache explain to see what differs from the nearest record, and mabuild warm with the same sources, settings and release of Go, or omit --require-cache
nothing was published; no tag was changed`},
	{`push ./ok --platforms linux/amd64 -t $R/new:v1 --cache-compile`, exitUsage, `mabuild: --cache-compile requires a repository of build records
hint: add --cache-repo REPOSITORY`},
	{`push ./ok -t $R/new:v1 --cache-repo $R/records --cache-trust abc`, exitUsage, `mabuild: --cache-trust: "abc" is not a public key
hint: mabuild cache key prints the key of a machine`},
	{`warm ./ok`, exitUsage, `mabuild: no repository of build records is set
hint: add --cache-repo REPOSITORY, for example ghcr.io/acme/build-cache, or set MABUILD_CACHE_REPO`},
	{`cache explain ./ok`, exitUsage, `mabuild: no repository of build records is set
hint: add --cache-repo REPOSITORY, for example ghcr.io/acme/build-cache, or set MABUILD_CACHE_REPO`},
	{`cache verify ./ok --sample 1`, exitUsage, `mabuild: --sample 1: must be a percentage
hint: write --sample 1%; --sample 100% is all`},
	{`push ./ok`, exitUsage, `mabuild: no destination for "ok"
hint: use -t ghcr.io/acme/ok:v1, --repo ghcr.io/acme, or MABUILD_REPO`},
	{`push ./ok -t new`, exitUsage, `mabuild: no destination for "ok"
hint: use -t ghcr.io/acme/ok:v1, --repo ghcr.io/acme, or MABUILD_REPO`},
	{`push ./ok -t https://$R/new:v1`, exitUsage, `mabuild: tag "https://$R/new:v1" has a URL scheme, but an image reference has none
hint: omit https://: $R/new:v1`},
	{`push ./ok -t $R/New:v1`, exitUsage, `mabuild: tag "$R/New:v1" is not an image reference
hint: write the repository in lower case: $R/new:v1`},
	{`push ./ok -t $R/new:bad/tag`, exitUsage, `mabuild: tag "$R/new:bad/tag" is not an image reference
hint: a tag has no slash: write $R/new:bad-tag`},
	{`push ./ok -t ''`, exitUsage, `mabuild: a tag is empty
hint: omit -t, or give it a value; check that the script's variables are set`},
	{`push ./ok --repo $R/new:v1`, exitUsage, `mabuild: flag --repo: "$R/new:v1" has a tag; write $R/new, and v1 in tags or -t`},
	{`push ./ok -t $R/new:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000`, exitUsage, `mabuild: tag "$R/new:v1@SHA" has a digest, but the build determines the digest
hint: write repository:tag`},
	{`push ./ok ./bad -t $R/new:v1`, exitUsage, `mabuild: ok and bad have the same destination $R/new:v1
hint: use a different repository for each: --repo, or repo and id in the configuration file`},
	{`push ./ok -t $R/new:v1 -t latest`, exitUsage, `mabuild: tag "latest" has no repository
hint: write -t $R/new:latest`},
	{`push ./ok -t $R/new:v1 --key cosign.key`, exitUsage, `mabuild: unknown flag: --key
hint: use --sign KEY`},
	{`registry serve --addr $R`, exitUsage, `mabuild: unknown flag: --addr
hint: did you mean --address?`},
	{`config validate`, exitUsage, `mabuild: unknown command "config validate"
hint: mabuild config view checks the file, too`},
	{`KO_DOCKER_REPO=ko.local push ./ok`, exitUsage, `mabuild: KO_DOCKER_REPO=ko.local is not a registry
hint: use mabuild build to write to the Docker daemon`},
	{`push ./ok --platforms arm64 -t $R/new:v1`, exitUsage, `mabuild: flag --platforms: platform "arm64": must be os/architecture[/variant]
hint: write linux/arm64`},
	{`push ./ok --platforms linux -t $R/new:v1`, exitUsage, `mabuild: flag --platforms: platform "linux": must be os/architecture[/variant]
hint: write linux/amd64 or another architecture`},
	{`push ./ok --platforms arm/v7 -t $R/new:v1`, exitUsage, `mabuild: flag --platforms: platform "arm/v7": begins with an architecture, not with an operating system
hint: did you mean linux/arm/v7?`},
	{`push ./ok --platforms linux/amd46 -t $R/new:v1`, exitUsage, `mabuild: platform "linux/amd46": has no known architecture
hint: did you mean linux/amd64?`},
	{`push ./ok --platforms linux/sparc64 -t $R/new:v1`, exitUsage, `mabuild: $GO does not support linux/sparc64
hint: for linux it supports 386, amd64, arm, arm64, loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x`},
	{`push ./ok --platforms linux/amd64/v9 -t $R/new:v1`, exitUsage, `mabuild: Go has no variant "v9" of linux/amd64
hint: the variants are v1, v2, v3, v4`},
	{`push ./ok --platforms '' -t $R/new:v1`, exitUsage, `mabuild: flag --platforms: platform "": is empty
hint: write os/architecture, for example linux/amd64; a list has no blanks: linux/amd64,linux/arm64`},
	{`push ./ok --platforms 'linux/amd64 linux/arm64' -t $R/new:v1`, exitUsage, `mabuild: flag --platforms: platform "linux/amd64 linux/arm64": must be os/architecture[/variant]
hint: separate platforms by commas: linux/amd64,linux/arm64`},
	{`push ./ok --base static=linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: flag --base: "static=linux/amd64" has its sides swapped; write linux/amd64=static`},
	{`push ./ok --platforms linux/amd64,all -t $R/new:v1`, exitUsage, `mabuild: --platforms linux/amd64,all: all cannot be combined with other platforms
hint: use either all or a list of platforms`},
	{`push ./ok --platforms linux/amd64,linux/arm64 --no-index -t $R/new:v1`, exitUsage, `mabuild: --no-index requires one platform, got 2
hint: select one platform with --platforms`},
	{`push ./ok --platforms linux/s390x --debug -t $R/new:v1`, exitUsage, `mabuild: Delve does not support linux/s390x
hint: use --platforms with one or more of linux/386, linux/amd64, linux/arm64, linux/loong64, linux/ppc64le, linux/riscv64, windows/amd64, windows/arm64`},
	{`push ./ok --platforms linux/amd64 --race -t $R/new:v1`, exitUsage, `mabuild: race: the race detector requires cgo, which is off
hint: use --cgo, or cgo in the configuration file, with a C compiler for each platform`},
	{`push ./ok --platforms linux/arm64 --cgo-toolchain custom -t $R/new:v1`, exitUsage, `mabuild: cgo: linux/arm64: no custom C compiler is set for this platform
hint: set one: cgo: {cc: {linux/arm64: COMMAND}}, or CC_FOR_linux_arm64=COMMAND in the environment`},
	{`push ./nowhere -t $R/new:v1`, exitUsage, `mabuild: package ./nowhere: no such directory
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`push ./lib -t $R/new:v1`, exitUsage, `mabuild: package ./lib: is package lib, not main
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`push ./ok/main.go.txt -t $R/new:v1`, exitUsage, `mabuild: package ./ok/main.go.txt: no such directory
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`push ok/main.go -t $R/new:v1`, exitUsage, `mabuild: ok/main.go is a file, not a package
hint: name its package: ./ok`},
	{`push ./ok --only '' -t $R/new:v1`, exitUsage, `mabuild: --only is empty
hint: omit the flag, or give it a value; check that the script's variables are set`},
	{`push ./ok --base '' --prebuilt '' -t $R/new:v1`, exitUsage, `mabuild: --prebuilt is empty
hint: omit the flag, or give it a value; check that the script's variables are set
mabuild: --base is empty
hint: omit the flag, or give it a value; check that the script's variables are set`},
	{`push ./ok@v1 -t $R/new:v1`, exitUsage, `mabuild: package ./ok@v1: is not an import path
hint: write module/path@version, for example github.com/prometheus/node_exporter@v1.12.1`},
	{`push example.com/none -t $R/new:v1`, exitUsage, `mabuild: package example.com/none: no required module provides package example.com/none; to add it:
	go get example.com/none
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`GOPROXY=off push example.com/none@v1.0.0 -t $R/new:v1`, exitUsage, `mabuild: package example.com/none@v1.0.0: example.com/none@v1.0.0: module lookup disabled by GOPROXY=off
hint: check the path, and that this version exists`},
	{`push ./bad --platforms linux/amd64 -t $R/new:v1`, exitBuild, `mabuild: linux/amd64: compile:
# example.com/app/bad
bad/main.go:3:15: undefined: nothing
nothing was published; no tag was changed`},
	{`push ./c --platforms linux/amd64 -t $R/new:v1`, exitBuild, `mabuild: linux/amd64: compile:
package example.com/app/c: build constraints exclude all Go files in $D/c
hint: the package imports "C": use --cgo, or cgo: true in the configuration file, with a C compiler for each platform; on the bases static and scratch also --cgo-static
nothing was published; no tag was changed`},
	{`push ./ok --platforms linux/amd64 --ldflags '-X main.a=b c' -t $R/new:v1`, exitBuild, `mabuild: linux/amd64: compile:
# example.com/app/ok
link: its flags have one argument too many
hint: quote a value with spaces: --ldflags "-X 'main.text=two words'"
nothing was published; no tag was changed`},
	{`PATH=$D push ./ok -t $R/new:v1`, exitBuild, `mabuild: go: exec: "go": executable file not found in $PATH
hint: install Go and put it on PATH`},
	{`TMPDIR=$D/nowhere push ./ok --platforms linux/amd64 -t $R/new:v1`, exitBuild, `mabuild: work directory $D/nowhere: stat $D/nowhere: no such file or directory
hint: set TMPDIR to use another directory`},
	{`push ./ok --ldflags {{.Nope}} -t $R/new:v1`, exitUsage, `mabuild: ldflags: template: "{{.Nope}}": unknown value .Nope
hint: templates support only .Version .Commit .ShortCommit .Date .Timestamp .Tag .Branch .Env.NAME and the functions tag and slug`},
	{`push ./ok -t $R/new:{{.Tag}}`, exitUsage, `mabuild: template: "{{.Tag}}": .Tag is empty: $D/ok is not in a git repository
hint: build in a git repository, or write the value instead of the template`},
	{`push ./ok -t $R/new:{{.Env.X}}`, exitUsage, `mabuild: template: "{{.Env.X}}": templates may not read the variable X
hint: add --allow-env X if its value may be published`},
	{`push ./ok --allow-env X -t $R/new:{{.Env.X}}`, exitUsage, `mabuild: template: "{{.Env.X}}": the variable X is allowed but not set
hint: set it, or write the value instead of the template`},
	{`push ./ok --vcs -t $R/new:v1`, exitUsage, `mabuild: --vcs requires a commit: $D/ok is not in a git repository
hint: build in a git repository, or write the value instead of the template`},
	{`SOURCE_DATE_EPOCH=today push ./ok -t $R/new:v1`, exitUsage, `mabuild: SOURCE_DATE_EPOCH="today" is not a time
hint: set it to the seconds since 1970, or unset it`},
	{`push ./ok --base $R/nowhere:v1 -t $R/new:v1`, exitUsage, `mabuild: base $R/nowhere:v1: GET $R/nowhere:v1: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag of the base image
nothing was published; no tag was changed`},
	{`push ./ok --base ubuntu: -t $R/new:v1`, exitUsage, `mabuild: base ubuntu:: "ubuntu:" is not an image reference
hint: write a tag after the colon, or omit the colon
nothing was published; no tag was changed`},
	{`push ./ok --base $R/app:v1 --platforms linux/amd64,linux/s390x -t $R/new:v1`, exitUsage, `mabuild: base $R/app:v1: has no image for linux/s390x, only for linux/amd64, linux/arm64
hint: omit these platforms, or set another base image for them
nothing was published; no tag was changed`},
	{`push ./ok --base $R/app:one --platforms linux/arm64 -t $R/new:v1`, exitUsage, `mabuild: base $R/app:one: has no image for linux/arm64, only for linux/amd64
hint: this is an image of one platform; use its index
nothing was published; no tag was changed`},
	{`push ./ok --base static --platforms windows/amd64,linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: base static: does not support windows/amd64, only linux
hint: set another base image for these platforms: --base static --base windows/amd64=IMAGE, or in .mabuild.yaml base: {default: static, windows/amd64: IMAGE}
nothing was published; no tag was changed`},
	{`push ./ok --user nobody --base scratch --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: image: user: nobody: base image scratch has no user of this name
hint: the base image lists none; use a number, which needs no entry
nothing was published; no tag was changed`},
	{`push ./ok -t $S/new:v1 --platforms linux/amd64`, exitCredentials, `mabuild: HEAD $S/new:v1: 401 Unauthorized
hint: no credentials for $S are stored. Run: mabuild login $S
nothing was published; no tag was changed`},
	{`push ./ok -t 127.0.0.1:1/new:v1 --platforms linux/amd64`, exitRegistry, `mabuild: HEAD 127.0.0.1:1/new:v1: dial tcp 127.0.0.1:1: connect: connection refused (3 attempts)
hint: check that the registry is running at 127.0.0.1:1
nothing was published; no tag was changed`},
	{`push --config nowhere.yaml`, exitUsage, `mabuild: nowhere.yaml: no such file or directory
hint: check --config and MABUILD_CONFIG; mabuild config init writes a first file`},
	{`push --config wrong.yaml -t $R/new:v1`, exitUsage, `mabuild: wrong.yaml:1: platfrms: unknown key; did you mean platforms?`},
	{`push --config syntax.yaml -t $R/new:v1`, exitUsage, `mabuild: syntax.yaml:1: did not find expected node content`},
	{`push --config list.yaml -t $R/new:v1`, exitUsage, `mabuild: list.yaml:1: platforms: platform "linux/amd64 - linux/arm64": must be os/architecture[/variant]
hint: separate platforms by commas: linux/amd64,linux/arm64`},
	{`push --config same.yaml --repo $R`, exitUsage, `mabuild: two builds have the name ok, and so the same destination $R/ok:latest
hint: remove one, or give each its own id in the configuration file`},
	{`push --config item.yaml -t $R/new:v1`, exitUsage, `mabuild: item.yaml:1: builds[0]: must be a mapping of keys to values; write {main: ./ok}`},
	{`push --config env.yaml -t $R/new:v1`, exitUsage, `mabuild: env.yaml:3: builds[0].env: GREETING is not allowed in the configuration file, because it could run programs or access other files
hint: variables of the container are below image: {env: [KEY=VALUE]}; for those of the go command, use a flag or an environment variable, or allow all flags in the file with --allow-unsafe-build-flags`},
	{`push --config value.yaml -t $R/new:v1`, exitUsage, `mabuild: value.yaml:1: jobs: must be a number, got "many"
mabuild: value.yaml:2: user: unknown key; it belongs below image`},
	{`push --config two.yaml --only wbe --repo $R`, exitUsage, `mabuild: --only wbe: no build has this id
hint: the ids are: web, api`},
	{`push --config two.yaml -t $R/new:v1`, exitUsage, `mabuild: web and api have the same destination $R/new:v1
hint: use a different repository for each: --repo, or repo and id in the configuration file`},
	{`push --config two.yaml --platforms linux/amd64 --repo $R/new`, exitPartly, `mabuild: api: linux/amd64: compile:
# example.com/app/bad
bad/main.go:3:15: undefined: nothing
published: web; not published: api`},
	{`MABUILD_PLATFORMS=arm64 push ./ok -t $R/new:v1`, exitUsage, `mabuild: env MABUILD_PLATFORMS: platform "arm64": must be os/architecture[/variant]
hint: write linux/arm64`},
	{`push ./ok --ca-file nowhere.pem -t $R/new:v1`, exitUsage, `mabuild: --ca-file: open nowhere.pem: no such file or directory
hint: use a PEM file of certificate authorities`},
	{`push ./ok --client-key key.pem -t $R/new:v1`, exitUsage, `mabuild: --client-key requires --client-cert
hint: add --client-cert FILE`},
	{`build ./ok -o tar:out`, exitUsage, `mabuild: "tar:out" is not a local destination or source
hint: write oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME][,platform=P], docker-daemon:[platform=P], containerd:[NAMESPACE]`},
	{`build ./ok -o app.tar`, exitUsage, `mabuild: "app.tar" is not a local destination or source
hint: write oci-archive:app.tar or docker-archive:app.tar`},
	{`build ./ok -o ./layout`, exitUsage, `mabuild: "./layout" is not a local destination or source
hint: write oci:./layout`},
	{`build ./ok -o type=docker,dest=app.tar`, exitUsage, `mabuild: "type=docker,dest=app.tar" is not a local destination or source
hint: write docker-archive:app.tar`},
	{`push ./ok --from scratch -t $R/new:v1`, exitUsage, `mabuild: unknown flag: --from
hint: use --base IMAGE`},
	{`push ./ok --entrypoint '/mabuild/ok serve' -t $R/new:v1`, exitUsage, `mabuild: flag --entrypoint: "/mabuild/ok serve" is one word with blanks; write each word by itself: [/mabuild/ok, serve]`},
	{`build ./ok -o oci:go.mod`, exitUsage, `mabuild: go.mod is not a directory
hint: use an empty or new directory`},
	{`build ./ok -o docker-archive:x.tar --platforms linux/s390x`, exitUsage, `mabuild: docker-archive:x.tar requires $HOST, but only linux/s390x is built
hint: also build that platform, or write docker-archive:x.tar,platform=linux/s390x`},
	{`build ./ok -o docker-archive:nowhere/x.tar`, exitUsage, `mabuild: docker-archive:nowhere/x.tar: nowhere/x.tar: the directory nowhere does not exist
hint: create the directory, and name a file in it`},
	{`build ./ok -o docker-archive:x.tar --compression zstd`, exitUsage, `mabuild: --compression zstd: Docker's image format does not support zstd, so docker-archive:x.tar cannot be written
hint: use gzip`},
	{`build ./ok ./bad -o docker-archive:x.tar`, exitUsage, `mabuild: docker-archive:x.tar holds one image, but is the destination of ok and bad
hint: build them separately, or into oci:DIR`},
	{`PATH=$D/bin build ./ok`, exitUsage, `mabuild: build requires a destination: docker is not installed
hint: use -o oci:DIR, -o oci-archive:FILE, -o docker-archive:FILE or -o containerd:`},
	{`PATH=$D/bin build ./ok -o containerd:`, exitUsage, `mabuild: containerd: ctr is not installed
hint: install containerd's ctr, or write to oci-archive:FILE and import it`},
	{`run ./ok --platform linux/s390x`, exitUsage, `mabuild: run builds for this machine, $HOST, not for linux/s390x
hint: omit --platforms; for another machine: mabuild build -o docker-daemon:platform=linux/s390x --platforms linux/s390x`},
	{`run ./ok x`, exitUsage, `mabuild: run takes one PACKAGE; arguments of the program come after --
hint: mabuild run PACKAGE -- ARGS`},
	{`inspect`, exitUsage, `mabuild: inspect requires IMAGE
hint: mabuild inspect IMAGE… [flags]`},
	{`inspect $R/app:v9`, exitUsage, `mabuild: GET $R/app:v9: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag; mabuild tags REPOSITORY lists the tags`},
	{`inspect $R/App:v1`, exitUsage, `mabuild: "$R/App:v1" is not an image reference
hint: write the repository in lower case: $R/app:v1`},
	{`inspect $R/app@sha256:123`, exitUsage, `mabuild: "$R/app@sha256:123" is not an image reference
hint: a digest is sha256: and 64 hexadecimal digits`},
	{`inspect ./app`, exitUsage, `mabuild: ./app is a local path, not an image in a registry
hint: write oci:DIR, oci-archive:FILE or docker-archive:FILE for local images`},
	{`inspect oci:nowhere`, exitUsage, `mabuild: oci:nowhere: the OCI layout does not exist: not found
hint: check the path and the name`},
	{`inspect oci-archive:go.mod`, exitUsage, `mabuild: oci-archive:go.mod: not a tar file: unexpected EOF
hint: only gzip and zstd are supported; decompress other formats first`},
	{`inspect --digest oci:several`, exitUsage, `mabuild: oci:several contains 2 images
hint: use one of oci:several:a, oci:several:b`},
	{`inspect --platform arm64 $R/app:v1`, exitUsage, `mabuild: platform "arm64": must be os/architecture[/variant]
hint: write linux/arm64`},
	{`inspect --platform linux/s390x $R/app:v1`, exitUsage, `mabuild: $R/app:v1 does not support linux/s390x, only linux/amd64, linux/arm64
hint: ask for platforms that the image has, or build the missing ones, too`},
	{`inspect --require linux/s390x $R/app:v1`, exitBuild, `mabuild: $R/app:v1 does not support linux/s390x, only linux/amd64, linux/arm64
hint: ask for platforms that the image has, or build the missing ones, too`},
	{`inspect $R/app:v1 --require linux/amd64 linux/s390x`, exitUsage, `mabuild: linux/s390x is a platform, not an image
hint: separate platforms by commas: --require linux/amd64,linux/s390x`},
	{`inspect --platforms linux/amd64,linux/arm64 $R/app:v1`, exitUsage, `mabuild: platform "linux/amd64,linux/arm64": is a list, but one platform is required
hint: write one, for example linux/amd64`},
	{`inspect --format json $R/app:v1`, exitUsage, `mabuild: --format "json" is not a template
hint: for JSON use --json; a template is for example --format '{{.Digest}}'`},
	{`inspect --json --raw $R/app:v1`, exitUsage, `mabuild: --json and --raw cannot be used together
hint: use only one of them`},
	{`inspect -o yaml $R/app:v1`, exitUsage, `mabuild: --output "yaml": the only output format is json
hint: for a file, redirect stdout: > FILE`},
	{`inspect $S/app:v1`, exitCredentials, `mabuild: GET $S/app:v1: 401 UNAUTHORIZED: authentication required
hint: no credentials for $S are stored. Run: mabuild login $S`},
	{`inspect 127.0.0.1:1/app:v1`, exitRegistry, `mabuild: GET 127.0.0.1:1/app:v1: dial tcp 127.0.0.1:1: connect: connection refused (3 attempts)
hint: check that the registry is running at 127.0.0.1:1`},
	{`sbom $R/app:v1`, exitUsage, `mabuild: an SBOM is of one platform, but $R/app:v1 has linux/amd64, linux/arm64
hint: add --platform linux/amd64, or --module PATH to look in all`},
	{`sbom --format swid $R/app:v1`, exitUsage, `mabuild: --format "swid": unknown format
hint: use spdx or cyclonedx`},
	{`sbom $R/app:v1 -o x.json`, exitUsage, `mabuild: --output "x.json": the only output format is json
hint: for a file, redirect stdout: > FILE`},
	{`sbom --json $R/app:v1`, exitUsage, `mabuild: --json requires --module
hint: omit it: the SBOM is JSON already`},
	{`COSIGN_PASSWORD=wrong push ./ok --sign $K/cosign.key -t $R/new:v1`, exitCredentials, `mabuild: sign: $K/cosign.key: the password of the key is wrong, or the key was changed
hint: set COSIGN_PASSWORD to the password of the key`},
	{`push ./ok --sign $K/cosign.key -t $R/new:v1`, exitCredentials, `mabuild: sign: $K/cosign.key: the key is encrypted, and stdin has no password
hint: set COSIGN_PASSWORD to the password of the key`},
	{`push ./ok --sign $K/cosign.pub -t $R/new:v1`, exitUsage, `mabuild: sign: $K/cosign.pub: a public key cannot sign
hint: use the private key; the public one is for mabuild verify --key`},
	{`push ./ok --sign go.mod -t $R/new:v1`, exitUsage, `mabuild: sign: go.mod: no private key in PEM format
hint: create one with cosign generate-key-pair`},
	{`push ./ok --sign none.key -t $R/new:v1`, exitUsage, `mabuild: sign: open none.key: no such file or directory
hint: create a key with cosign generate-key-pair`},
	{`push ./ok --sign $K/plain.key --media-types docker -t $R/new:v1`, exitUsage, `mabuild: signatures and provenance cannot be combined with --media-types docker: referrers require OCI media types
hint: omit one of them`},
	{`push ./ok --before-tag 'false' --sign $K/plain.key --platforms linux/amd64 -t $R/new:v1`, exitBuild, `mabuild: $R/new@SHA: --before-tag false: exit status 1
hint: no tag of ok has moved; the image is stored by its digest
nothing was published; no tag was changed`},
	{`verify $R/app:v1`, exitUsage, `mabuild: verify requires a key or an identity
hint: add --key FILE, or --certificate-identity and --certificate-oidc-issuer`},
	{`verify --key $K/cosign.pub $R/app:v1`, exitBuild, `mabuild: $R/app:v1: not verified: index, linux/amd64, linux/arm64: no signature
hint: mabuild inspect --referrers $R/app:v1 lists what there is; mabuild mirror --referrers copies it along; --platforms verifies some images without their index`},
	{`verify --key $K/cosign.key $R/app:v1`, exitUsage, `mabuild: $K/cosign.key: "ENCRYPTED SIGSTORE PRIVATE KEY" is not a public key
hint: use the public key, such as cosign.pub`},
	{`inspect --provenance $R/app:v1`, exitBuild, `mabuild: $R/app:v1: no provenance that mabuild can read
hint: mabuild inspect --referrers $R/app:v1 lists what there is; mabuild push --provenance min adds it`},
	{`manifest create $R/list:v1`, exitUsage, `mabuild: manifest create requires TARGET and at least one SOURCE
hint: mabuild manifest create TARGET SOURCE[=PLATFORM]… [flags]`},
	{`manifest create $R/list:v1 $R/nowhere:v1`, exitUsage, `mabuild: GET $R/nowhere:v1: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag`},
	{`manifest create $R/list:v1 $R/app:one $R/app:v1`, exitUsage, `mabuild: linux/amd64 twice: $R/app:one (SHA) and $R/app:v1 (SHA)
hint: omit one of them: an index has one image for each platform`},
	{`manifest create $R/list:v1 $R/app:v1 --select linux/s390x`, exitUsage, `mabuild: no image for linux/s390x, only for linux/amd64, linux/arm64
hint: select only platforms that exist, or add the missing ones to the source`},
	{`manifest create $R/list:v1 $R/app:one=linux/arm64`, exitContent, `mabuild: $R/app:one: declared linux/arm64, its config says linux/amd64: content contradicts its claim
hint: declare linux/amd64, or build the image for linux/arm64`},
	{`manifest create $R/list:v1 $R/app:one --type xyz`, exitUsage, `mabuild: unknown type "xyz"
hint: use --type oci or --type docker`},
	{`manifest create --amend $R/list:v1 $R/app:one`, exitUsage, `mabuild: unknown flag: --amend
hint: mabuild manifest add adds an image to an index, and with --replace it replaces one`},
	{`manifest add $R/app:v1 $R/app:one`, exitUsage, `mabuild: linux/amd64 twice: SHA and $R/app:one (SHA)
hint: use --replace to replace it`},
	{`manifest add $R/app:none $R/app:one`, exitUsage, `mabuild: GET $R/app:none: 404 MANIFEST_UNKNOWN: manifest unknown
hint: mabuild manifest create $R/app:none SOURCE… makes an index; check the name and the tag; mabuild tags REPOSITORY lists the tags`},
	{`manifest push $R/app:v1`, exitUsage, `mabuild: unknown command "manifest push $R/app:v1"
hint: manifest create and manifest add publish the index at once, so nothing is left to push; manifest push has manifest-tool's from-args and from-spec`},
	{`manifest annotate $R/app:v1 $R/app:one --arch amd64`, exitUsage, `mabuild: unknown flag: --arch
hint: manifest annotate changes annotations; declare the platform of an image when it is added: mabuild manifest add --replace INDEX IMAGE=linux/arm64`},
	{`manifest create -t $R/list:v1 $R/app:one`, exitUsage, `mabuild: unknown shorthand flag: 't' in -t
hint: the first argument is the target: mabuild manifest create TARGET SOURCE…`},
	{`manifest create $R/list:v1 $R/app:one,$R/app:v1`, exitUsage, `mabuild: "$R/app:one,$R/app:v1" is not an image reference
hint: separate images by blanks: $R/app:one $R/app:v1`},
	{`manifest undo $R/app:v1`, exitUsage, `mabuild: unknown command "manifest undo"
hint: each change prints the previous digest and the command that restores it: mabuild manifest create INDEX INDEX@DIGEST`},
	{`manifest annotate $R/app:v1 --annotation a`, exitUsage, `mabuild: annotation "a" has no value
hint: write KEY=VALUE, index:KEY=VALUE or linux/arm64:KEY=VALUE; mabuild manifest annotate --remove-annotation KEY removes one`},
	{`delete $R/app:v1 --force`, exitUsage, `mabuild: unknown flag: --force
hint: omit it: mabuild asks nothing; --shared deletes images that other tags name`},
	{`manifest add $R/app:one $R/app:one`, exitUsage, `mabuild: $R/app:one is an image, not an index
hint: create an index of images with mabuild manifest create`},
	{`manifest remove $R/app:v1`, exitUsage, `mabuild: manifest remove requires INDEX and at least one PLATFORM or DIGEST
hint: mabuild manifest remove INDEX PLATFORM|DIGEST… [flags]`},
	{`manifest remove $R/app:v1 linux/s390x`, exitUsage, `mabuild: the index has no linux/s390x, only linux/amd64, linux/arm64
hint: mabuild inspect INDEX lists its platforms and digests`},
	{`manifest remove $R/app:v1 linux/amd64 linux/arm64`, exitUsage, `mabuild: the index would be empty
hint: to delete the index, use mabuild delete`},
	{`manifest annotate $R/app:v1`, exitUsage, `mabuild: manifest annotate requires --annotation or --remove-annotation
hint: mabuild manifest annotate INDEX --annotation [PLATFORM:]KEY=VALUE [flags]`},
	{`manifest from-spec nowhere.yaml`, exitUsage, `mabuild: nowhere.yaml: no such file or directory
hint: name a file, or - for stdin; docs/migrate-manifest-tool.md has an example`},
	{`manifest from-spec empty-spec.yaml`, exitUsage, `mabuild: empty-spec.yaml: manifests: missing; it lists the images`},
	{`manifest from-spec spec.yaml`, exitUsage, `mabuild: GET $R/nowhere:v1: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag`},
	{`mirror $R/app:v1`, exitUsage, `mabuild: mirror requires SOURCE and TARGET, --template NAME and TARGET, or -f FILE
hint: mabuild mirror $R/app:v1 HOST/REPOSITORY, or oci-archive:FILE for a file`},
	{`mirror $R/app:v1 $R/app:v1`, exitUsage, `mabuild: $R/app:v1 is both source and target
hint: use another TARGET, or select platforms with --platforms`},
	{`mirror $R/nowhere:v1 $R/copy:v1`, exitUsage, `mabuild: $R/copy:v1: source: HEAD $R/nowhere:v1: 404 Not Found
hint: check the name and the tag`},
	{`mirror $R/app:v1 $R/copy/`, exitUsage, `mabuild: "$R/copy/" is not an image reference
hint: omit the slash at the end: $R/copy`},
	{`mirror $R/app:v1 oci-archive:nowhere/x.tar`, exitUsage, `mabuild: oci-archive:nowhere/x.tar: nowhere/x.tar: the directory nowhere does not exist
hint: create the directory, and name a file in it`},
	{`mirror $R/app:v1 $R/a:v1 $R/b:v1`, exitUsage, `mabuild: mirror requires SOURCE and TARGET, --template NAME and TARGET, or -f FILE
hint: run it once for each target, or list them in a file: mabuild config init mirror`},
	{`load x.tar`, exitUsage, `mabuild: unknown command "load"
hint: mabuild mirror docker-archive:FILE HOST/REPOSITORY copies an archive to a registry; mabuild build --load loads what it builds`},
	{`mirror $R/app $R/all`, exitUsage, `mabuild: $R/all:latest: source: HEAD $R/app:latest: 404 Not Found
hint: $R/app means $R/app:latest; mabuild tags $R/app lists the tags, and mabuild mirror -f FILE copies several (mabuild config init mirror writes one)`},
	{`mirror -f key.yaml`, exitUsage, `mabuild: key.yaml:5: entries[0].verify.key: ../x.pub: is outside the source tree
hint: copy it into the source tree, or allow its directory with --allow-path DIR; a flag or an environment variable may name any path`},
	{`mirror $R/app:v1 tar:x.tar`, exitUsage, `mabuild: tar: is not supported
hint: write oci:DIR, oci-archive:FILE or docker-archive:FILE for local images, or HOST/REPOSITORY:TAG`},
	{`mirror $R/app:v1 $R/copy:v1 --platforms linux/s390x`, exitUsage, `mabuild: $R/copy:v1: source: $R/app:v1: no image for linux/s390x, only for linux/amd64, linux/arm64
hint: select only platforms that exist, or add the missing ones to the source`},
	{`mirror $R/app:v1 $S/copy:v1`, exitCredentials, `mabuild: $S/copy:v1: HEAD $S/copy:v1: 401 Unauthorized
hint: no credentials for $S are stored. Run: mabuild login $S`},
	{`mirror $R/app:v1 docker-archive:x.tar`, exitUsage, `mabuild: docker-archive:x.tar:$R/app:v1: Docker requires an image of one platform, but the platforms are linux/amd64, linux/arm64
hint: select one with --platforms`},
	{`mirror -f nowhere.yaml`, exitUsage, `mabuild: nowhere.yaml: no such file or directory
hint: check -f; mabuild config init mirror writes a first file`},
	{`mirror -f untagged.yaml`, exitUsage, `mabuild: untagged.yaml:2: entries[0].tags: the entry selects no tags; write tags: [v1] or tags: {newest: 3}`},
	{`mirror -f mirror.yaml $R/app:v1`, exitUsage, `mabuild: -f FILE cannot be combined with the argument "$R/app:v1"
hint: omit the arguments or -f`},
	{`mirror -f mirror.yaml --only web`, exitUsage, `mabuild: --only web: no entry has this name
hint: the entries are: app`},
	{`mirror -f mirror.yaml --watch`, exitUsage, `mabuild: --watch mirror.yaml: no entry has a schedule
hint: add every: 6h or cron:`},
	{`mirror -f mirror.yaml --listen 127.0.0.1:0`, exitUsage, `mabuild: --listen requires --watch
hint: add --watch`},
	{`tags $R`, exitUsage, `mabuild: "$R" is a registry, but tags requires a repository
hint: mabuild tags $R/NAME; mabuild catalog $R lists the repositories`},
	{`tags $R/app:v1`, exitUsage, `mabuild: "$R/app:v1" is an image, but tags requires a repository
hint: mabuild tags $R/app`},
	{`tags $R/nowhere`, exitUsage, `mabuild: GET $R/nowhere: 404 NAME_UNKNOWN: repository name not known to registry
hint: check the name`},
	{`tags $R/app --limit 0`, exitUsage, `mabuild: --limit must be at least 1
hint: omit it to print all`},
	{`tag $R/app:v1`, exitUsage, `mabuild: tag requires an IMAGE and at least one TAG
hint: mabuild tag REPOSITORY:OLD NEW`},
	{`tag $R/app:v1 $R/other:v2`, exitUsage, `mabuild: "$R/other:v2" is not a tag
hint: mabuild mirror $R/app:v1 $R/other:v2 copies to another repository`},
	{`tag $R/app:v9 v10`, exitUsage, `mabuild: HEAD $R/app:v9: 404 Not Found
hint: check the name and the tag; mabuild tags REPOSITORY lists the tags`},
	{`delete $R/app`, exitUsage, `mabuild: $R/app names a repository, but delete requires an image
hint: name a tag or a digest`},
	{`delete $R/app@sha256:00`, exitUsage, `mabuild: "$R/app@sha256:00" is not an image reference
hint: a digest is sha256: and 64 hexadecimal digits`},
	{`tag $R/App:v1 v2`, exitUsage, `mabuild: "$R/App:v1" is not an image reference
hint: write the repository in lower case: $R/app:v1`},
	{`delete $R/app:v9`, exitUsage, `mabuild: HEAD $R/app:v9: 404 Not Found
hint: check the name and the tag; mabuild tags REPOSITORY lists the tags`},
	{`catalog $R/app`, exitUsage, `mabuild: "$R/app" is a repository, but catalog requires a registry
hint: mabuild catalog $R, or mabuild tags $R/app`},
	{`platforms $R/nowhere:v1`, exitUsage, `mabuild: base $R/nowhere:v1: GET $R/nowhere:v1: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag of the base image`},
	{`login`, exitUsage, `mabuild: login requires exactly one HOST
hint: mabuild login HOST [flags]`},
	{`login $S`, exitUsage, `mabuild: login requires a user name, and stdin is not a terminal
hint: use -u NAME --password-stdin`},
	{`login $S -u me -p wrong`, exitCredentials, `mabuild: $S rejected this user name or password; nothing was stored
hint: some registries require a token instead of the password`},
	{`login $R/app`, exitUsage, `mabuild: $R/app is not a host: Docker's config.json supports only hosts
hint: use $R, or use a file of Podman's: REGISTRY_AUTH_FILE=FILE`},
	{`config import nowhere.yaml`, exitUsage, `mabuild: nowhere.yaml does not exist
hint: name ko's configuration file, usually .ko.yaml`},
	{`config init mirrors`, exitUsage, `mabuild: unknown file "mirrors"
hint: the only argument is mirror`},
	{`cache prune --max big`, exitUsage, `mabuild: --max big: must be a size such as 500MB or 5GB
hint: for example --max 1GB`},
	{`registry serve --address $R --dir served`, exitUsage, `mabuild: listen tcp $R: bind: address already in use
hint: use another --address; port 0 selects a free one`},
	{`-C nowhere push ./ok`, exitUsage, `mabuild: -C: chdir nowhere: no such file or directory
hint: name a directory`},
	{`place --undo ok.yaml`, exitUsage, `mabuild: unknown flag: --undo
hint: place changes files alone: git restore FILE takes that back; kubectl delete -f FILE removes a policy`},
	{`man`, exitUsage, `mabuild: man requires exactly one DIR
hint: mabuild man DIR [flags]`},
	{`man go.mod`, exitUsage, `mabuild: mkdir go.mod: not a directory
hint: name a directory that you may write to`},
	{`version now`, exitUsage, `mabuild: version takes no arguments, got "now"
hint: mabuild version --help`},
	{`push --config unsafe.yaml -t $R/new:v1`, exitUsage, `mabuild: unsafe.yaml:3: builds[0].ldflags: -extld=./evil is not allowed in the configuration file, because it could run programs or access other files
hint: use a flag or an environment variable, or allow all flags in the file with --allow-unsafe-build-flags`},
	{`push --config outside.yaml --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: files: ../secret is outside the source tree
hint: copy the file into the directory of .mabuild.yaml
nothing was published; no tag was changed`},
	{`push --config tabs.yaml -t $R/new:v1`, exitUsage, `mabuild: tabs.yaml:2: the line is indented with a tab; YAML requires spaces`},
	{`push --config far.yaml -t $R/new:v1`, exitUsage, `mabuild: far.yaml:3: builds[0].ldflgs: unknown key; did you mean ldflags?`},
	{`push ./ok --ca-file go.mod -t $R/new:v1`, exitUsage, `mabuild: --ca-file: go.mod: the file contains no certificate
hint: use a PEM file of certificate authorities`},
	{`PATH=$D/bin push ./c --cgo --cgo-toolchain zig --platforms linux/arm64 -t $R/new:v1`, exitUsage, `mabuild: cgo: linux/arm64: zig is not installed
hint: install zig and put it on PATH: https://ziglang.org/download/`},
	{`PATH=$D/bin push ./c --cgo --platforms linux/arm64,linux/s390x -t $R/new:v1`, exitUsage, `mabuild: cgo: linux/arm64: aarch64-linux-gnu-gcc is not installed; linux/s390x: s390x-linux-gnu-gcc is not installed
hint: apt-get install gcc-aarch64-linux-gnu gcc-s390x-linux-gnu libc6-dev-arm64-cross libc6-dev-s390x-cross`},
	{`build ./c --cgo --platforms linux/amd64 -o oci:out`, exitBuild, `mabuild: linux/amd64: link: base static: the program requires the loader /lib64/ld-linux-x86-64.so.2 (glibc), but the base image has no loader
hint: link the C library statically (--cgo-static, or cgo: {static: true}; for a program that exists, CGO_ENABLED=0 when it is compiled), or use a base image that has it
nothing was published; no tag was changed`},
	{`push --prebuilt dist/{{.Arch}}/app --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: prebuilt: linux/amd64: dist/amd64/app: does not exist
hint: build the program first, or correct the path`},
	{`push --config lock.yaml -t $R/new:v1`, exitUsage, `mabuild: mabuild.lock: no line for linux/amd64 of app
hint: run mabuild lock`},
	{`push --prebuilt go.mod --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: prebuilt: linux/amd64: go.mod: not an executable of the platform: it is not a valid ELF file
hint: a path with {{.OS}} and {{.Arch}} names a file for each platform; platforms selects those that there are`},
	{`HOME= XDG_CACHE_HOME= GOCACHE= MABUILD_CACHE= push ./ok -t $R/new:v1`, exitUsage, `mabuild: the go command has no cache: neither $XDG_CACHE_HOME nor $HOME are defined
hint: set HOME, or GOCACHE and MABUILD_CACHE`},
	{`--timeout 1ns inspect $R/app:v1`, exitRegistry, `mabuild: GET $R/app:v1: context deadline exceeded: the run took longer than --timeout allows
hint: raise --timeout and run it again; what was stored is not sent again`},
	{`inspect $T/app:v1`, exitRegistry, `mabuild: GET $T/app:v1: tls: failed to verify certificate: x509: certificate signed by unknown authority
hint: to trust the authority of its certificate, use --ca-file FILE`},
	{`DOCKER_CONFIG=$D/helper inspect $S/app:v1`, exitCredentials, `mabuild: GET $S/app:v1: credentials: docker-credential-nowhere: executable file not found in $PATH
hint: install it, or remove it from $D/helper/config.json`},
	{`DOCKER_CONFIG=$D/broken inspect $S/app:v1`, exitCredentials, `mabuild: GET $S/app:v1: credentials: $D/broken/config.json: the file ends within a JSON object
hint: fix $D/broken/config.json, or remove it and log in again`},
	{`mirror -f twice.yaml`, exitPartly, `mabuild: entry b: $R/copy:v1: $R/app:v1 and $R/app:v1 of entry a have the same target
hint: give each its own target, for example with {{.Name}} and {{.Tag}}`},
	{`mirror $R/app:v1 oci:go.mod`, exitUsage, `mabuild: oci:go.mod:$R/app:v1: oci:go.mod: an OCI layout must be a directory
hint: for an archive, write oci-archive:go.mod or docker-archive:go.mod`},
	{`manifest create $R/list:v1 $R/app:one=arm64`, exitUsage, `mabuild: $R/app:one=arm64: platform "arm64": must be os/architecture[/variant]
hint: write linux/arm64`},
	{`build ./ok ./lib -o oci:out`, exitUsage, `mabuild: ./lib: package ./lib: is package lib, not main
hint: main packages nearby: ./bad, ./c, ./ok`},
	{`config import go.mod`, exitUsage, `mabuild: go.mod:1: must be a mapping of keys to values`},
	{`inspect $R/app`, exitUsage, `mabuild: GET $R/app:latest: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag; mabuild tags REPOSITORY lists the tags`},
	{`push ./ok -t $R/new:v1 --base $R/app:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000`, exitUsage, `mabuild: base $R/app:v1@SHA: GET $R/app@SHA: 404 MANIFEST_UNKNOWN: manifest unknown
hint: check the name and the tag of the base image
nothing was published; no tag was changed`},
	{`inspect $R`, exitUsage, `mabuild: "$R" is a registry, not an image
hint: write HOST/REPOSITORY:TAG, for example $R/app:v1`},
	{`push ./ok --annotation x:y=z -t $R/new:v1`, exitUsage, `mabuild: annotations: "x:y=z": unknown prefix "x"
hint: write KEY=VALUE, index:KEY=VALUE or manifest:KEY=VALUE; for one platform, use mabuild manifest annotate`},
	{`push ./ok --file ok:web --platforms linux/amd64 -t $R/new:v1`, exitUsage, `mabuild: files: to "web" is not absolute
hint: write /web`},
	{`manifest from-args --platforms linux/amd64`, exitUsage, `mabuild: manifest from-args requires --platforms, --template and --target
hint: mabuild manifest from-args --platforms LIST --template NAME --target NAME [flags]`},
	{`mirror --template $R/app-ARCH:v1 $R/list:v1`, exitUsage, `mabuild: --template requires --platforms
hint: for example --platforms linux/amd64,linux/arm64`},
	{`mirror --template $R/app:v1 --platforms linux/amd64,linux/arm64 $R/list:v1`, exitUsage, `mabuild: template "$R/app:v1" gives the same image for every platform
hint: write ARCH in place of the architecture`},
	{`build ./ok ./bad -o oci:out:x`, exitUsage, `mabuild: ok and bad have the same name x in oci:out
hint: omit the name in -o, and give each its own id in the configuration file`},
	{`config import ko.yaml -o go.mod`, exitUsage, `mabuild: go.mod already exists
hint: remove it first`},
	{`DOCKER_CONFIG=$D/folder inspect $S/app:v1`, exitCredentials, `mabuild: GET $S/app:v1: credentials: $D/folder/config.json: is a directory
hint: put a file at $D/folder/config.json; a container engine makes a directory if the file to mount is missing`},
}

// TestFailures runs the command lines of failures. A failure says what happened, to what,
// and what the user can do.
func TestFailures(t *testing.T) {
	open := regtest.Start(t, regtest.Options{})
	closed := regtest.Start(t, regtest.Options{User: "me", Password: "secret"})
	secure := regtest.Start(t, regtest.Options{TLS: true})
	client := &registry.Client{}
	must(t, client.Put(t.Context(), open.Host+"/app:v1", regtest.RandomIndex(t, 100, 1, "amd64", "arm64")))
	must(t, client.Put(t.Context(), open.Host+"/app:one", regtest.Image(t, "amd64", 100, 1)))
	t.Setenv("GOCACHE", goCache(t))
	keys, err := filepath.Abs("../../testdata/keys")
	must(t, err)
	astray(t)
	t.Setenv("MABUILD_CACHE", t.TempDir())
	dir, err := filepath.EvalSymlinks(".")
	must(t, err)
	dir, err = filepath.Abs(dir)
	must(t, err)
	for file, text := range strayFiles {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, "$R", open.Host)), 0o644))
	}
	must(t, os.MkdirAll("bin", 0o755))
	goCommand, err := exec.LookPath("go")
	must(t, err)
	must(t, os.Symlink(goCommand, "bin/go"))
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(name, dir)
	}
	for _, name := range []string{"REGISTRY_AUTH_FILE", "KO_DOCKER_REPO", "MABUILD_REPO", "SOURCE_DATE_EPOCH"} {
		t.Setenv(name, "")
	}
	fill := strings.NewReplacer("$R", open.Host, "$S", closed.Host, "$T", secure.Host, "$D", dir, "$K", keys, "$HOST", "linux/"+runtime.GOARCH, "$GO", runtime.Version()).Replace
	digests := regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	for _, f := range failures {
		t.Run(f.run, func(t *testing.T) {
			words := shellWords(fill(f.run))
			for len(words) > 0 && variable.MatchString(words[0]) {
				name, value, _ := strings.Cut(words[0], "=")
				t.Setenv(name, value)
				words = words[1:]
			}
			t.Setenv("MABUILD_PROGRESS", "none")
			var out, errs bytes.Buffer
			code := run(words, strings.NewReader(""), &out, &errs)
			got := digests.ReplaceAllString(strings.TrimSuffix(errs.String(), "\n"), "SHA")
			if want := fill(f.says); code != f.code || got != want {
				t.Errorf("exit code %d, want %d\n got %s\nwant %s", code, f.code, got, want)
			}
		})
	}
	if len(failures) < 70 {
		t.Errorf("only %d", len(failures))
	}
}

// strayFiles are beside those of astray.
var strayFiles = map[string]string{
	"unsafe.yaml":          "builds:\n  - main: ./ok\n    ldflags: [-extld=./evil]\n",
	"outside.yaml":         "builds:\n  - main: ./ok\n    files: [{from: ../secret, to: /x}]\n",
	"tabs.yaml":            "builds:\n\t- main: ./ok\n",
	"far.yaml":             "builds:\n  - main: ./ok\n    ldflgs: [-s]\n    image: {ports: [http]}\n",
	"lock.yaml":            "platforms: [linux/amd64]\nbuilds:\n  - id: app\n    prebuilt: {url: https://example.com/app}\n",
	"twice.yaml":           "entries:\n  - {name: a, source: $R/app, target: $R/copy, tags: [v1]}\n  - {name: b, source: $R/app, target: $R/copy, tags: [v1]}\n",
	"folder/config.json/x": "",
	"helper/config.json":   `{"credsStore":"nowhere"}`,
	"broken/config.json":   `{"auths":`,
	"lib/lib.go":           "package lib\n",
	"ko.yaml":              "defaultPlatforms: [linux/amd64]\n",
	"nope.yaml":            "apiVersion: v1\nkind: Pod\nspec:\n  image: ko://./nope\n",
	"syntax.yaml":          "builds: [\n",
	"two.yaml":             "builds:\n  - main: ./ok\n    id: web\n  - main: ./bad\n    id: api\n",
	"same.yaml":            "builds:\n  - main: ./ok\n  - main: ./ok\n",
	"item.yaml":            "builds: [./ok]\n",
	"env.yaml":             "builds:\n  - main: ./ok\n    env: [GREETING=hello]\n",
	"key.yaml":             "entries:\n  - source: $R/app\n    target: $R/copy\n    tags: [v1]\n    verify: {key: ../x.pub}\n",
	"list.yaml":            "platforms: linux/amd64\n  - linux/arm64\n",
	"value.yaml":           "jobs: many\nuser: [a]\n",
	"mirror.yaml":          "entries:\n  - name: app\n    source: $R/app\n    target: $R/copy\n    tags: [v1]\n",
	"untagged.yaml":        "entries:\n  - source: $R/app\n    target: $R/copy\n",
	"unpinned.yaml":        "base: $R/nowhere:v1\nbuilds:\n  - main: ./ok\n",
	"spec.yaml":            "image: $R/made:v1\nmanifests:\n  - image: $R/nowhere:v1\n",
	"empty-spec.yaml":      "image: $R/made:v1\n",
	"config.json":          "{}",
}

// variable matches a variable and its value before a command line.
var variable = regexp.MustCompile(`^[A-Z_]+=`)

// shellWords splits a line at blanks, except in single quotes.
func shellWords(line string) (words []string) {
	for _, word := range regexp.MustCompile(`(?:[^\s']|'[^']*')+`).FindAllString(line, -1) {
		words = append(words, strings.ReplaceAll(word, "'", ""))
	}
	return words
}
