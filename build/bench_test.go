package build

import (
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkLayer writes layers of a 24 MB and of a 96 MB program, one alone and
// five at once: MB/s of program, and what is allocated.
func BenchmarkLayer(b *testing.B) {
	for _, size := range []int{24 << 20, 96 << 20} {
		e := inline("mabuild/program", 0o755, likeProgram(size))
		for _, atOnce := range []int{1, 5} {
			b.Run(fmt.Sprintf("%dMiB×%d", size>>20, atOnce), func(b *testing.B) { benchmarkLayer(b, e, atOnce) })
		}
	}
}

func benchmarkLayer(b *testing.B, e entry, atOnce int) {
	w := &layers{time: time.Unix(0, 0), compression: Compression{}.full(), alive: func() error { return nil }}
	b.SetBytes(e.size * int64(atOnce))
	b.ReportAllocs()
	for b.Loop() {
		var group errgroup.Group
		for range atOnce {
			group.Go(func() error {
				_, err := w.write(io.Discard, []entry{e})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}
