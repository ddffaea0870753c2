package build

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/stream"
)

// BenchmarkLayer writes layers of a 24 MB and of a 96 MB program, one alone and five at
// once. It reports MB of program per second and allocations.
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

// BenchmarkCompression compresses a program at each level and reports the time and the
// compressed size. The program is the file that MABUILD_PROGRAM names, or this test's
// binary.
func BenchmarkCompression(b *testing.B) {
	file := os.Getenv("MABUILD_PROGRAM")
	if file == "" {
		var err error
		if file, err = os.Executable(); err != nil {
			b.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []Compression{
		{Gzip, 1},
		{Gzip, 2},
		{Gzip, 3},
		{Gzip, 4},
		{Gzip, 5},
		{Gzip, 6},
		{Gzip, 7},
		{Gzip, 9},
		{Zstd, 1},
		{Zstd, 3},
		{Zstd, 6},
		{Zstd, 10},
	} {
		b.Run(fmt.Sprintf("%s:%d", c.Format, c.Level), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			var written int64
			count := stream.Writer(func(p []byte) (int, error) {
				written += int64(len(p))
				return len(p), nil
			})
			for b.Loop() {
				written = 0
				w, err := c.writer(count, int64(len(content)))
				if err == nil {
					_, err = w.Write(content)
					err = errors.Join(err, w.Close())
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if written == 0 || written >= int64(len(content)) {
				b.Fatalf("%d bytes become %d", len(content), written)
			}
			b.ReportMetric(float64(written)/1e6, "MB")
			b.ReportMetric(float64(b.Elapsed().Seconds())/float64(b.N)+float64(written)*8/100e6, "s-at-100Mbit/s")
		})
	}
}

// The memory that writing a layer allocates does not grow with the size of the layer.
func TestLayersAllocateTheSameWhateverTheirSize(t *testing.T) {
	w := &layers{time: time.Unix(0, 0), compression: Compression{}.full(), alive: func() error { return nil }}
	for _, size := range []int{1 << 20, 16 << 20} {
		entries := []entry{inline("mabuild/program", 0o755, likeProgram(size))}
		write := func() {
			if _, err := w.write(io.Discard, entries); err != nil {
				t.Fatal(err)
			}
		}
		write()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		write()
		runtime.ReadMemStats(&after)
		if n, bytes := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc; n > 100 || bytes > 3<<19 {
			t.Errorf("a layer of %d MiB allocates %d times, %d bytes", size>>20, n, bytes)
		}
	}
}
