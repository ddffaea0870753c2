package layerfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/stream"
)

// BenchmarkLayer writes layers of a 24 MB and of a 96 MB program, one alone and five at
// once. It reports MB of program per second and allocations.
func BenchmarkLayer(b *testing.B) {
	for _, size := range []int{24 << 20, 96 << 20} {
		e := Inline("mabuild/program", 0o755, likeProgram(size))
		for _, atOnce := range []int{1, 5} {
			b.Run(fmt.Sprintf("%dMiB×%d", size>>20, atOnce), func(b *testing.B) { benchmarkLayer(b, e, atOnce) })
		}
	}
}

func benchmarkLayer(b *testing.B, e Entry, atOnce int) {
	w := newWriter(b, nil)
	b.SetBytes(e.Size * int64(atOnce))
	b.ReportAllocs()
	for b.Loop() {
		var group errgroup.Group
		for range atOnce {
			group.Go(func() error {
				_, err := w.write(io.Discard, []Entry{e})
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
	for _, c := range []compression{
		{"gzip", 1},
		{"gzip", 2},
		{"gzip", 3},
		{"gzip", 4},
		{"gzip", 5},
		{"gzip", 6},
		{"gzip", 7},
		{"gzip", 9},
		{"zstd", 1},
		{"zstd", 3},
		{"zstd", 6},
		{"zstd", 10},
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
				w, err := (&Writer{Format: c.Format, Level: c.Level}).compressor(count, int64(len(content)))
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
