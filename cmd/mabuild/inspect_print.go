package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/web"
	"github.com/mabuild/mabuild/manifest"
)

// print writes the reports in the order of the arguments. Errors are left to verdict,
// except in JSON and in the table, which have an entry for every image.
func (o *inspectOptions) print(w io.Writer, all []inspected) error {
	if o.json {
		return printJSON(w, all)
	}
	if len(all) > 1 && !o.digest && o.template == nil && o.platform == "" {
		return o.printTable(w, all)
	}
	for _, i := range all {
		if i.err != nil {
			continue
		}
		var err error
		switch {
		// An image that fails --require prints no digest, so a script cannot use it by
		// mistake.
		case o.digest && o.met(i.report) != nil:
		case o.digest && o.platform != "":
			_, err = fmt.Fprintln(w, i.report.Platforms[0].Digest)
		case o.digest:
			_, err = fmt.Fprintln(w, i.report.Digest)
		case o.template != nil:
			err = o.printFormat(w, i.report)
		default:
			err = o.printReport(w, i.report)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints a report, or for several images an array with one element per image,
// in which an image that failed has an error instead of a report. A single image that
// failed prints nothing. The format is that of docs/inspect.schema.json.
func printJSON(w io.Writer, all []inspected) error {
	var list []any
	for _, i := range all {
		if i.err != nil {
			list = append(list, struct {
				Ref   string `json:"ref"`
				Error string `json:"error"`
			}{i.ref, i.err.Error()})
		} else {
			list = append(list, i.report)
		}
	}
	var what any = list
	if len(all) == 1 {
		if what = list[0]; all[0].err != nil {
			return nil
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(what); err != nil {
		return err
	}
	_, err := io.WriteString(w, plainLines(b.String()))
	return err
}

// jsonText is the function json of templates.
func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// printFormat executes the template with a report. The output always ends with a line
// break.
func (o *inspectOptions) printFormat(w io.Writer, r *manifest.Report) error {
	var b strings.Builder
	if err := o.template.Execute(&b, r); err != nil {
		return usage(formatFields, "--format: %s", err)
	}
	text := b.String()
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	_, err := io.WriteString(w, plainLines(text))
	return err
}

// formatFields is the hint after an error in --format. It lists the fields of the report
// by reflection, so it is never out of date.
var formatFields = "the fields are " + fieldsOf(reflect.TypeFor[manifest.Report]()) +
	"; in .Platforms " + fieldsOf(reflect.TypeFor[manifest.Runnable]()) +
	"; in .Image " + fieldsOf(reflect.TypeFor[manifest.Detail]())

// fieldsOf returns the exported fields of a struct as templates name them.
func fieldsOf(t reflect.Type) string {
	var names []string
	for f := range t.Fields() {
		names = append(names, "."+f.Name)
	}
	return strings.Join(names, " ")
}

// printReport prints a report in the shape of mquery, which scripts parse: the line
// "Manifest List" keeps the word of Docker. Text from the registry is escaped.
func (o *inspectOptions) printReport(w io.Writer, r *manifest.Report) error {
	list := "No"
	if r.Index {
		list = "Yes"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Image: %s (digest: %s)\n", plain(r.Ref), r.Digest)
	fmt.Fprintf(&b, " * Manifest List: %s (Image type: %s)\n", list, plain(string(r.MediaType)))
	if len(r.Notes) > 0 {
		fmt.Fprintf(&b, " * Notes: %s\n", plain(strings.Join(r.Notes, ", ")))
	}
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		fmt.Fprintf(&b, " * Annotation: %s=%s\n", plain(key), plain(r.Annotations[key]))
	}
	// An artifact has no platforms.
	if r.ArtifactType != "" && !r.Index {
		fmt.Fprintf(&b, " * An artifact, not an image: %s\n", plain(r.ArtifactType))
	} else {
		fmt.Fprintf(&b, " * Supported platforms:\n")
		o.platforms(&b, r)
	}
	// These are the entries of the index that are not images.
	for _, other := range r.Others {
		kind := other.ArtifactType
		if kind == "" {
			kind = string(other.Type)
		}
		fmt.Fprintf(&b, " * Not an image: %s (%s)\n", other.Digest, plain(kind))
	}
	printReferrers(&b, r)
	for _, p := range r.Platforms {
		if p.Image != nil {
			detail(&b, p.Image)
		}
	}
	return trimmed(w, b.String())
}

// platforms prints one line per image. Digests are shortened if a line does not fit on
// the terminal; output that is not a terminal always has complete ones.
func (o *inspectOptions) platforms(b *strings.Builder, r *manifest.Report) {
	var table strings.Builder
	o.table(&table, r, v1.Hash.String)
	// The table is made with complete digests first; only if a line is too long, again
	// with short ones.
	if o.width > 0 && slices.ContainsFunc(strings.Split(table.String(), "\n"), func(line string) bool {
		return len(strings.TrimRight(line, " ")) > o.width
	}) {
		table.Reset()
		o.table(&table, r, shortDigest)
	}
	b.WriteString(table.String())
}

// shortDigest returns the first 12 digits of a digest, as docker shows them.
func shortDigest(h v1.Hash) string {
	const most = 12
	if len(h.Hex) <= most {
		return h.String()
	}
	return h.Algorithm + ":" + h.Hex[:most] + "…"
}

// table prints the lines of platforms, with digests formatted by digest.
func (o *inspectOptions) table(b *strings.Builder, r *manifest.Report, digest func(v1.Hash) string) {
	t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	size := func(n int64) string {
		if o.sizes || o.platform != "" {
			return text.Size(n) + "\t"
		}
		return ""
	}
	head := "   PLATFORM\tDIGEST\t"
	if size(0) != "" {
		head += "SIZE\t"
	}
	fmt.Fprintln(t, head+"NOTES")
	for _, p := range r.Platforms {
		notes := slices.Clone(p.Notes)
		if p.FromConfig {
			notes = append(notes, "platform by its config")
		}
		if p.Written != "" {
			notes = append(notes, "written "+p.Written)
		}
		if p.Double != "" {
			notes = append(notes, p.Double)
		}
		if p.Within != nil {
			notes = append(notes, "within "+p.Within.String())
		}
		fmt.Fprintf(t, "   %s\t%s\t%s%s\n", shownKey(p.Platform), digest(p.Digest), size(p.Size), plain(strings.Join(notes, ", ")))
	}
	_ = t.Flush() // writes to memory
}

// printReferrers prints what describes the index and its images, one line each.
func printReferrers(b *strings.Builder, r *manifest.Report) {
	var rows strings.Builder
	t := tabwriter.NewWriter(&rows, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "   SUBJECT\tKIND\tDIGEST\tSIZE\tTYPE")
	count := 0
	row := func(subject string, list []manifest.Attached) {
		for _, a := range list {
			count++
			kind := a.Kind
			if a.Signed && !strings.HasPrefix(kind, "signature") {
				kind += " (signed, not verified)"
			}
			fmt.Fprintf(t, "   %s\t%s\t%s\t%s\t%s\n", subject, plain(kind), a.Digest, text.Size(a.Size), plain(cmp.Or(a.PredicateType, a.ArtifactType, string(a.Type))))
		}
	}
	row("(this "+map[bool]string{true: "index", false: "manifest"}[r.Index]+")", r.Referrers)
	for _, p := range r.Platforms {
		row(shownKey(p.Platform), p.Referrers)
	}
	_ = t.Flush() // writes to memory
	if count > 0 {
		b.WriteString(" * Referrers:\n" + rows.String())
	}
}

// shownKey returns a platform for display. An image may have none, such as
// unknown/unknown of attestations.
func shownKey(key string) string {
	if key == "" {
		return "(unknown)"
	}
	return plain(key)
}

// detail prints the config, labels, annotations and layers of an image, one item per
// line.
func detail(b *strings.Builder, d *manifest.Detail) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, " * %s: %s\n", name, plain(value))
		}
	}
	if d.Created != nil {
		line("Created", d.Created.Format(time.RFC3339))
	}
	line("Entrypoint", quoted(d.Entrypoint))
	line("Cmd", quoted(d.Cmd))
	line("User", d.User)
	line("Working directory", d.WorkingDir)
	line("Ports", strings.Join(d.Ports, ", "))
	line("Volumes", strings.Join(d.Volumes, ", "))
	line("Stop signal", d.StopSignal)
	base := d.BaseName
	if d.BaseDigest != "" {
		base = strings.TrimPrefix(base+"@"+d.BaseDigest, "@")
	}
	line("Base", base)
	section := func(name string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(b, " * %s:\n", name)
		for _, l := range lines {
			fmt.Fprintf(b, "   %s\n", plain(l))
		}
	}
	section("Environment", d.Env)
	section("Labels", assignments(d.Labels))
	section("Annotations", assignments(d.Annotations))
	var layers []string
	for _, l := range d.Layers {
		layers = append(layers, fmt.Sprintf("%s %s", l.Digest, text.Size(l.Size)))
	}
	section("Layers", layers)
}

// quoted returns a command as a JSON array, as in a Dockerfile. An empty command is "".
func quoted(words []string) string {
	if len(words) == 0 {
		return ""
	}
	text, err := jsonText(words)
	if err != nil {
		return ""
	}
	return text
}

// assignments returns a map as sorted lines of KEY=VALUE.
func assignments(m map[string]string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return list
}

// printTable prints one line per image and one column per platform that any of them has.
func (o *inspectOptions) printTable(w io.Writer, all []inspected) error {
	columns := map[string]int{}
	for _, i := range all {
		if i.err == nil {
			for _, p := range i.report.Platforms {
				columns[shownKey(p.Platform)] = 0
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(columns), web.ByPlatform)
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "IMAGE\t"+strings.Join(keys, "\t"))
	for _, i := range all {
		fmt.Fprint(t, plain(i.ref)) //nolint:errcheck // to memory
		for _, key := range keys {
			fmt.Fprint(t, "\t"+o.cell(i, key)) //nolint:errcheck // as above
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return trimmed(w, b.String())
}

// cell returns the text for an image and a platform: "?" if the image could not be read,
// "-" if it lacks the platform, otherwise its notes or "yes".
func (o *inspectOptions) cell(i inspected, key string) string {
	if i.err != nil {
		return "?"
	}
	for _, p := range i.report.Platforms {
		if shownKey(p.Platform) != key {
			continue
		}
		words := slices.Clone(p.Notes)
		if o.sizes {
			words = slices.Insert(words, 0, text.Size(p.Size))
		}
		if len(words) == 0 {
			return "yes"
		}
		return plain(strings.Join(words, ", "))
	}
	return "-"
}

// trimmed writes text without white space at the ends of lines, which tabwriter leaves.
func trimmed(w io.Writer, text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
