package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"image/color"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A comparison is a row of docs/performance.csv: a push, and its time and CPU time as shares of
// those of another program.
type comparison struct {
	push, seconds, against string
	time, cpu              float64
}

// comparisons reads the data. It leaves out pushes that are compared with nothing.
func comparisons(raw []byte) (list []comparison, err error) {
	lines, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, l := range lines[1:] {
		if l[2] == "" {
			continue
		}
		c := comparison{push: l[0], seconds: l[1], against: l[2]}
		if c.time, err = strconv.ParseFloat(l[3], 64); err != nil {
			return nil, err
		}
		if c.cpu, err = strconv.ParseFloat(l[4], 64); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// The colours of the figure, and what replaces them on a dark page.
var (
	paper = color.RGBA{0xff, 0xff, 0xff, 0xff}
	ink   = color.RGBA{0x1f, 0x23, 0x28, 0xff}
	quiet = color.RGBA{0x65, 0x6d, 0x76, 0xff}
	rule  = color.RGBA{0xd8, 0xde, 0xe4, 0xff}
	first = color.RGBA{0x09, 0x69, 0xda, 0xff}
	other = color.RGBA{0x9e, 0xc8, 0xf7, 0xff}
	dark  = map[color.RGBA]string{paper: "#0d1117", ink: "#e6edf3", quiet: "#8d96a0", rule: "#30363d", first: "#58a6ff", other: "#1f4a80"}
)

// bars draws each value as a horizontal bar with a label, which is in the bar if there is room.
type bars struct {
	at     plotter.XYs // the middle of the edge of each
	height float64
	color  color.Color
	label  color.Color // of a label in the bar
	style  draw.TextStyle
}

func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, at := range b.at {
		from, to := vg.Point{X: x(0), Y: y(at.Y - b.height/2)}, vg.Point{X: x(at.X), Y: y(at.Y + b.height/2)}
		c.FillPolygon(b.color, []vg.Point{from, {X: to.X, Y: from.Y}, to, {X: from.X, Y: to.Y}})
		style, label := b.style, vg.Point{X: to.X + vg.Points(4), Y: y(at.Y)}
		if at.X > 0.2 {
			style.Color, style.XAlign, label.X = b.label, draw.XRight, to.X-vg.Points(5)
		}
		c.FillText(style, label, strconv.FormatFloat(at.X, 'f', 2, 64))
	}
}

// Thumbnail draws the sign of the legend.
func (b bars) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(b.color, []vg.Point{{X: c.Min.X, Y: c.Min.Y}, {X: c.Max.X, Y: c.Min.Y}, {X: c.Max.X, Y: c.Max.Y}, {X: c.Min.X, Y: c.Max.Y}})
}

// performance draws the comparisons, one group for each push.
func performance(data, file string) error {
	raw, err := os.ReadFile(data)
	if err != nil {
		return err
	}
	list, err := comparisons(raw)
	if err != nil {
		return err
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.BackgroundColor = paper
	p.Title.Text = "mabuild as a share of other programs: less is better"
	p.Title.TextStyle.Color, p.Title.TextStyle.Font.Size, p.Title.Padding = ink, vg.Points(13), vg.Points(10)
	style := draw.TextStyle{Color: quiet, Font: font.From(plot.DefaultFont, vg.Points(9)), YAlign: draw.YCenter, Handler: text.Plain{Fonts: font.DefaultCache}}
	heading := style
	heading.Color, heading.Font.Size = ink, vg.Points(11)

	time, cpu := bars{height: 0.38, color: first, label: paper, style: style}, bars{height: 0.38, color: other, label: ink, style: style}
	var ticks plot.ConstantTicks
	var heads plotter.XYLabels
	y, push := 0.0, ""
	for _, c := range list {
		if c.push != push {
			push, y = c.push, y-0.4
			heads.XYs = append(heads.XYs, plotter.XY{X: 0, Y: y})
			heads.Labels = append(heads.Labels, c.push+", "+c.seconds+" s")
			y--
		}
		ticks = append(ticks, plot.Tick{Value: y, Label: c.against + "    "}) // fonts differ in width
		time.at = append(time.at, plotter.XY{X: c.time, Y: y + 0.19})
		cpu.at = append(cpu.at, plotter.XY{X: c.cpu, Y: y - 0.19})
		y--
	}
	labels, err := plotter.NewLabels(heads)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i] = heading
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1.3, y+0.3, 0.2
	same := plotter.XYs{{X: 1, Y: p.Y.Min}, {X: 1, Y: p.Y.Max}}
	line, err := plotter.NewLine(same)
	if err != nil {
		return err
	}
	line.Color, line.Dashes = quiet, []vg.Length{vg.Points(3), vg.Points(3)}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = rule, nil
	p.Add(grid, line, time, cpu, labels)
	p.Legend.Add("time  ", time)
	p.Legend.Add("CPU time  ", cpu)
	p.Legend.Padding, p.Legend.YOffs = vg.Points(5), vg.Points(10)
	p.Legend.Top, p.Legend.TextStyle.Color, p.Legend.TextStyle.Font.Size, p.Legend.ThumbnailWidth = false, ink, vg.Points(10), vg.Points(14)
	p.X.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 0.25, Label: "0.25"}, {Value: 0.5, Label: "0.5"}, {Value: 0.75, Label: "0.75"}, {Value: 1, Label: "1, the same"}}
	p.Y.Tick.Marker = ticks
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color, axis.Tick.Label.Color, axis.Tick.Label.Font.Size = rule, rule, ink, vg.Points(10)
	}
	p.X.Tick.Label.Color, p.Y.Tick.LineStyle.Width, p.Y.LineStyle.Color = quiet, 0, quiet
	p.X.Padding, p.Y.Padding, p.X.Tick.Length = 0, 0, vg.Points(6)

	canvas := vgsvg.NewWith(vgsvg.UseWH(18*vg.Centimeter, 12.5*vg.Centimeter))
	page := draw.New(canvas)
	p.Draw(draw.Crop(page, vg.Points(12), -vg.Points(12), vg.Points(10), -vg.Points(10)))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(file, svg(b.String(), raw), 0o644)
}

// svg gives a drawing a page, fonts that other machines have, the colours of a dark page, and the
// digest of its data, which a test compares.
func svg(drawing string, data []byte) []byte {
	drawing = strings.ReplaceAll(drawing, "font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif")
	style := "<style>@media (prefers-color-scheme: dark) {\n"
	for _, c := range []color.RGBA{paper, ink, quiet, rule, first, other} {
		for _, of := range []string{"fill", "stroke"} {
			style += fmt.Sprintf("[style*=\"%s:#%02X%02X%02X\"] { %s: %s !important }\n", of, c.R, c.G, c.B, of, dark[c])
		}
	}
	style += "}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:#FFFFFF\" />\n"
	at := strings.Index(drawing, "<g")
	return fmt.Appendf(nil, "%s%s%s\n<!-- %x -->\n", drawing[:at], style, strings.TrimSpace(drawing[at:]), sha256.Sum256(data))
}
