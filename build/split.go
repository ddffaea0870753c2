package build

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A layer of splitFrom bytes or more is compressed in blocks of splitBlock, each
// by itself, so that several cores can help. That depends on the size alone: the
// bytes are the same on one core and on sixty-four.
const (
	splitFrom  = 32 << 20
	splitBlock = 1 << 20
	splitReach = 32 << 10 // how far back deflate looks, into the block before
)

// splitters are the blocks that are compressed at this moment, of all layers:
// each takes 3 MiB of memory.
var splitters = make(chan struct{}, min(runtime.GOMAXPROCS(0), 8))

// Memory of blocks before and after, to be used again.
var (
	plainBlocks = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, splitReach+splitBlock)) }}
	smallBlocks = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// A split writes a gzip stream (RFC 1952) whose blocks are compressed side by
// side. It is one member, which any reader reads.
type split struct {
	dst    io.Writer
	level  int
	block  *bytes.Buffer // its first part is what the block before ended in
	prefix int
	crc    uint32
	size   uint32 // modulo 2^32, as the format has it
	blocks chan chan deflated
	done   chan error
	closed bool
}

// deflated is a compressed block.
type deflated struct {
	*bytes.Buffer
	err error
}

func newSplit(dst io.Writer, level int) (*split, error) {
	if _, err := dst.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}); err != nil { // deflate, no time, no system
		return nil, err
	}
	s := &split{
		dst: dst, level: level, block: block(nil),
		blocks: make(chan chan deflated, cap(splitters)), done: make(chan error, 1),
	}
	go s.collect()
	return s, nil
}

// block begins a block after another that ended in tail.
func block(tail []byte) *bytes.Buffer {
	b := plainBlocks.Get().(*bytes.Buffer)
	b.Reset()
	_, _ = b.Write(tail) // a buffer never fails
	return b
}

// collect writes the blocks in their order. After an error it takes the rest.
func (s *split) collect() {
	var failed error
	for block := range s.blocks {
		d := <-block
		if failed == nil {
			failed = d.err
		}
		if failed == nil {
			_, failed = s.dst.Write(d.Bytes())
		}
		smallBlocks.Put(d.Buffer)
	}
	s.done <- failed
}

func (s *split) Write(p []byte) (int, error) {
	total := len(p)
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	s.size += uint32(total) //nolint:gosec // modulo 2^32
	for len(p) > 0 {
		room := s.prefix + splitBlock - s.block.Len()
		if room == 0 {
			s.next(false)
			continue
		}
		n := min(len(p), room)
		_, _ = s.block.Write(p[:n]) // a buffer never fails
		p = p[n:]
	}
	return total, nil
}

// next has the block compressed and begins another.
func (s *split) next(last bool) {
	full, prefix, out := s.block, s.prefix, make(chan deflated, 1)
	content := full.Bytes()
	tail := content[max(0, len(content)-splitReach):]
	s.block, s.prefix = block(tail), len(tail)
	splitters <- struct{}{} // before it is queued: the first in a queue always has its place
	s.blocks <- out
	go func() {
		d := deflate(content[:prefix], content[prefix:], s.level, last)
		plainBlocks.Put(full)
		<-splitters
		out <- d
	}()
}

// deflate compresses a block that follows on dict. Its compressor is a new one:
// one that was used may find other matches.
func deflate(dict, block []byte, level int, last bool) deflated {
	d := deflated{Buffer: smallBlocks.Get().(*bytes.Buffer)}
	d.Reset()
	w, err := flate.NewWriterDict(d.Buffer, level, dict)
	if err != nil {
		d.err = err
		return d
	}
	_, d.err = w.Write(block)
	switch {
	case d.err != nil:
	case last:
		d.err = w.Close()
	default:
		d.err = w.Flush()
	}
	return d
}

// Close ends the stream, once.
func (s *split) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.next(true)
	close(s.blocks)
	if err := <-s.done; err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(nil, s.crc)
	_, err := s.dst.Write(binary.LittleEndian.AppendUint32(end, s.size))
	return err
}
