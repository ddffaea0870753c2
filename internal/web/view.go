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

// A Subject is an image or index of a matrix: a report, or the reason that there is none.
type Subject struct {
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
	Columns []string
	Rows    []Row
}

// A Row is a row of a [Matrix].
type Row struct {
	Name           Link
	Digest         string
	Notes          []string
	State, Problem string
	Cells          []Cell
}

// A Cell is what an image has for a platform; the text is empty for nothing.
type Cell struct {
	Text, To string
	Notes    []string
}

// NewMatrix makes the matrix of images and their platforms. The columns are in the order
// of platforms. Platforms beyond maxColumns are counted in the notes of their rows.
func NewMatrix(head string, all []Subject) Matrix {
	m := Matrix{Head: head}
	cells := make([]map[string]Cell, len(all))
	seen := map[string]bool{}
	for i, s := range all {
		m.Digests = m.Digests || s.Digest != ""
		cells[i] = map[string]Cell{}
		if s.Report == nil {
			continue
		}
		for _, p := range s.Report.Platforms {
			key := p.Platform
			if key == "" {
				key = "(unknown)"
			}
			seen[key] = true
			if cell, twice := cells[i][key]; twice {
				if len(cell.Notes) == 0 {
					cell.Notes = []string{"and others"}
				}
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
	m.Columns = slices.SortedFunc(maps.Keys(seen), ByPlatform)
	shown := m.Columns[:min(len(m.Columns), maxColumns)]
	m.Columns = shown
	for i, s := range all {
		row := Row{Name: s.Name, Digest: s.Digest, State: s.State, Problem: s.Problem, Notes: slices.Clone(s.Notes)}
		for _, key := range shown {
			row.Cells = append(row.Cells, cells[i][key])
			delete(cells[i], key)
		}
		if n := len(cells[i]); n > 0 {
			row.Notes = append(row.Notes, "and "+count(n, "more platform", "more platforms"))
		}
		if s.Report != nil && s.Report.ArtifactType != "" && len(s.Report.Platforms) == 0 {
			row.Notes = append(row.Notes, "an artifact: "+s.Report.ArtifactType)
		}
		m.Rows = append(m.Rows, row)
	}
	if len(m.Columns) == 0 {
		m.Columns = []string{"Platforms"}
		for i := range m.Rows {
			m.Rows[i].Cells = []Cell{{}}
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
	At     string           // as that of a [Subject]
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
