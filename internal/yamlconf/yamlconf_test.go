package yamlconf

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// settings has one key of each shape. A new key is one field here.
type settings struct {
	Name  string            `yaml:"name" doc:"Name of the thing." example:"thing"`
	Count int               `yaml:"count" doc:"How many." default:"3" letter:"c"`
	Wait  Duration          `yaml:"wait" doc:"How long." example:"5m"`
	Items []string          `yaml:"item_list" doc:"Add KEY=VALUE." flag:"item" check:"keyvalue" single:"true" example:"[a=b]"`
	Base  map[string]string `yaml:"base" doc:"Text for all colours or for one." check:"by-colour" default:"plain"`
	Place struct {
		Dir string `yaml:"dir" doc:"Directory." check:"path" flag:"place" alias:"where" example:"x"`
	} `yaml:"place" doc:"Where."`
	Secret string `yaml:"secret" trust:"people" doc:"Only people set it." example:"y"`
	Boxes  []struct {
		Size int `yaml:"size" doc:"Size." example:"1" flag:"-"`
	} `yaml:"boxes" doc:"Boxes." flag:"-"`
}

var described = Describe[settings]("TEST_", map[string]Check{
	"by-colour": {
		Key: func(s string) (string, error) {
			if s != "red" && s != "Red" {
				return "", errors.New("must be red")
			}
			return "red", nil
		},
		Rest: "other", Pattern: "^[Rr]ed$", Usage: "; `TEXT` or COLOUR=TEXT",
		Split: func(s string) []string { return strings.Split(s, ",") },
		Pair: func(item string) (string, string) {
			if key, text, single := strings.Cut(item, "="); single {
				return key, text
			}
			return "other", item
		},
	},
})

// each key, with a value in the file, a text for its flag and variable, and what the view
// shows of it.
var values = []struct{ path, file, flag, text, shown string }{
	{"name", "name: a", "name", "b", "name: b"},
	{"count", "count: 1", "count", "2", "count: 2"},
	{"wait", "wait: 1h", "wait", "90s", "wait: 1m30s"},
	{"item_list", "item_list: [a=b]", "item", "c=d,e=f", "item_list: [c=d, e=f]"},
	{"base", "base: {Red: x}", "base", "red=w,z", "base: {other: z, red: w}"},
	{"place.dir", "place: {dir: d}", "place", "e", "place:\n  dir: e"},
	{"secret", "secret: s", "secret", "t", "secret: t"},
}

// A key that has a field is known to the decoder, the schema, the initial file, the view,
// the flags and the variables.
func TestOneFieldIsEnough(t *testing.T) {
	schema, err := described.Schema("test", "Test.")
	if err != nil || !json.Valid(schema) {
		t.Fatal(err)
	}
	initial := string(described.Initial("# Head."))
	covered := map[string]bool{"boxes": true}
	for _, v := range values {
		covered[v.path] = true
		value, lines, problems := described.Decode("f", []byte("# one\n"+v.file+"\n"))
		if len(problems) > 0 || lines[v.path] != 2 || reflect.ValueOf(*value).IsZero() {
			t.Errorf("%s: %+v in lines %v, %v", v.file, value, lines, problems)
		}
		key := v.path[strings.LastIndex(v.path, ".")+1:]
		if !strings.Contains(string(schema), `"`+key+`": {`) {
			t.Errorf("the schema lacks %s", key)
		}
		if has := strings.Contains(initial, key+": "); has == (key == "secret") {
			t.Errorf("the initial file has %s: %v\n%s", key, has, initial)
		}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		described.Bind(flags, func(string) bool { return true })
		if err := flags.Parse([]string{"--" + v.flag + "=" + v.text}); err != nil {
			t.Errorf("%s: %v", v.path, err)
			continue
		}
		byFlag, err := described.Given(flags)
		variable := "TEST_" + strings.ToUpper(v.flag)
		inEnv, envErr := described.Environment(func(name string) (string, bool) { return v.text, name == variable })
		if err := errors.Join(err, envErr); err != nil || !reflect.DeepEqual(byFlag[v.path].Value, inEnv[v.path].Value) {
			t.Errorf("%s: %v by flag, %v in %s, %v", v.path, byFlag, inEnv, variable, err)
		}
		merged, origins := &settings{}, map[string]Origin{}
		described.Merge(Sources{FromDefault: described.Defaults(), FromFlag: byFlag}, merged, origins, "")
		view, err := described.View(merged, origins, func(string) string { return "" })
		if err != nil || !strings.Contains(string(view), v.shown+" # flag --"+v.flag) {
			t.Errorf("%s: %v\n%s", v.path, err, view)
		}
	}
	for path := range described.Keys() {
		if path, _, _ = strings.Cut(path, "[]"); !covered[path] {
			t.Errorf("%s is not tried", path)
		}
	}
}

