package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// meterWidth is how many columns the meter of a row takes, with its brackets.
const meterWidth = 24

// A row shows one platform or image while it is processed:
//
//	linux/arm/v7 pushing   [=======>              ] 8.1/12.3 MB 4.0s
//
// The terminal's lock guards it.
type row struct {
	name  string
	start time.Time
	state string
	sent  map[string]progress // of each blob, by digest
	text  string              // shown instead of the bytes; used by the row of the whole run
}

// progress counts the bytes of one blob that were sent, and its size.
type progress struct{ bytes, size int64 }

// count sets how many of all images are done, and how many bytes were sent. The meter
// shows images then, the text shows the bytes.
func (r *row) count(done, all, bytes int64) {
	r.state = fmt.Sprintf("%d/%d", done, all)
	r.sent = map[string]progress{"": {done, all}}
	r.text = fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// amount returns the text beside the meter.
func (r *row) amount() string {
	if r.text != "" {
		return r.text
	}
	return r.sum().String()
}

// transfer records the progress of an upload; other operations do not move the meter. If
// a blob is sent again after an error, its count starts again, so the meter may move
// back.
func (r *row) transfer(e *event) {
	if text(e.get("op")) != "upload" {
		return
	}
	if r.sent == nil {
		r.sent = map[string]progress{}
	}
	r.sent[text(e.get("digest"))] = progress{e.number("bytes"), e.number("size")}
}

// sum adds up all blobs of the row. A blob whose size is not known, or too small, counts
// with the bytes sent so far, so that the sum of bytes never exceeds the sum of sizes.
func (r *row) sum() (total progress) {
	for _, p := range r.sent {
		total.bytes += p.bytes
		total.size += max(p.size, p.bytes)
	}
	return total
}

// meter draws the share that was sent, or nothing as long as no upload has begun.
func (p progress) meter() string {
	if p.size <= 0 {
		return ""
	}
	const inside = meterWidth - 2
	full := int(float64(max(p.bytes, 0)) / float64(p.size) * inside)
	bar := strings.Repeat("=", min(full, inside))
	if full < inside {
		bar += ">"
	}
	return fmt.Sprintf("[%-*s]", inside, bar)
}

// String returns "8.1/12.3 MB", or "" if nothing is to be sent. A MB is a million bytes,
// as in registries' own displays.
func (p progress) String() string {
	if p.size == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f/%.1f MB", float64(p.bytes)/1e6, float64(p.size)/1e6)
}

// layOut returns a line for each row. A column has the same width in all rows, and none
// if it is empty in all of them.
func layOut(rows []*row, now time.Time) []string {
	cells := make([][]string, len(rows))
	var widths [4]int
	for i, r := range rows {
		cells[i] = []string{r.name, r.state, r.sum().meter(), r.amount()}
		for column, cell := range cells[i] {
			widths[column] = max(widths[column], runewidth.StringWidth(cell))
		}
	}
	lines := make([]string, len(rows))
	for i, r := range rows {
		for column, cell := range cells[i] {
			if widths[column] > 0 {
				lines[i] += runewidth.FillRight(cell, widths[column]) + " "
			}
		}
		lines[i] += seconds(now.Sub(r.start))
	}
	return lines
}
