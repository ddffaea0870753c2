package debian

import (
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Fields are read by name, with their further lines. Other fields are skipped.
func TestParagraphs(t *testing.T) {
	text := "\n\nPackage: a\nDESCRIPTION: x\n y\n .\nDepends: b,\n c\n# a comment\nVersion:1\n\n \nOther: 1\n\nPackage: d\r\n"
	var got [][]string
	err := paragraphs(strings.NewReader(text), []string{"package", "depends", "version"}, func(v []string) error {
		got = append(got, slices.Clone(v))
		return nil
	})
	want := [][]string{{"a", "b,\nc", "1"}, {"", "", ""}, {"d", "", ""}}
	if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{
		" a\n":                                   "line 1 continues nothing",
		"Package: a\nb\n":                        `line 2: "b" is not a field`,
		"Package a: b\n":                         `line 1: "Package a: b" is not a field`,
		": b\n":                                  `line 1: ": b" is not a field`,
		"Package: a\npackage: b\n":               "line 2: the field package is there twice",
		"A: " + strings.Repeat("a", maxField+10): "a line of more than 1048576 bytes",
		"Package: a\n" + strings.Repeat(" "+strings.Repeat("a", 1000)+"\n", 1100): "line 1049: a field of more than 1048576 bytes",
	} {
		if err := paragraphs(strings.NewReader(text), []string{"package"}, func([]string) error { return nil }); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// Relations are read as dpkg reads them, and written in one form.
func TestRelations(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"a":                                 "",
		" , a0 | b1:any (>=1:2-3) ,\n c2 ,": "a0 | b1 (>= 1:2-3), c2",
		"libc6 (<< 2), x+y.z (= 1~rc1)":     "libc6 (<< 2), x+y.z (= 1~rc1)",
		"aa (> 1)":                          "aa (> 1)",
		"aa (1)":                            "",
		"aa (>= 1":                          "",
		"aa (>= 1) b":                       "",
		"aa (>= $1)":                        "",
		"Aa":                                "",
		"aa [amd64]":                        "",
	} {
		groups, err := relations(text)
		var got []string
		for _, g := range groups {
			got = append(got, join(g))
		}
		if wrong := want == "" && strings.TrimSpace(text) != ""; wrong != (err != nil) || strings.Join(got, ", ") != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, allowed := range map[string]string{"aa": "0 1 2", "aa (<< 1)": "0", "aa (<= 1)": "0 1", "aa (= 1)": "1", "aa (>= 1)": "1 2", "aa (>> 1)": "2", "aa (< 1)": "0 1", "aa (> 1)": "1 2"} {
		r, err := parseRelation(text)
		var got []string
		for _, version := range []string{"0", "1", "2"} {
			if r.allows(version) {
				got = append(got, version)
			}
		}
		if err != nil || strings.Join(got, " ") != allowed {
			t.Errorf("%s allows %q, want %s", text, got, allowed)
		}
	}
}

// Debian has a name for each platform that its programs run on.
func TestArchitecture(t *testing.T) {
	for text, want := range map[string]string{
		"linux/amd64": "amd64", "linux/amd64/v3": "amd64", "linux/386": "i386", "linux/arm64": "arm64", "linux/arm/v7": "armhf", "linux/arm": "armhf",
		"linux/arm/v5": "armel", "linux/ppc64le": "ppc64el", "linux/s390x": "s390x", "linux/riscv64": "riscv64", "linux/mips64le": "mips64el", "linux/loong64": "loong64",
		"linux/arm/v6": "linux/arm/v6: Debian's armhf requires ARMv7, so its programs do not run on ARMv6", "windows/amd64": "windows/amd64: Debian packages are for linux",
		"linux/mips": "linux/mips: Debian has no such architecture",
	} {
		p, err := platform.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Architecture(p)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// What can be read of a control file does not depend on the rest, and a database in the short
// form reads as itself.
func FuzzControl(f *testing.F) {
	f.Add("Package: a0\nVersion: 1:2-3\nArchitecture: amd64\nProvides: b0 (= 1)\nStatus: install ok installed\n\nPackage: c0\nVersion: 1\n")
	f.Add("Package: a\n b\n\n\n#\nDepends: a (>= 1) | b:any, c\n")
	f.Add("\x00: \xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		if groups, err := relations(text); err == nil {
			for _, g := range groups {
				again, err := relations(join(g))
				if err != nil || join(again[0]) != join(g) {
					t.Errorf("%q: %v", join(g), err)
				}
			}
		}
		short, err := Condense(strings.NewReader(text), 1<<20)
		if err != nil {
			return
		}
		again, err := Condense(strings.NewReader(short), 1<<20)
		if err != nil || again != short {
			t.Errorf("%q: %q, %v", short, again, err)
		}
		if err := new(System).AddBase(short, "amd64"); err != nil {
			t.Errorf("%q: %v", short, err)
		}
		x := Index{Architecture: "amd64"}
		_ = x.add(strings.NewReader(text)) // must not panic
		_, _ = parseRelease([]byte(text))
	})
}
