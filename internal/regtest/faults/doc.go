// Package faults has no code but tests: what may go wrong between a push and a
// registry, each at the first, the middle and the last request that it can strike,
// each followed by a clean run. After both the registry itself is asked whether
// the tag is old or new, and whole (docs/reliability.md).
package faults
