package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// This file decides which compiler flags, linker flags and variables an untrusted file may
// give to the go command. They are allowed one by one: a flag is harmless if it runs no
// program, reads no file that its value names and writes none.

// Patterns of values. anySymbol does not match a comma, quote or space.
const (
	anyNumber = `-?[0-9]+`
	anySymbol = `[\w./·*()-]+`
)

// toolFlags lists every flag that `go tool NAME -help` prints. harmless maps a flag to the
// pattern that its whole value must match, or to "" if it takes no value. refused has all
// others, so that a flag which a new Go version adds is in neither list: a test fails
// then. Only harmless decides: a flag that is not there is refused.
var toolFlags = map[string]struct {
	harmless map[string]string
	refused  []string
}{
	"link": {
		harmless: map[string]string{
			"B": `gobuildid|none|0x[0-9a-fA-F]+`, "D": anyNumber, "E": anySymbol, "H": `\w+`, "R": anyNumber, "T": `(0x)?[0-9a-fA-F]+`,
			"X": `[^=\x01]+=[^\x00]*`, "a": "", "aslr": "", "benchmark": `mem|cpu`, "bindnow": "", "buildid": `\S*`, "c": "", "checklinkname": "",
			"compressdwarf": "", "d": "", "debugnosplit": "", "debugtextsize": anyNumber, "debugtramp": anyNumber, "dumpdep": "", "e": "",
			// JudgeFlags checks the values of these further:
			"extldflags": `(?s).*`,
			"funcalign":  anyNumber, "h": "", "k": anySymbol, "linkmode": `internal|auto|external`,
			"memprofilerate": anyNumber, "n": "",
			"pluginpath": anySymbol, "pruneweakmap": "", "randlayout": anyNumber, "s": "", "strictdups": anyNumber, "v": "", "w": "",
		},
		refused: []string{
			"I", "L", "V", "asan", "benchmarkprofile", "buildmode", "capturehostobjs", "cpuprofile", "extar", "extld", "f", "fipso", "g",
			"importcfg", "installsuffix", "libgcc", "linkshared", "memprofile", "msan", "o", "r", "race", "tmpdir",
		},
	},
	"compile": {
		harmless: map[string]string{
			"%": "", "B": "", "C": "", "E": "", "K": "", "L": "", "N": "", "S": "", "W": "", "c": anyNumber, "clobberdead": "", "clobberdeadreg": "",
			"d": debugKeys, "dwarf": "", "dwarfbasentries": "", "dwarflocationlists": "", "e": "", "errorurl": "", "gendwarfinl": anyNumber,
			"h": "", "j": "", "l": "", "lang": `go1\.[0-9]+(\.[0-9]+)?`, "live": "", "m": "", "memprofilerate": anyNumber, "r": "",
			"smallframes": "", "spectre": `(all|index|ret)(,(all|index|ret))*`, "t": "", "v": "", "w": "", "wb": "",
		},
		refused: []string{
			"+", "D", "I", "V", "asan", "asmhdr", "bench", "blockprofile", "buildid", "complete", "coveragecfg", "cpuprofile", "dynlink",
			"embedcfg", "env", "goversion", "importcfg", "installsuffix", "json", "linkobj", "linkshared", "memprofile", "msan",
			"mutexprofile", "nolocalimports", "o", "p", "pack", "pgoprofile", "race", "shared", "std", "symabis", "traceprofile", "trimpath",
		},
	},
	// No key of the file gives flags to asm and cgo.
	"asm": {refused: []string{
		"D", "I", "S", "V", "d", "debug", "dynlink", "e", "gensymabis", "linkshared", "o", "p", "shared", "spectre", "trimpath", "v",
	}},
	"cgo": {refused: []string{
		"V", "debug-define", "debug-gcc", "dynimport", "dynlinker", "dynout", "dynpackage", "exportheader", "gccgo",
		"gccgo_define_cgoincomplete", "gccgopkgpath", "gccgoprefix", "godefs", "import_runtime_cgo", "import_syscall", "importpath",
		"ldflags", "objdir", "srcdir", "trimpath",
	}},
}

