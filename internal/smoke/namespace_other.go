//go:build !linux

package smoke

import (
	"context"
	"errors"
)

// Child is for Linux.
func Child() {}

func probe(context.Context, string, bool) error { return errors.New("this is not Linux") }

func isolated(context.Context, command, bool, *output) (ending, error) {
	return ending{}, errors.New("this is not Linux")
}
