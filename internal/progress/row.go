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

// A row shows one platform or image while it is processed:
//
//	linux/arm/v7  pushing   [=======>      ]  8.1/12.3 MB  4.0s
//
// mpb draws rows in another goroutine, which calls the decorators below, and these lock
// mu. So mu is never held during a call to mpb: such a call may wait for that goroutine,
// which would wait for mu. The terminal's lock is taken before mu, never after.
type row struct {
	start time.Time // set before the row is drawn, constant after
	bar   *mpb.Bar

	mu    sync.Mutex
	state string
	sent  map[string]progress // of each blob, by digest
	text  string              // shown instead of the bytes; used by the row of the whole run
}

// progress counts the bytes of one blob that were sent, and its size.
type progress struct{ bytes, size int64 }

// startStep sets the state that the row shows.
func (r *row) startStep(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
}

// count sets how many of all images are done, and how many bytes were sent. The meter
// shows images then, the text shows the bytes.
func (r *row) count(done, all, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = fmt.Sprintf("%d/%d", done, all)
	r.sent = map[string]progress{"": {done, all}}
	r.text = fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// amount returns the text beside the meter. It releases mu before it calls sum, which
// locks it again.
func (r *row) amount() string {
	r.mu.Lock()
	text := r.text
	r.mu.Unlock()
	if text != "" {
		return text
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent == nil {
		r.sent = map[string]progress{}
	}
	r.sent[text(e.get("digest"))] = progress{e.number("bytes"), e.number("size")}
}

// sum adds up all blobs of the row. A blob whose size is not known, or too small, counts
// with the bytes sent so far, so that the sum of bytes never exceeds the sum of sizes.
func (r *row) sum() (total progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.sent {
		total.bytes += p.bytes
		total.size += max(p.size, p.bytes)
	}
	return total
}

// stateText returns the state, for the goroutine that draws.
func (r *row) stateText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// options lay out the row. Its columns have the same width in all rows.
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

// filler draws the meter, or nothing as long as no upload has begun.
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

// String returns "8.1/12.3 MB", or "" if nothing is to be sent. A MB is a million bytes,
// as in registries' own displays.
func (p progress) String() string {
	if p.size == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f/%.1f MB", float64(p.bytes)/1e6, float64(p.size)/1e6)
}