// debugKeys matches the values of the compiler's -d that only print or choose how to
// compile. Other values write files.
const debugKeys = debugKey + `(,` + debugKey + `)*`

// debugKey matches one of them.
const debugKey = `(checkptr(=[0-2])?|closure|defer|escapedebug|loopvar(=[0-2])?|nil|panic|typeassert|ssa/(check_bce|prove)(/debug(=[0-2])?)?)`

// variables maps the variables that a file may set for the go command to the pattern of
// their values. Others could name a program (GOCACHEPROG, GOAUTH), load code into one
// (LD_PRELOAD), write a file (GODEBUG) or disable a check (GONOSUMDB).
var variables = map[string]string{
	"CC": compilerName, "CXX": compilerName,
	"CGO_ENABLED": `[01]`, "GOEXPERIMENT": words, "GOFIPS140": words, "SOURCE_DATE_EPOCH": `[0-9]+`,
	"GO386": words, "GOAMD64": words, "GOARM": words, "GOARM64": words, "GOMIPS": words, "GOMIPS64": words, "GOPPC64": words,
	"GORISCV64": words, "GOWASM": words,
	"TZ":         `[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*`, // of a zone; never a path
	"CGO_CFLAGS": cFlags, "CGO_CPPFLAGS": cFlags, "CGO_CXXFLAGS": cFlags, "CGO_LDFLAGS": cLinkerFlags,
}

const (
	words = `[A-Za-z0-9.,]*`
	// compilerName is the name of a C compiler on PATH, cross compilers included.
	compilerName = `([a-z0-9_.]+-)*(gcc|g\+\+|clang|clang\+\+|cc|c\+\+)(-[0-9.]+)?`

	// The C flags have no -I, -include, -B, -specs or @file, which read files of the
	// file's choice, and no -fplugin or -wrapper, which run code.
	cFlags = `\s*(` + cFlag + `(\s+` + cFlag + `)*)?\s*`
	cFlag  = `-(O[0-3sgz]?|g[0-3]?|w|ansi|pedantic|pipe|pthread|std=[a-z0-9+]+|[DU][A-Za-z_][A-Za-z0-9_]*(=[A-Za-z0-9_.+-]*)?` +
		`|W(no-)?[a-z][a-z0-9-]*(=[a-z0-9+-]+)?|m(arch|tune|cpu|fpu|abi|float-abi)=[a-z0-9._+-]+` +
		`|m(no-)?(32|64|sse[0-9a-z.]*|avx[0-9a-z]*|aes|bmi2?|fma|popcnt|thumb|strict-align|outline-atomics|unaligned-access)` +
		`|f(no-)?(omit-frame-pointer|stack-protector(-strong|-all)?|stack-clash-protection|common|strict-aliasing|exceptions|rtti|PIC|pic|PIE|pie` +
		`|inline-functions|unroll-loops|fast-math|math-errno|function-sections|data-sections|asynchronous-unwind-tables|signed-char|unsigned-char|wrapv)` +
		`|fvisibility=(hidden|default))`

	// The linker flags have no -L, -T, -rpath or paths of objects. The options after -Wl
	// are listed one by one, since -Wl passes anything on.
	cLinkerFlags = `\s*(` + cLinkerFlag + `(\s+` + cLinkerFlag + `)*)?\s*`
	cLinkerFlag  = `-(static(-pie|-libgcc|-libstdc\+\+)?|s|pthread|pie|no-pie|l[A-Za-z0-9_.+-]+|Wl(,` + linkerOption + `)+)`
	linkerOption = `(-z,(relro|now|lazy|noexecstack|defs)|--as-needed|--gc-sections|--no-undefined|-s|-S|--strip-all|--strip-debug|-O[0-2]` +
		`|--build-id(=(none|sha1|md5))?|--hash-style=(gnu|both|sysv))`
)

// templated matches a template action.
var templated = regexp.MustCompile(`\{\{.*?\}\}`)

// filled replaces a template action in texts that are judged before the template is filled in. A
// template is only allowed in the values of -X and -buildid, which are plain text, so
// that it cannot insert a flag.
const filled = "\x01"

// matches reports whether a pattern matches the whole text.
func matches(pattern, text string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(text)
}

