package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mabuild/mabuild/internal/hint"
)

type typed struct{ text string }

func (typed) Error() string           { return "typed" }
func (t typed) Hint() string          { return t.text }
func (t typed) Is(target error) bool  { return target == hint.Registry }
func with(text string, e error) error { return &hint.Error{Err: e, Hint: text} }

// Of returns the outermost hint, of either form, in every branch of an error tree.
func TestOf(t *testing.T) {
	other := errors.New("other")
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{other, ""},
		{hint.New(hint.Usage, "a", "x"), "a"},
		{typed{"b"}, "b"},
		{with("a", typed{"b"}), "a"},
		{with("", typed{"b"}), "b"},
		{fmt.Errorf("x: %w", with("a", typed{"b"})), "a"},
		{fmt.Errorf("%w: %w", other, typed{"b"}), "b"},
		{errors.Join(typed{}, with("a", other), typed{"b"}), "a"},
	} {
		if got := hint.Of(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}

// An error without a hint gets one from the functions given to Of, layer by layer.
func TestOfWords(t *testing.T) {
	words := func(err error) string {
		if _, ok := err.(typed); ok { //nolint:errorlint // this layer
			return "word"
		}
		return ""
	}
	for want, err := range map[string]error{
		"word": fmt.Errorf("x: %w", typed{}),
		"own":  fmt.Errorf("x: %w", typed{"own"}),
		"out":  with("out", typed{}),
	} {
		if got := hint.Of(err, words); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// KindOf returns the kind with the highest priority in the error tree: content,
// credentials, usage, registry.
func TestKindOf(t *testing.T) {
	usage := hint.New(hint.Usage, "", "x")
	for _, test := range []struct {
		err  error
		want hint.Kind
	}{
		{errors.New("other"), hint.Build},
		{usage, hint.Usage},
		{fmt.Errorf("x: %w", usage), hint.Usage},
		{with("a", usage), hint.Usage},
		{typed{}, hint.Registry},
		{fmt.Errorf("%w, %w", typed{}, usage), hint.Usage},
		{&hint.Error{Kind: hint.Usage, Err: hint.New(hint.Content, "", "x")}, hint.Content},
		{errors.Join(usage, hint.New(hint.Credentials, "", "x")), hint.Credentials},
	} {
		if got := hint.KindOf(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}
