// Package format prints the findings of internal/check: for people as a table and
// as a page, and for programs as JSON, SARIF, JUnit and the commands of GitHub's workflows.
//
// Text of a manifest or registry may be hostile. Each format escapes it by its own rules.
package format

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/web"
)

// Options say how to print.
type Options struct {
	Colour  bool   // the table is for a terminal with colours
	Version string // of mabuild
}

// Formats has a function for each format.
var Formats = map[string]func(io.Writer, *check.Result, Options) error{
	"table": table, "json": writeJSON, "sarif": sarif, "junit": junit, "github": github, "html": html,
}

// colours are the escape sequences of the levels.
var colours = map[check.Level]string{check.Error: "31", check.Warning: "33", check.Note: "36", check.Unverified: "35"}

// table prints the findings below the name of their file, and a line with totals.
func table(w io.Writer, r *check.Result, o Options) error {
	paint := func(code, s string) string {
		if !o.Colour {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	var b strings.Builder
	file := ""
	for i, f := range r.Findings {
		if f.File != file || i == 0 {
			if file = f.File; i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(paint("1", line(file)) + "\n")
		}
		place := fmt.Sprintf("%d:%d", f.Line, f.Column)
		if f.Line == 0 {
			place = "-"
		}
		fmt.Fprintf(&b, "  %-7s %s %s", place, paint(colours[f.Level], fmt.Sprintf("%-10s", f.Level)), f.Rule)
		for _, part := range []string{f.Workload, f.Container, f.Image} {
			if part != "" {
				b.WriteString("  " + line(part))
			}
		}
		if f.Template != "" {
			b.WriteString("  (" + line(f.Template) + ")")
		}
		b.WriteString("\n          " + line(f.Message) + "\n")
		if f.Hint != "" {
			b.WriteString("          hint: " + line(f.Hint) + "\n")
		}
	}
	if len(r.Findings) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(Totals(r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Totals says in one line what was checked and what was found.
func Totals(r *check.Result) string {
	var found []string
	for _, level := range check.Levels {
		if n := r.Count(level); n > 0 || level == check.Error {
			found = append(found, Count(n, string(level)))
		}
	}
	if r.Ignored > 0 {
		found = append(found, fmt.Sprintf("%d ignored", r.Ignored))
	}
	return fmt.Sprintf("%s, %s on %s: %s", Count(r.Workloads, "workload"), Count(r.Images, "image"), strings.Join(r.Platforms, ", "), strings.Join(found, ", "))
}

// Count returns a number and a noun, in the plural unless n is 1.
func Count(n int, word string) string {
	if n != 1 && word != string(check.Unverified) {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

// line makes text safe for a terminal.
func line(s string) string { return text.Line(s, 0) }

// A document is the JSON output. docs/check.schema.json describes it.
type document struct {
	Version   int             `json:"version"`
	Platforms []string        `json:"platforms"`
	Workloads int             `json:"workloads"`
	Images    int             `json:"images"`
	Ignored   int             `json:"ignored"`
	Findings  []check.Finding `json:"findings"`
}

func writeJSON(w io.Writer, r *check.Result, _ Options) error {
	return encode(w, document{1, nonNil(r.Platforms), r.Workloads, r.Images, r.Ignored, nonNil(r.Findings)})
}

// nonNil returns an empty list for nil, so that JSON has [] and not null.
func nonNil[T any](list []T) []T { return append([]T{}, list...) }

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Baseline returns the fingerprints of the findings in a JSON output of an earlier run.
func Baseline(data []byte) (map[string]bool, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if d.Version != 1 {
		return nil, fmt.Errorf("version %d of the output is not supported", d.Version)
	}
	known := map[string]bool{}
	for _, f := range d.Findings {
		known[f.Fingerprint] = true
	}
	return known, nil
}

// object is a JSON object whose keys SARIF defines.
type object = map[string]any

// sarif prints SARIF 2.1.0, which code scanning of GitHub and others read.
func sarif(w io.Writer, r *check.Result, o Options) error {
	levels := map[check.Level]string{check.Error: "error", check.Warning: "warning", check.Note: "note", check.Unverified: "note"}
	rules := []object{}
	for _, rule := range check.Rules {
		rules = append(rules, object{
			"id": rule.ID, "shortDescription": object{"text": rule.About}, "helpUri": "https://github.com/mabuild/mabuild/blob/main/docs/kubernetes.md#rules",
			"defaultConfiguration": object{"level": levels[rule.Level]},
		})
	}
	results := []object{}
	for _, f := range r.Findings {
		place := object{"artifactLocation": object{"uri": (&url.URL{Path: filepath.ToSlash(f.File)}).String()}}
		if f.Line > 0 {
			place["region"] = object{"startLine": f.Line, "startColumn": f.Column}
		}
		results = append(results, object{
			"ruleId": f.Rule, "level": levels[f.Level], "message": object{"text": message(f)},
			"locations":           []object{{"physicalLocation": place, "logicalLocations": []object{{"fullyQualifiedName": f.Workload}}}},
			"partialFingerprints": object{"mabuild/v1": f.Fingerprint},
		})
	}
	driver := object{"name": "mabuild check", "version": o.Version, "informationUri": "https://github.com/mabuild/mabuild", "rules": rules}
	return encode(w, object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{"tool": object{"driver": driver}, "results": results}},
	})
}

// message is one paragraph with all that a finding says.
func message(f check.Finding) string {
	var subject []string
	for _, part := range []string{f.Workload, f.Container, f.Image} {
		if part != "" {
			subject = append(subject, part)
		}
	}
	s := line(f.Message)
	if len(subject) > 0 {
		s = line(strings.Join(subject, " ")) + ": " + s
	}
	if f.Template != "" {
		s += " [" + line(f.Template) + "]"
	}
	if f.Hint != "" {
		s += " (" + line(f.Hint) + ")"
	}
	return s
}

// The elements of JUnit's XML, as CI systems read them.
type (
	testSuites struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testSuite `xml:"testsuite"`
	}
	testSuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	testCase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *outcome `xml:"failure"`
		Skipped *outcome `xml:"skipped"`
	}
	outcome struct {
		Message string `xml:"message,attr"`
	}
)

// junit prints a test suite for each file. An error is a failure, and any other finding a
// skipped test, since JUnit has no warnings.
func junit(w io.Writer, r *check.Result, _ Options) error {
	var all testSuites
	for _, f := range r.Findings {
		at := slices.IndexFunc(all.Suites, func(s testSuite) bool { return s.Name == line(f.File) })
		if at < 0 {
			at = len(all.Suites)
			all.Suites = append(all.Suites, testSuite{Name: line(f.File)})
		}
		s := &all.Suites[at]
		one := testCase{Name: line(strings.TrimSpace(f.Workload + " " + f.Container)), Class: f.Rule}
		if f.Level == check.Error {
			one.Failure = &outcome{message(f)}
			s.Failures++
		} else {
			one.Skipped = &outcome{message(f)}
			s.Skipped++
		}
		s.Tests++
		s.Cases = append(s.Cases, one)
	}
	if len(all.Suites) == 0 {
		all.Suites = []testSuite{{Name: "mabuild check", Tests: 1, Cases: []testCase{{Name: Totals(r), Class: "check"}}}}
	}
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(out)+"\n")
	return err
}

// github prints commands that make annotations of a workflow.
func github(w io.Writer, r *check.Result, _ Options) error {
	levels := map[check.Level]string{check.Error: "error", check.Warning: "warning", check.Note: "notice", check.Unverified: "warning"}
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", levels[f.Level], property.Replace(filepath.ToSlash(f.File)), cmp.Or(f.Line, 1), cmp.Or(f.Column, 1), property.Replace(f.Rule), data.Replace(message(f)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The data of the page.
type (
	report struct {
		*check.Result
		Levels []levelCount
		Files  []fileFindings
	}
	levelCount struct {
		Name, Plural string
		N            int
	}
	fileFindings struct {
		Name     string
		Findings []check.Finding
	}
)

// html prints a page that needs no network.
func html(w io.Writer, r *check.Result, o Options) error {
	data := report{Result: r}
	for _, level := range check.Levels {
		n := r.Count(level)
		_, plural, _ := strings.Cut(Count(2, string(level)), " ")
		data.Levels = append(data.Levels, levelCount{string(level), plural, n})
	}
	for i, f := range r.Findings {
		if i == 0 || f.File != r.Findings[i-1].File {
			data.Files = append(data.Files, fileFindings{Name: f.File})
		}
		last := &data.Files[len(data.Files)-1]
		last.Findings = append(last.Findings, f)
	}
	return web.Write(w, web.Page{Kind: web.Check, Title: "Check of workloads", Footer: "mabuild check, version " + o.Version, Data: data})
}
