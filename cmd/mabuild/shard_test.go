package main

import (
	"fmt"
	"slices"
	"testing"
)

// --shard takes its index from the variables of each CI, which count from 0 or 1.
func TestShard(t *testing.T) {
	for _, c := range []struct {
		text string
		of   int
		env  map[string]string
		want string
	}{
		{"", 0, nil, "{0 0}"},
		{"1/1", 0, nil, "{1 1}"},
		{"3/8", 0, nil, "{3 8}"},
		{"auto", 8, map[string]string{"JOB_COMPLETION_INDEX": "7"}, "{8 8}"},
		{"auto", 0, map[string]string{"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "4"}, "{1 4}"},
		{"auto", 0, map[string]string{"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, "{1 2}"},
		{"auto", 0, map[string]string{"CIRCLE_NODE_INDEX": "1", "CIRCLE_NODE_TOTAL": "2"}, "{2 2}"},
		{"auto", 3, map[string]string{"CI_NODE_INDEX": "3"}, "{3 3}"},
		{"auto", 0, map[string]string{"BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, "{2 2}"},
		{"auto", 0, map[string]string{"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1"}, "{1 1}"},
		{"auto", 0, map[string]string{"CI_NODE_INDEX": "1"}, "--shard auto: CI_NODE_INDEX is set, but the number of shards is not known"},
		{"auto", 0, map[string]string{"CI_NODE_INDEX": "x", "CI_NODE_TOTAL": "4"}, "--shard auto: CI_NODE_INDEX=x: must be I/N with I from 1 to N"},
		{"auto", 0, map[string]string{"CIRCLE_NODE_INDEX": "4", "CIRCLE_NODE_TOTAL": "4"}, "--shard auto: CIRCLE_NODE_INDEX=4: must be I/N with I from 1 to N"},
		{"", 2, nil, "--shards requires --shard auto"},
		{"0/2", 0, nil, "--shard 0/2: must be I/N with I from 1 to N"},
		{"3/2", 0, nil, "--shard 3/2: must be I/N with I from 1 to N"},
		{"x", 0, nil, "--shard x: must be I/N with I from 1 to N"},
		{"auto", 2, nil, "--shard auto: no variable has the index of this shard"},
		{"auto", 0, map[string]string{"JOB_COMPLETION_INDEX": "1"}, "--shard auto: JOB_COMPLETION_INDEX is set, but the number of shards is not known"},
		{"auto", 2, map[string]string{"JOB_COMPLETION_INDEX": "2"}, "--shard auto: JOB_COMPLETION_INDEX=2: must be I/N with I from 1 to N"},
	} {
		s, err := parseShard(c.text, c.of, func(name string) string { return c.env[name] })
		got := fmt.Sprint(s)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("--shard %q --shards %d with %v: %s, want %s", c.text, c.of, c.env, got, c.want)
		}
	}
}

// The parts of all shards are the whole, in order, and about equal.
func TestShardsAreTheWhole(t *testing.T) {
	for n := 1; n <= 9; n++ {
		for length := range 40 {
			equal := make([]float64, length)
			for i := range equal {
				equal[i] = -1
			}
			end := 0
			for i := 1; i <= n; i++ {
				from, to := shard{i, n}.cut(equal)
				if from != end || to-from < length/n || to-from > length/n+1 {
					t.Errorf("shard %d/%d of %d is %d to %d", i, n, length, from, to)
				}
				end = to
			}
			owners := 0
			for i := 1; i <= n; i++ {
				if !(shard{i, n}).skips(fmt.Sprint("registry.local/app", length)) {
					owners++
				}
			}
			if owners != 1 {
				t.Errorf("%d of %d shards have app%d", owners, n, length)
			}
			if end != length {
				t.Errorf("%d shards of %d end at %d", n, length, end)
			}
		}
	}
	if from, to := (shard{}).cut(make([]float64, 7)); from != 0 || to != 7 {
		t.Errorf("no shard does %d to %d", from, to)
	}
}

// A shard gets what takes about as long as what the others get, and each element is in one.
func TestShardsAreBalanced(t *testing.T) {
	for _, c := range []struct {
		weights []float64
		want    []int // ends
	}{
		{[]float64{3, 1, 1, 1}, []int{1, 4}},
		{[]float64{1, 1, 1, 3}, []int{3, 4}},
		{[]float64{10, 1, 1, -1, -1}, []int{1, 5}},
		{[]float64{0, 0, 0, 0}, []int{0, 4}},
		{[]float64{100, 1, 1}, []int{0, 1, 1, 3}},
		{[]float64{0, 5, 0, 5, 0}, []int{2, 5}},
		{nil, []int{0, 0}},
	} {
		var got []int
		begin := 0
		for i := range c.want {
			from, to := shard{i + 1, len(c.want)}.cut(c.weights)
			if from != begin {
				t.Errorf("%v: shard %d begins at %d, and the one before ends at %d", c.weights, i+1, from, begin)
			}
			got, begin = append(got, to), to
		}
		if begin != len(c.weights) || !slices.Equal(got, c.want) {
			t.Errorf("%v: the shards end at %v, want %v", c.weights, got, c.want)
		}
	}
}
