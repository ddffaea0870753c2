package build

import (
	"bytes"
	"io"
	"math/rand"
	"testing"
	"time"
)

// BenchmarkLayer writes a layer of a 24 MB program: MB/s of the program, and
// what is allocated, which does not grow with it.
func BenchmarkLayer(b *testing.B) {
	// As compressible as a Go program: random bytes and repetitions of them.
	rnd := rand.New(rand.NewSource(1))
	content := make([]byte, 24<<20)
	for i := 0; i < len(content); {
		chunk := content[i:min(i+rnd.Intn(64)+4, len(content))]
		if i > 4096 && rnd.Intn(5) < 3 {
			copy(chunk, content[i-4096+rnd.Intn(1024):])
		} else {
			rnd.Read(chunk)
		}
		i += len(chunk)
	}
	e := inline("mabuild/program", 0o755, nil)
	e.size = int64(len(content))
	e.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	w := &layers{time: time.Unix(0, 0), alive: func() error { return nil }}
	b.SetBytes(e.size)
	b.ReportAllocs()
	for b.Loop() {
		r, err := w.write(io.Discard, []entry{e})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(r.Size)/float64(e.size), "ratio")
	}
}
