package main

import (
	"fmt"
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
			end := 0
			for i := 1; i <= n; i++ {
				from, to := shard{i, n}.cut(length)
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
	if from, to := (shard{}).cut(7); from != 0 || to != 7 {
		t.Errorf("no shard does %d to %d", from, to)
	}
}
