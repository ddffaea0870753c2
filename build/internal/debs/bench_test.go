//go:build unix

package debs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// Makes a layer for each architecture of the packages that MABUILD_DEBS, a directory, has, and
// compresses the same layers without anything else. docs/performance.md has the result.
func BenchmarkPackages(b *testing.B) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("MABUILD_DEBS"), "*.deb"))
	if err != nil || len(files) == 0 {
		b.Fatal("set MABUILD_DEBS to a directory with packages")
	}
	sets, paths := setsOf(b, files)
	var plain [][]byte
	b.Run("layers", func(b *testing.B) {
		var used float64
		defer func() { b.ReportMetric(used/float64(b.N), "cpu-s/op") }()
		for b.Loop() {
			start := cpu(b)
			plain = nil
			m := &Maker{Work: b.TempDir(), Download: func(_ context.Context, _, sum string) (string, error) { return paths[sum], nil }}
			w := &layerfile.Writer{Work: b.TempDir(), Format: "gzip", Level: 1, Alive: func() error { return nil }}
			layers := make([]v1.Layer, len(sets))
			done := make(chan error)
			for i, s := range sets {
				go func() {
					err := m.Unpack(b.Context(), s)
					if err == nil {
						layers[i], err = layerOf(w, s)
					}
					done <- err
				}()
			}
			for range sets {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			used += cpu(b) - start
			for _, l := range layers {
				r, err := l.Uncompressed()
				if err != nil {
					b.Fatal(err)
				}
				all, err := io.ReadAll(r)
				if err != nil {
					b.Fatal(err)
				}
				plain = append(plain, all)
			}
			b.StartTimer()
		}
	})
	b.Run("gzip alone", func(b *testing.B) {
		start := cpu(b)
		defer func() { b.ReportMetric((cpu(b)-start)/float64(b.N), "cpu-s/op") }()
		for b.Loop() {
			done := make(chan error)
			for _, content := range plain {
				go func() {
					w, err := gzip.NewWriterLevel(io.Discard, 1)
					if err == nil {
						_, err = io.Copy(w, bytes.NewReader(content))
					}
					done <- err
				}()
			}
			for range plain {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// cpu returns the seconds of processors that this process has used.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// setsOf returns a set for each architecture of packages, with those for all, and the files by
// sha256.
func setsOf(b *testing.B, files []string) ([]*Set, map[string]string) {
	b.Helper()
	paths, of, all := map[string]string{}, map[string]*Set{}, []Package{}
	var sets []*Set
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		sum := sha256.Sum256(content)
		p := Package{SHA256: hex.EncodeToString(sum[:])}
		paths[p.SHA256] = file
		if err := debian.Read(bytes.NewReader(content), func(d *debian.Deb) (err error) {
			p.Name, p.Version, p.Architecture, err = d.Name()
			return err
		}, nil); err != nil {
			b.Fatal(err)
		}
		if p.Architecture == "all" {
			all = append(all, p)
			continue
		}
		if of[p.Architecture] == nil {
			of[p.Architecture] = &Set{}
			sets = append(sets, of[p.Architecture])
		}
		of[p.Architecture].Packages = append(of[p.Architecture].Packages, p)
	}
	for architecture, s := range of {
		for _, p := range all {
			p.Architecture = architecture
			s.Packages = append(s.Packages, p)
		}
	}
	return sets, paths
}

// layerOf makes the layer of all files of a set, whatever it depends on.
func layerOf(w *layerfile.Writer, s *Set) (v1.Layer, error) {
	l := &layout{tree: &rootfs.Tree{}, links: map[string]string{}, owners: map[string]string{}, index: map[string]int{}}
	if err := l.readLinks(s.Packages, s.unpacked); err != nil {
		return nil, err
	}
	for i, u := range s.unpacked {
		if err := l.addPackage(s.Packages[i].Name, u); err != nil {
			return nil, err
		}
	}
	entries, err := placement.Complete(l.tree, l.entries)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, layerfile.ByName)
	return w.Layer(entries)
}
