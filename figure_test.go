// These tests check that the figures are up to date.
package mabuild_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"html"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The last line of the figure, which `make figures` writes, has the pinned tool and the
// digests of the current source and drawing. The test does not draw it again, since that
// would compile the tool in each run.
func TestFigureIsDrawnFromItsSource(t *testing.T) {
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	source, svg := read("docs/push.d2"), read("docs/push.svg")
	pin := regexp.MustCompile(`(?m)^D2 +:= (\S+)$`).FindSubmatch(read("Makefile"))
	if pin == nil {
		t.Fatal("the Makefile does not pin D2")
	}
	drawing, _, _ := bytes.Cut(svg, []byte("\n<!-- "))
	want := fmt.Sprintf("%s\n<!-- %s %x %x -->\n", drawing, pin[1], sha256.Sum256(source), sha256.Sum256(drawing))
	if string(svg) != want {
		t.Error("docs/push.svg is out of date: run make figures")
	}
	for _, label := range regexp.MustCompile(`"([^"]+)" \{`).FindAllSubmatch(source, -1) {
		for line := range strings.SplitSeq(string(label[1]), `\n`) {
			if !bytes.Contains(drawing, []byte(">"+line+"<")) {
				t.Errorf("docs/push.svg does not contain the text %q", line)
			}
		}
	}
}

// figureOf returns the data of a figure, the figure, and the page about it. The last line of the
// figure must have the digest of the data.
func figureOf(t *testing.T, name string) (data, svg, page string) {
	t.Helper()
	read := func(suffix string) string {
		b, err := os.ReadFile("docs/" + name + suffix)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	data, svg, page = read(".csv"), read(".svg"), read(".md")
	if want := fmt.Sprintf("</svg>\n<!-- %x -->\n", sha256.Sum256([]byte(data))); !strings.HasSuffix(svg, want) {
		t.Errorf("docs/%s.svg is out of date: run make figures", name)
	}
	return data, svg, page
}

// The last line of docs/scale.svg has the digest of the data that it is drawn from. The tables in
// docs/scale.md are those that `make figures` has written from the same data, and their numbers
// are those of the data. No shard differs from the model by more than 15 %.
func TestModelOfScaleAgreesWithItsData(t *testing.T) {
	data, _, page := figureOf(t, "scale")
	if !strings.Contains(page, "](scale.svg)") {
		t.Error("docs/scale.md does not show the figure")
	}
	_, rest, _ := strings.Cut(page, "<!-- make figures writes what follows -->\n")
	tables, _, _ := strings.Cut(rest, "<!-- ")
	if want := fmt.Sprintf("%s<!-- %x %x -->\n", tables, sha256.Sum256([]byte(data)), sha256.Sum256([]byte(tables))); !strings.HasPrefix(rest, want) {
		t.Error("the tables of docs/scale.md are out of date: run make figures")
	}
	lines, err := csv.NewReader(strings.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	shards := map[string]int{} // by the number of machines
	for _, l := range lines {
		if l[0] != "warm" {
			continue
		}
		shards[l[1]]++
		cpu, err := strconv.ParseFloat(l[6], 64)
		if err != nil {
			t.Fatal(err)
		}
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %s \| %s \| \d+, \d+ \| %.1f s \| ([\d.]+) s \|`, l[1], l[2], cpu)).FindStringSubmatch(tables)
		if row == nil {
			t.Errorf("docs/scale.md has no row for shard %s of %s, which took %.1f s", l[2], l[1], cpu)
			continue
		}
		if model, err := strconv.ParseFloat(row[1], 64); err != nil || model < cpu*0.85 || model > cpu*1.15 {
			t.Errorf("shard %s of %s took %.1f s, and the model says %s", l[2], l[1], cpu, row[1])
		}
	}
	if want := map[string]int{"1": 1, "2": 2, "4": 4}; !maps.Equal(shards, want) {
		t.Errorf("the data has the shards %v, want %v", shards, want)
	}
}

// The last line of docs/terminal.svg has the digest of docs/terminal.txt, which docs/figures/record
// prints, and the picture has its lines as text.
func TestPictureIsDrawnFromItsRecord(t *testing.T) {
	text, err := os.ReadFile("docs/terminal.txt")
	if err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile("docs/terminal.svg")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("</svg>\n<!-- %x -->\n", sha256.Sum256(text)); !strings.HasSuffix(string(svg), want) {
		t.Error("docs/terminal.svg is out of date: run make figures")
	}
	if len(svg) > 20_000 {
		t.Errorf("docs/terminal.svg has %d bytes, want at most 20,000", len(svg))
	}
	drawn := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(string(svg), ""))
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(drawn, line) {
			t.Errorf("docs/terminal.svg lacks the line %q", line)
		}
	}
}

// docs/performance.csv has the numbers of the first table of docs/performance.md, and no other,
// and docs/performance.svg is drawn from it.
func TestFigureOfPerformanceHasTheTable(t *testing.T) {
	data, svg, page := figureOf(t, "performance")
	const head = "| | mabuild | / go build × 5 | / bare pipeline | / ko |\n"
	_, table, _ := strings.Cut(page, head)
	table, _, _ = strings.Cut(table, "\n\n")
	var tabled []string
	ratio := regexp.MustCompile(`([0-9.]+) · CPU ([0-9.]+)`)
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 || strings.HasPrefix(cells[0], "---") {
			continue
		}
		push, _, _ := strings.Cut(strings.TrimSpace(cells[0]), " (`")
		push += "," + strings.TrimSuffix(strings.TrimSpace(cells[1]), " s")
		compared := false
		for i, against := range []string{"go build × 5", "bare pipeline", "ko"} {
			if m := ratio.FindStringSubmatch(cells[2+i]); m != nil {
				tabled, compared = append(tabled, strings.Join([]string{push, against, m[1], m[2]}, ",")), true
			}
		}
		if !compared {
			tabled = append(tabled, push+",,,")
		}
	}
	lines, err := csv.NewReader(strings.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var measured []string
	for _, l := range lines[1:] {
		measured = append(measured, strings.Join(l, ","))
		for _, value := range l[3:] {
			if value != "" && !strings.Contains(svg, ">"+value+"<") {
				t.Errorf("docs/performance.svg does not show %s of %s", value, l[0])
			}
		}
	}
	if !slices.Equal(tabled, measured) || len(measured) < 7 {
		t.Errorf("docs/performance.md has\n%s\nand docs/performance.csv\n%s", strings.Join(tabled, "\n"), strings.Join(measured, "\n"))
	}
}
