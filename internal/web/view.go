package web

import (
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// maxColumns is the largest number of platforms in a matrix.
const maxColumns = 24

// A Listing is a page of the repositories of a registry.
type Listing struct {
	Host string
	All  int
	Rows []Listed
	Pager
}

// A Listed is a repository in a [Listing].
type Listed struct {
	Name, Newest Link
	Tags         int
	Problem      string // why it could not be read
}

// A Pager leads to the other pages of a list. Back and Next are empty at its ends.
type Pager struct {
	Page, Pages int
	Back, Next  string
}

// A Tags is a page of the tags of a repository. Hidden counts tags of referrers, which are
// not shown.
type Tags struct {
	Name        string
	All, Hidden int
	Matrix      Matrix
	Pager
}

// An Inspected is an image or index of a matrix: a report, or the reason that there is
// none.
type Inspected struct {
	Name   Link
	Digest string
	Report *manifest.Report
	// State and Problem say why there is no report.
	State, Problem string
	// At is the address of the repository, to which @DIGEST is added; empty for no links.
	At    string
	Notes []string
}

// A Matrix has one row for each image and one column for each platform.
type Matrix struct {
	Head    string
	Digests bool // the rows have digests
	States  bool // the rows have states
	Columns []string
	Rows    []Row
}

// Span is the number of columns that the problem of a row takes.
func (m Matrix) Span() int {
	n := max(1, len(m.Columns))
	if m.Digests {
		n++
	}
	return n
}

// A Row is a row of a [Matrix].
type Row struct {
	Name           Link
	Digest         string
	Notes          []string
	State, Problem string // Problem takes the place of the cells
	Unread         bool   // which platforms it has is not known
	Cells          []Cell
}

// A Cell is what an image has for a platform; the text is empty for nothing.
type Cell struct {
	Text, To string
	Notes    []string
}

// NewMatrix makes the matrix of images and what their reports say.
func NewMatrix(head string, all []Inspected) Matrix {
	rows, cells := make([]Row, len(all)), make([]map[string]Cell, len(all))
	for i, s := range all {
		cells[i] = map[string]Cell{}
		rows[i] = Row{Name: s.Name, Digest: s.Digest, State: s.State, Problem: s.Problem, Notes: slices.Clone(s.Notes)}
		if s.Report == nil {
			continue
		}
		if s.Report.ArtifactType != "" && len(s.Report.Platforms) == 0 {
			rows[i].Notes = append(rows[i].Notes, "an artifact: "+s.Report.ArtifactType)
		}
		for _, p := range s.Report.Platforms {
			key := p.Platform
			if key == "" {
				key = "(unknown)"
			}
			if cell, twice := cells[i][key]; twice {
				cell.Notes = []string{"and others"}
				cells[i][key] = cell
				continue
			}
			cell := Cell{Text: "yes"}
			if p.Size > 0 {
				cell.Text = text.Size(p.Size)
			}
			if s.At != "" {
				cell.To = s.At + "@" + p.Digest.String()
			}
			cells[i][key] = cell
		}
	}
	return Fill(head, rows, cells)
}

// Fill makes a matrix of rows and the cells of each, by platform. The columns are in the
// order of platforms. Platforms beyond maxColumns are counted in the notes of their rows.
func Fill(head string, rows []Row, cells []map[string]Cell) Matrix {
	m := Matrix{Head: head, Rows: rows}
	seen := map[string]bool{}
	for i, row := range rows {
		m.Digests = m.Digests || row.Digest != ""
		m.States = m.States || row.State != "" && row.Problem == ""
		for key := range cells[i] {
			seen[key] = true
		}
	}
	m.Columns = slices.SortedFunc(maps.Keys(seen), ByPlatform)
	m.Columns = m.Columns[:min(len(m.Columns), maxColumns)]
	for i := range rows {
		row := &rows[i]
		for _, key := range m.Columns {
			cell := cells[i][key]
			if row.Unread && cell.Text == "" {
				cell.Text = "?"
			}
			row.Cells = append(row.Cells, cell)
		}
		more := 0
		for key := range cells[i] {
			if !slices.Contains(m.Columns, key) {
				more++
			}
		}
		if more > 0 {
			row.Notes = append(row.Notes, "and "+count(more, "more platform", "more platforms"))
		}
	}
	return m
}

// ByPlatform orders platforms given as text; texts that are no platforms are ordered as
// text, after the others.
func ByPlatform(a, b string) int {
	p, errA := platform.Parse(a)
	q, errB := platform.Parse(b)
	switch {
	case errA == nil && errB == nil:
		return platform.Compare(p, q)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// A View is what a page says about one reference.
type View struct {
	Name   string
	At     string           // as that of an [Inspected]
	Report *manifest.Report // nil if it could not be read
	// Subject is what the manifest refers to, if that is not nil.
	Subject    *v1.Hash
	Problems   []string
	Pull       []string // commands
	Detail     *manifest.Detail
	LayersName string
	Layers     []manifest.Layer
	History    []v1.History
}

// Referrers lists what refers to the manifest. In a file it also lists what refers to the
// images of an index, which have pages of their own on a server.
func (v View) Referrers() []Attached {
	var all []Attached
	add := func(of string, list []manifest.Attached) {
		list = slices.SortedStableFunc(slices.Values(list), func(a, b manifest.Attached) int { return strings.Compare(a.Kind, b.Kind) })
		for _, a := range list {
			all = append(all, Attached{a, of})
		}
	}
	if v.Report == nil {
		return nil
	}
	own := "this manifest"
	if v.Report.Index {
		own = "the index"
	}
	add(own, v.Report.Referrers)
	if v.Report.Index && v.At != "" {
		return all
	}
	for _, p := range v.Report.Platforms {
		of := p.Platform
		if of == "" {
			of = "(unknown)"
		}
		add(of, p.Referrers)
	}
	return all
}

// An Attached is a referrer, and what it refers to.
type Attached struct {
	manifest.Attached
	Of string
}

// A Report is the report of inspect.
type Report struct {
	Matrix Matrix
	Views  []View
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