// A stronger source replaces a value, and the origin tells which one. Of a text that
// differs by key, it replaces only those of its keys.
func TestMerge(t *testing.T) {
	value, lines, _ := described.Decode("f", []byte("name: a\nbase: {red: x}\ncount: 0\n"))
	file := described.Layer(value, func(path string) (Origin, bool) {
		return Origin{FromFile, "f", lines[path]}, lines[path] > 0
	})
	env, err := described.Environment(func(name string) (string, bool) { return "b", name == "TEST_NAME" || name == "TEST_BASE" })
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		s    Sources
		name string
		base map[string]string
		from string
	}{
		{Sources{FromDefault: described.Defaults(), FromFile: file}, "a", map[string]string{"other": "plain", "red": "x"}, "f:1"},
		{Sources{FromFile: file, FromEnv: env}, "b", map[string]string{"other": "b"}, "env TEST_NAME"},
		{Sources{FromUser: env, FromFile: file}, "a", map[string]string{"other": "b", "red": "x"}, "f:1"},
	} {
		out, origins := &settings{}, map[string]Origin{}
		described.Merge(test.s, out, origins, "x.")
		if out.Name != test.name || !reflect.DeepEqual(out.Base, test.base) || origins["x.name"].String() != test.from || out.Count != 0 {
			t.Errorf("%+v, %v, want %+v", out, origins, test)
		}
	}
}

// The names of a variable are those of key, flag and alias. If they contradict each other,
// none holds.
func TestVariables(t *testing.T) {
	want := "TEST_NAME TEST_COUNT TEST_WAIT TEST_ITEM_LIST TEST_ITEM TEST_BASE TEST_PLACE_DIR TEST_PLACE TEST_WHERE TEST_SECRET"
	if got := strings.Join(described.Variables(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err := described.Environment(func(name string) (string, bool) { return name, name == "TEST_PLACE" || name == "TEST_WHERE" })
	if err == nil || err.Error() != "env TEST_WHERE: contradicts TEST_PLACE, which is the same setting" {
		t.Error(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	described.Bind(flags, func(string) bool { return true })
	if err := flags.Parse([]string{"--where=a", "-c", "4"}); err != nil {
		t.Fatal(err)
	}
	if given, err := described.Given(flags); err != nil || given["place.dir"].Value != "a" || given["count"].Value != 4 {
		t.Errorf("%v, %v", given, err)
	}
}

// Each visits what the file has, and nothing else.
func TestEach(t *testing.T) {
	value, lines, _ := described.Decode("f", []byte("name: a\nbase: {red: x, other: y}\nboxes: [{size: 1}, {size: 0}]\nplace: {dir: d}\n"))
	described.Anchor(value, "sub")
	var got []string
	described.Each(value, lines, func(f *Field, list []string, prefix, _ string) {
		got = append(got, prefix+f.Path+"="+strings.Join(list, "+"))
	})
	if want := "name=a base=y+x place.dir=sub/d boxes[0].size=1 boxes[1].size=0"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A mistake in the tags of a type is found when it is first used.
func TestDescribePanics(t *testing.T) {
	for name, describe := range map[string]func(){
		"check": func() {
			Describe[struct {
				A string `yaml:"a" doc:"A." check:"none"`
			}]("", nil).Leaves()
		},
		"doc": func() {
			Describe[struct {
				A string `yaml:"a"`
			}]("", nil).Leaves()
		},
		"type": func() {
			Describe[struct {
				A float64 `yaml:"a" doc:"A."`
			}]("", nil).Leaves()
		},
		"default": func() {
			Describe[struct {
				A int `yaml:"a" doc:"A." default:"x"`
			}]("", nil).Defaults()
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for a wrong %s", name)
				}
			}()
			describe()
		}()
	}
}
