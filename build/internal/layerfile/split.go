package layerfile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A layer of splitFrom bytes or more is compressed in blocks of splitBlock bytes, several
// at the same time. The choice depends only on the size of the layer, never on the number
// of cores, so the output is the same on every machine.
const (
	splitFrom  = 32 << 20
	splitBlock = 1 << 20
	splitReach = 32 << 10 // the window of deflate, which reaches into the block before
)

// splitters limits the blocks that are compressed at the same time, over all layers. A
// block takes about 3 MiB of memory.
var splitters = make(chan struct{}, min(runtime.GOMAXPROCS(0), 8))

// The buffers of plain and compressed blocks, for reuse.
var (
	plainBlocks = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, splitReach+splitBlock)) }}
	smallBlocks = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// A split writes a gzip stream (RFC 1952) and compresses its blocks in parallel. The
// stream is one member, so every decompressor can read it. Each block except the last
// ends with a flush to a byte boundary (RFC 1951, section 3.2.4), so blocks can be
// concatenated.
//
// Write, next and Close are called by one goroutine. The goroutine collect writes the
// blocks to dst in their order. Close must be called, also after an error, or collect
// never ends.
type split struct {
	dst    io.Writer
	level  int
	block  *bytes.Buffer // the block that is filled, after the end of the block before
	prefix int           // length of what the block before has added
	crc    uint32        // of the uncompressed data
	size   uint32        // of the uncompressed data, modulo 2^32 (RFC 1952, ISIZE)
	done   chan error    // gets the result of collect
	closed bool

	// blocks has a function for each block, in the order of the stream. It waits for the
	// compressed block and returns it. The buffer belongs to the caller.
	blocks chan func() (*bytes.Buffer, error)
}

// newSplit writes the header of the stream to dst and starts collect. The header has no
// time and no operating system, so that it is always the same.
func newSplit(dst io.Writer, level int) (*split, error) {
	if _, err := dst.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}); err != nil {
		return nil, err
	}
	s := &split{
		dst: dst, level: level, block: block(nil),
		blocks: make(chan func() (*bytes.Buffer, error), cap(splitters)), done: make(chan error, 1),
	}
	go s.collect()
	return s, nil
}

// block returns the buffer of a new block that begins with tail, the end of the block
// before it.
func block(tail []byte) *bytes.Buffer {
	b := plainBlocks.Get().(*bytes.Buffer)
	b.Reset()
	_, _ = b.Write(tail) // a buffer never fails
	return b
}

// collect writes the blocks in their order. After an error it still receives the
// remaining blocks, so that next never blocks for ever. Write does not see this error;
// Close returns it.
func (s *split) collect() {
	var failed error
	for block := range s.blocks {
		small, err := block()
		if failed == nil {
			failed = err
		}
		if failed == nil {
			_, failed = s.dst.Write(small.Bytes())
		}
		smallBlocks.Put(small)
	}
	s.done <- failed
}

// Write always accepts all of p. An error of dst is returned by Close.
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

// next starts the compression of the block and begins another one. It takes a permit of
// splitters before it queues the block. So the block that collect waits for always has a
// permit, and several splits cannot block each other.
func (s *split) next(last bool) {
	full, prefix := s.block, s.prefix
	content := full.Bytes()
	tail := content[max(0, len(content)-splitReach):]
	s.block, s.prefix = block(tail), len(tail)
	splitters <- struct{}{}
	var small *bytes.Buffer
	var err error
	done := make(chan struct{})
	s.blocks <- func() (*bytes.Buffer, error) {
		<-done
		return small, err
	}
	go func() {
		small, err = deflate(content[:prefix], content[prefix:], s.level, last)
		plainBlocks.Put(full)
		<-splitters
		close(done)
	}()
}

// deflate compresses a block with dict as the data before it. It uses a new compressor
// each time: one that is reused may find other matches, and the output would depend on
// the order of the blocks.
func deflate(dict, block []byte, level int, last bool) (*bytes.Buffer, error) {
	small := smallBlocks.Get().(*bytes.Buffer)
	small.Reset()
	w, err := flate.NewWriterDict(small, level, dict)
	if err != nil {
		return small, err
	}
	if _, err := w.Write(block); err != nil {
		return small, err
	}
	if last {
		return small, w.Close()
	}
	return small, w.Flush()
}

// Close compresses the last block, waits until all blocks are written, and writes the
// checksum and the size. A second call does nothing.
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
