// Command figures fits the model of docs/scale.md to what `.ci/bench … shards` has measured,
// writes its tables into that page, and draws its figure. It also draws the comparisons of
// docs/performance.md. It is a module of its own, so that no library for plotting is among the
// dependencies of mabuild.
//
//	figures scale.csv scale.svg scale.md
//	figures performance performance.csv performance.svg
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"image/color"
	"io"
	"log"
	"math"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A row is a line of the data: what a machine without caches has done.
type row struct {
	what                               string // one, row, warm, again or push
	shards, shard, programs, platforms int
	wall, cpu                          float64 // in seconds
}

// A model has the costs of the parts, in seconds.
type model struct {
	library float64 // CPU: the standard library for one platform
	program float64 // CPU: compile, link, compress and record one program for one platform
	lookup  float64 // wall: find one record, for warm
	publish float64 // wall: find one record and publish it, for the last push
	busy    float64 // cores of a machine that are used while it compiles
}

// warm returns the CPU time of a shard.
func (m model) warm(platforms int, pairs float64) float64 {
	return float64(platforms)*m.library + pairs*m.program
}

// touched returns the most platforms that a shard compiles for: its part is a run of the pairs,
// which are sorted by platform. It also returns the number of its pairs.
func touched(programs, platforms, shards, shard int) (int, int) {
	all := programs * platforms
	from, to := all*(shard-1)/shards, all*shard/shards
	if from == to {
		return 0, 0
	}
	return (to-1)/programs - from/programs + 1, to - from
}

// slowest returns the CPU time of the shard that takes longest.
func (m model) slowest(programs, platforms, shards int) float64 {
	longest := 0.0
	for i := 1; i <= shards; i++ {
		p, pairs := touched(programs, platforms, shards, i)
		longest = max(longest, m.warm(p, float64(pairs)))
	}
	return longest
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 4 && os.Args[1] == "performance" {
		if err := performance(os.Args[2], os.Args[3]); err != nil {
			log.Fatal(err)
		}
		return
	}
	if len(os.Args) != 4 {
		log.Fatal("usage: figures DATA.csv FIGURE.svg PAGE.md, or figures performance DATA.csv FIGURE.svg")
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	data, err := read(raw)
	if err != nil {
		log.Fatal(err)
	}
	m := fit(data)
	if err := figure(m, raw, os.Args[2]); err != nil {
		log.Fatal(err)
	}
	if err := write(os.Args[3], m, data, raw); err != nil {
		log.Fatal(err)
	}
}

// The marks between which the tables are in the page. The second one has the digests of the data
// and of the tables, which a test compares.
const (
	begin = "<!-- make figures writes what follows -->\n"
	end   = "<!-- %x %x -->\n"
)

// write replaces the tables of a page.
func write(file string, m model, data []row, raw []byte) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, old, ok := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(old, "\n<!-- ")
	_, after, closed := strings.Cut(after, " -->\n")
	if !ok || !ended || !closed {
		return fmt.Errorf("%s has no place for the tables", file)
	}
	var tables bytes.Buffer
	report(&tables, m, data)
	text := before + begin + tables.String() + fmt.Sprintf(end, sha256.Sum256(raw), sha256.Sum256(tables.Bytes())) + after
	return os.WriteFile(file, []byte(text), 0o644)
}

// read reads the data.
func read(raw []byte) (list []row, err error) {
	lines, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, l := range lines[1:] {
		r := row{what: l[0]}
		for i, to := range []*int{&r.shards, &r.shard, &r.programs, &r.platforms} {
			if *to, err = strconv.Atoi(l[i+1]); err != nil {
				return nil, err
			}
		}
		for i, to := range []*float64{&r.wall, &r.cpu} {
			if *to, err = strconv.ParseFloat(l[i+5], 64); err != nil {
				return nil, err
			}
		}
		list = append(list, r)
	}
	return list, nil
}

// fit finds the costs. Those of compiling come from single machines for one platform, so the
// shards are predicted and not fitted.
func fit(data []row) (m model) {
	var one, many row
	cpu, wall, again, push, n := 0.0, 0.0, 0.0, 0.0, 0.0
	for _, r := range data {
		pairs := float64(r.programs * r.platforms)
		switch r.what {
		case "one":
			one = r
		case "row":
			many = r
		case "warm":
			cpu, wall = cpu+r.cpu, wall+r.wall
		case "again":
			again, n = again+r.wall/pairs, n+1
		case "push":
			push += r.wall / pairs
		}
	}
	m.program = (many.cpu - one.cpu) / float64(many.programs-one.programs)
	m.library = one.cpu - m.program
	m.lookup, m.publish, m.busy = again/n, push/n, cpu/wall
	return m
}

