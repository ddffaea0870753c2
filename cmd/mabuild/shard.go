package main

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// A shard is the part of a run's work that this machine does: the I-th of N, I from 1. The
// zero shard does all.
type shard struct{ i, n int }

// bindShard adds the flags of commands whose work can be divided.
func bindShard(flags *pflag.FlagSet, text *string, of *int) {
	flags.StringVar(text, "shard", "", "Do only the part `I/N` of the work, I from 1; auto takes it from the variables of the CI")
	flags.IntVar(of, "shards", 0, "The number of shards, if --shard auto finds only the index: of a Kubernetes Job")
}

// shardVariables are the variables with the index and the number of shards. The index of the
// first shard is first.
var shardVariables = []struct {
	index, total string
	first        int
}{
	{"CI_NODE_INDEX", "CI_NODE_TOTAL", 1},
	{"BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0},
	{"CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0},
	{"JOB_COMPLETION_INDEX", "", 0},
}

// parseShard reads --shard. of is --shards.
func parseShard(text string, of int, getenv func(string) string) (shard, error) {
	if text == "" {
		if of != 0 {
			return shard{}, usage("add --shard auto", "--shards requires --shard auto")
		}
		return shard{}, nil
	}
	if text != "auto" {
		index, total, _ := strings.Cut(text, "/")
		return shardOf("--shard "+text, index, total, 1)
	}
	for _, v := range shardVariables {
		index := getenv(v.index)
		if index == "" {
			continue
		}
		total := strconv.Itoa(of)
		if of == 0 {
			if total = getenv(v.total); v.total == "" || total == "" {
				return shard{}, usage("add --shards N", "--shard auto: %s is set, but the number of shards is not known", v.index)
			}
		}
		return shardOf("--shard auto: "+v.index+"="+index, index, total, v.first)
	}
	return shard{}, usage("write --shard I/N", "--shard auto: no variable has the index of this shard")
}

// shardOf returns the shard with an index that is counted from first.
func shardOf(said, index, total string, first int) (shard, error) {
	i, err := strconv.Atoi(index)
	n, nerr := strconv.Atoi(total)
	if i += 1 - first; err != nil || nerr != nil || n < 1 || i < 1 || i > n {
		return shard{}, usage("for example --shard 1/4", "%s: must be I/N with I from 1 to N", said)
	}
	return shard{i, n}, nil
}

// skips reports whether a thing with this name belongs to another shard.
func (s shard) skips(name string) bool {
	if s.n == 0 {
		return false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))               // a hash never fails
	return int(h.Sum32()%uint32(s.n)) != s.i-1 //nolint:gosec // n is small
}

// cut returns the bounds of this shard's part of a list. The parts of all shards are the
// list, and have about the same sum of weights. An element without a weight counts as much as
// the average of those that have one.
func (s shard) cut(weights []float64) (from, to int) {
	if s.n == 0 {
		return 0, len(weights)
	}
	average, known := 0.0, 0
	for _, w := range weights {
		if w >= 0 {
			average, known = average+w, known+1
		}
	}
	if average /= float64(max(known, 1)); average == 0 {
		average = 1
	}
	total := 0.0
	ends := make([]float64, len(weights))
	for i, w := range weights {
		if w < 0 {
			w = average
		}
		total += w
		ends[i] = total - w/2 // an element belongs to where its middle is
	}
	bound := func(i int) int {
		if i == s.n {
			return len(weights)
		}
		at, _ := slices.BinarySearch(ends, total*float64(i)/float64(s.n))
		return at
	}
	return bound(s.i - 1), bound(s.i)
}