// JudgeVariable returns an error if a file may not set a variable of the go command,
// given as KEY=VALUE. If the name is not allowed at all, the error does not repeat the
// value.
func JudgeVariable(kv string) error {
	kv = templated.ReplaceAllString(kv, filled)
	name, value, _ := strings.Cut(kv, "=")
	if pattern, known := variables[name]; known && matches(pattern, value) {
		return nil
	} else if known {
		return unsafe(name + "=" + value)
	}
	// Many mean the variables of the container, which have another key.
	err := unsafe(name)
	return &hint.Error{Kind: hint.Usage, Err: err, Hint: "variables of the container are below image: {env: [KEY=VALUE]}; for those of the go command, " + hint.Of(err)}
}

// JudgeFlags returns an error if a file may not give these flags to a tool, "link" or
// "compile". It splits the text exactly as the go command does: any difference would let
// a flag through that was judged as part of another. One dash or two is the same, and a
// value follows after = or as the next word. A package pattern such as all= before the
// flags is skipped.
//
// The words of -extldflags are judged like CGO_LDFLAGS. -linkmode=external is allowed
// with cgo alone, where a C toolchain links anyway; elsewhere it would start one, which
// reads files that objects name.
func JudgeFlags(tool, text string, cgo bool) error {
	text = strings.TrimSpace(templated.ReplaceAllString(text, filled))
	if pattern, rest, ok := strings.Cut(text, "="); ok && !strings.HasPrefix(text, "-") && !strings.ContainsAny(pattern, " '\""+filled) {
		text = rest // all=-N
	}
	list, err := SplitWords(text)
	if err != nil {
		return err
	}
	for len(list) > 0 {
		word := list[0]
		list = list[1:]
		name, value, said := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		pattern, known := toolFlags[tool].harmless[name]
		switch {
		case !known || !strings.HasPrefix(word, "-"):
			return unsafe(word)
		case pattern == "" && (!said || matches(`true|false|[0-9]+`, value)):
			continue
		case pattern == "":
			return unsafe(word)
		case !said && len(list) == 0:
			return fmt.Errorf("-%s requires a value", name)
		case !said:
			value, list = list[0], list[1:]
		}
		if strings.Contains(value, filled) && name != "X" && name != "buildid" {
			return unsafe("-" + name + " from a template")
		}
		if name == "linkmode" && value == "external" && !cgo {
			return unsafe("-linkmode=external without cgo")
		}
		if !matches(pattern, value) || name == "extldflags" && !matches(cLinkerFlags, value) {
			return unsafe("-" + name + "=" + value)
		}
	}
	return nil
}

// SplitWords splits a text as the go command does (cmd/internal/quoted): a quote counts
// only at the beginning of a word, and there are no escapes.
func SplitWords(text string) (list []string, err error) {
	const space = " \t\r\n"
	for {
		text = strings.TrimLeft(text, space)
		if text == "" {
			return list, nil
		}
		if quote := text[0]; quote == '\'' || quote == '"' {
			end := strings.IndexByte(text[1:], quote)
			if end < 0 {
				return nil, errors.New("has an unclosed quote")
			}
			list, text = append(list, text[1:1+end]), text[2+end:]
			continue
		}
		end := strings.IndexAny(text, space)
		if end < 0 {
			end = len(text)
		}
		list, text = append(list, text[:end]), text[end:]
	}
}

// unsafe returns the refusal of a flag or variable.
func unsafe(what string) error {
	what = strings.ReplaceAll(what, filled, "{{…}}")
	return hint.New(hint.Usage, "use a flag or an environment variable, or allow all flags in the file with --"+allowUnsafe,
		"%s is not allowed in the configuration file, because it could run programs or access other files", yamlconf.Shorten(what))
}

// harmlessVariables returns the names of the variables that a file may set, sorted.
func harmlessVariables() []string { return slices.Sorted(maps.Keys(variables)) }

// harmlessFlags returns the flags of a tool that a file may give, sorted.
func harmlessFlags(tool string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(toolFlags[tool].harmless)) {
		list = append(list, "-"+name)
	}
	return list
}
