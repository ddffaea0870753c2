package attest

import (
	"cmp"
	"iter"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

func comparePackages(a, b Package) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Source, b.Source))
}

// part describes a package of the base.
func (p *Packages) part(one Package) (part, error) {
	qualifiers := map[string]string{}
	if one.Arch != "" {
		qualifiers["arch"] = one.Arch
	}
	namespace := cmp.Or(p.Distro, map[string]string{"deb": "debian", "apk": "alpine"}[one.Kind])
	if p.Distro != "" && p.Release != "" {
		qualifiers["distro"] = p.Distro + "-" + p.Release
	}
	purl, err := purlOf(one.Kind, namespace, one.Name, one.Version, qualifiers)
	return part{name: one.Name, version: one.Version, purl: purl, from: one.Source}, err
}

// paragraphs gives the blocks of lines between empty ones.
func paragraphs(text string) iter.Seq[string] {
	return strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
}

// fields reads a paragraph's KEY: VALUE lines; a value's further lines, which begin
// with a space, are of no use here.
func fields(paragraph string) map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(paragraph, "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			m[key] = strings.TrimSpace(value)
		}
	}
	return m
}

// readDpkg reads deb-control(5) paragraphs of what is installed. The files of
// distroless images have no Status.
func readDpkg(b []byte) (list []Package) {
	for text := range paragraphs(string(b)) {
		f := fields(text)
		if f["Package"] == "" || f["Version"] == "" {
			continue
		}
		if status, said := f["Status"]; said && !strings.HasSuffix(status, " installed") {
			continue // its files are gone, or not yet there
		}
		source, version, _ := strings.Cut(cmp.Or(f["Source"], f["Package"]), " (")
		version = cmp.Or(strings.TrimSuffix(version, ")"), f["Version"])
		list = append(list, Package{Kind: packageurl.TypeDebian, Name: f["Package"], Version: f["Version"], Arch: f["Architecture"], Source: source + " " + version})
	}
	return list
}

// readApk reads the database of apk(5), whose keys are single letters.
func readApk(b []byte) (list []Package) {
	for text := range paragraphs(string(b)) {
		f := fields(text)
		if f["P"] == "" || f["V"] == "" {
			continue
		}
		p := Package{Kind: packageurl.TypeApk, Name: f["P"], Version: f["V"], Arch: f["A"]}
		if f["o"] != "" {
			p.Source = f["o"] + " " + f["V"]
		}
		list = append(list, p)
	}
	return list
}

// readRelease reads ID and VERSION_ID of os-release(5).
func readRelease(b []byte) (id, version string) {
	for line := range strings.SplitSeq(string(b), "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			id = value
		case "VERSION_ID":
			version = value
		}
	}
	return id, version
}
