package crosscompile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// goWays has hints for frequent errors of the go command, which has no error codes. The
// first pattern that matches the output applies. The patterns may stop matching with a
// new version of Go; then the hint is missing and nothing else changes.
var goWays = []struct{ says, way string }{
	{`go\.mod requires go >= |requires go >= .* \(running go |in go\.work file requires go >= `, "install this Go version, or let Go fetch it with GOTOOLCHAIN=auto; to update go.work, run go work use"},
	{`inconsistent vendoring`, "update the vendor directory with go mod vendor, or go work vendor in a workspace"},
	{`reading go\.work: open |cannot load workspace`, "GOWORK names a missing workspace: unset it, or set it to off"},
	{`errors parsing |unknown directive|invalid go version`, "fix this file"},
	{`missing go\.sum entry|updates to go\.(mod|sum) needed|no required module provides package`, wayTidy},
	{`import cycle not allowed`, "remove the import cycle"},
	{`use of internal package`, "an internal package can only be imported from its own module or directory"},
	{`disabled by GOPROXY=off`, "unset GOPROXY, or name a proxy that has the module"},
	{`is not in std`, "use a directory, such as ./cmd/app, or module/path@version"},
	{`flag provided but not defined: `, "list the flags with go tool link -help and go tool compile -help"},
	{`no space left on device`, "free some space, or set TMPDIR and GOCACHE to a disk with free space"},
	{`go\.mod file not found|cannot find main module|outside available modules|outside main module`, "run mabuild in a module, or name module/path@version"},
}

// wayTidy is a hint that callers also compare with.
const wayTidy = "run go mod tidy"

// wayOf returns the hint for an output of the go command, "" if there is none.
func wayOf(words string) string {
	for _, one := range goWays {
		if regexp.MustCompile(one.says).MatchString(words) {
			return one.way
		}
	}
	return ""
}

// linkUsage matches the start of the list of flags that linker, compiler and assembler
// print after a flag that they do not know.
var linkUsage = regexp.MustCompile(`(?m)^usage: (link|compile|asm) \[options\]`)

// withoutUsage removes the list of flags from an error. If only the list was printed, it
// names the cause instead.
func withoutUsage(words string) string {
	at := linkUsage.FindStringSubmatchIndex(words)
	if at == nil {
		return words
	}
	tool := words[at[2]:at[3]]
	if before := strings.TrimSpace(words[:at[0]]); strings.Contains(before, "flag provided") {
		return before
	} else if before != "" {
		return before + "\n" + tool + ": its flags have one argument too many"
	}
	return tool + ": its flags have one argument too many"
}

// badFlags is what the linker says of -X without a value, and of a second word, as a space in
// the value makes them.
var badFlags = regexp.MustCompile(`-X flag requires argument|its flags have one argument too many|usage: link `)

var (
	excluded  = regexp.MustCompile(`build constraints exclude all Go files in (\S+)`)
	undefined = regexp.MustCompile(`(?m)^(\S+\.go):\d+:\d+: undefined: `)
	importsC  = regexp.MustCompile(`(?m)^\s*(import\s+)?"C"\s*$`)
)

// needsCgo reports whether a build in dir has failed because cgo is off: a package that
// the output names imports "C", so the go command ignored its files.
func needsCgo(dir, words string) bool {
	var dirs []string
	for _, m := range excluded.FindAllStringSubmatch(words, -1) {
		dirs = append(dirs, m[1])
	}
	for _, m := range undefined.FindAllStringSubmatch(words, -1) {
		dirs = append(dirs, filepath.Dir(m[1]))
	}
	for _, at := range dirs {
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		files, err := filepath.Glob(filepath.Join(at, "*.go"))
		if err != nil {
			continue
		}
		for _, file := range files {
			if content, err := os.ReadFile(file); err == nil && importsC.Match(content) {
				return true
			}
		}
	}
	return false
}
