//go:build !unix

package claim

// careful is empty: the flags of Unix systems have no counterpart here.
const careful = 0
