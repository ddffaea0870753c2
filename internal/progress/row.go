package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// meterWidth is how many columns the drawn part of a row takes.
const meterWidth = 24

// A row is a platform at work:
//
//	linux/arm/v7  pushing   [=======>      ]  8.1/12.3 MB  4.0s
//
// Its lock is taken while the rows are drawn, so it is never held while
// something is handed to the bars.
type row struct {
	start time.Time
	bar   *mpb.Bar

	mu    sync.Mutex
	state string
	sent  map[string]progress // by digest
	text  string              // what is said in place of the bytes
}

// progress is how far one blob is.
type progress struct{ bytes, size int64 }

func (r *row) startStep(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
}

// count notes how many of all images are done, and how many bytes were sent.
func (r *row) count(done, all, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = fmt.Sprintf("%d/%d", done, all)
	r.sent = map[string]progress{"": {done, all}}
	r.text = fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// amount is how much was sent, as text.
func (r *row) amount() string {
	r.mu.Lock()
	text := r.text
	r.mu.Unlock()
	if text != "" {
		return text
	}
	return r.sum().String()
}

// transfer notes how far an upload is. A blob that is sent again starts again.
func (r *row) transfer(e *event) {
	if text(e.get("op")) != "upload" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent == nil {
		r.sent = map[string]progress{}
	}
	r.sent[text(e.get("digest"))] = progress{e.number("bytes"), e.number("size")}
}

// sum returns the bytes sent and those to be sent, as far as known.
func (r *row) sum() (total progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.sent {
		total.bytes += p.bytes
		total.size += max(p.size, p.bytes)
	}
	return total
}

func (r *row) stateText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// options lay the row out; the columns of all rows are equally wide.
func (r *row) options(name string) []mpb.BarOption {
	column := decor.WC{C: decor.DindentRight | decor.DextraSpace | decor.DSyncWidth}
	return []mpb.BarOption{
		mpb.PrependDecorators(
			decor.Name(name, column),
			decor.Any(func(decor.Statistics) string { return r.stateText() }, column),
		),
		mpb.AppendDecorators(
			decor.Any(func(decor.Statistics) string { return r.amount() }, column),
			decor.Any(func(decor.Statistics) string { return seconds(time.Since(r.start)) }),
		),
		mpb.BarWidth(meterWidth),
		mpb.BarFillerTrim(),
	}
}

// filler draws the meter once something is being sent.
func (r *row) filler() mpb.BarFiller {
	meter := mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("] ").Build()
	return mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		sum := r.sum()
		if sum.size == 0 {
			return nil
		}
		stat.Total, stat.Current = sum.size, sum.bytes
		return meter.Fill(w, stat)
	})
}

// String returns "8.1/12.3 MB", in millions of bytes as registries count them.
func (p progress) String() string {
	if p.size == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f/%.1f MB", float64(p.bytes)/1e6, float64(p.size)/1e6)
}
