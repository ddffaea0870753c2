package platform_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Parse normalizes every spelling.
func ExampleParse() {
	for _, text := range []string{"linux/x86_64", "Linux/ARM", "linux/arm64/v8", "windows(10.0.17763)/amd64"} {
		p, err := platform.Parse(text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(platform.Key(p))
	}
	_, err := platform.Parse("arm64")
	var parse *platform.ParseError
	if errors.As(err, &parse) {
		fmt.Println(parse.Hint())
	}
	// Output:
	// linux/amd64
	// linux/arm/v7
	// linux/arm64
	// windows/amd64:10.0.17763
	// write linux/arm64
}

// Choose returns the image to run: if none matches exactly, that with the highest variant
// that the platform supports.
func ExampleChoose() {
	have, err := platform.ParseList([]string{"linux/arm/v5,linux/arm/v6,linux/arm64"})
	if err != nil {
		log.Fatal(err)
	}
	want, err := platform.Parse("linux/arm/v7")
	if err != nil {
		log.Fatal(err)
	}
	at, ok := platform.Choose(want, have)
	fmt.Println(platform.Key(have[at]), ok)
	// Output: linux/arm/v6 true
}