// report writes the costs, the comparison with what was measured, and what follows from them.
func report(w io.Writer, m model, data []row) {
	fmt.Fprintf(w, "| cost | |\n|---|---|\n")
	fmt.Fprintf(w, "| standard library for one platform | %.1f s CPU |\n", m.library)
	fmt.Fprintf(w, "| one program for one platform: compile, link, compress, record | %.2f s CPU |\n", m.program)
	fmt.Fprintf(w, "| find one record, in `warm` | %.0f ms |\n", m.lookup*1000)
	fmt.Fprintf(w, "| find one record and publish the program, in the last push | %.0f ms |\n", m.publish*1000)
	fmt.Fprintf(w, "| busy cores of a machine while it compiles | %.1f |\n\n", m.busy)
	fmt.Fprintf(w, "| machines | shard | platforms, programs | CPU measured | model | difference |\n|---|---|---|---|---|---|\n")
	for _, r := range data {
		if r.what != "warm" {
			continue
		}
		p, pairs := touched(r.programs, r.platforms, r.shards, r.shard)
		want := m.warm(p, float64(pairs))
		fmt.Fprintf(w, "| %d | %d | %d, %d | %.1f s | %.1f s | %+.0f %% |\n", r.shards, r.shard, p, pairs, r.cpu, want, (want/r.cpu-1)*100)
	}
	fmt.Fprintf(w, "\n1,000 programs for 10 platforms, all compiled:\n\n")
	fmt.Fprintf(w, "| machines | slowest shard | last push | together | CPU of all |\n|---|---|---|---|---|\n")
	for _, n := range []int{1, 2, 4, 8, 10, 16, 32, 64, 100, 256, 1000} {
		shard, push := m.at(n)
		all := 0.0
		for i := 1; i <= n; i++ {
			p, pairs := touched(programs, platforms, n, i)
			all += m.warm(p, float64(pairs))
		}
		fmt.Fprintf(w, "| %d | %.1f min | %.1f min | %.1f min | %.0f min |\n", n, shard/60, push/60, (shard+push)/60, all/60)
	}
}

// The programs and platforms of the figure.
const programs, platforms = 1000, 10

// at returns the wall time of the slowest of n shards, and of the last push.
func (m model) at(n int) (shard, push float64) {
	return m.slowest(programs, platforms, n) / m.busy, programs * platforms * m.publish
}

// figure draws the times for 1 to 1,000 machines.
func figure(m model, data []byte, file string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = "1,000 programs × 10 platforms, all compiled"
	p.X.Label.Text, p.Y.Label.Text = "machines", "minutes"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{}
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{}
	p.X.Min, p.X.Max = 1, 1000
	p.Legend.Top = true
	lines := []struct {
		name  string
		color color.RGBA
		at    func(n int) float64
	}{
		{"together", color.RGBA{0x1b, 0x1b, 0x1b, 0xff}, func(n int) float64 { s, p := m.at(n); return s + p }},
		{"slowest shard", color.RGBA{0x1f, 0x77, 0xb4, 0xff}, func(n int) float64 { s, _ := m.at(n); return s }},
		{"last push", color.RGBA{0xd6, 0x27, 0x28, 0xff}, func(n int) float64 { _, p := m.at(n); return p }},
		{"standard library for one platform", color.RGBA{0x2c, 0xa0, 0x2c, 0xff}, func(int) float64 { return m.library / m.busy }},
	}
	for _, l := range lines {
		var points plotter.XYs
		last := 0
		for x := 0.0; x <= 3.0001; x += 0.02 {
			n := int(math.Round(math.Pow(10, x)))
			if n == last {
				continue
			}
			last = n
			points = append(points, plotter.XY{X: float64(n), Y: l.at(n) / 60})
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = l.color, vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(l.name, line)
	}
	p.Add(plotter.NewGrid())
	canvas := vgsvg.NewWith(vgsvg.UseWH(16*vg.Centimeter, 10*vg.Centimeter))
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// Few machines have the font, and others are as wide.
	drawing := bytes.TrimSpace(bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")))
	text := fmt.Appendf(drawing, "\n<!-- %x -->\n", sha256.Sum256(data)) // a test compares it
	return os.WriteFile(file, text, 0o644)
}
