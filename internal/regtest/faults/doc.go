// Package faults has no code but tests: what may go wrong between a push and a
// registry, each at the first, the middle and the last request that it can strike,
// each followed by a clean run. Without MABUILD_FAULTS=whole, which CI has, each is
// struck at one of the three in turn. After both the registry itself is asked whether
// the tag is old or new, and whole (docs/reliability.md).
package faults
