// Command imports draws docs/packages.svg: the packages of this repository,
// with a line from each to those that it imports. Run it in the root after a
// change of the imports. A test compares the picture with the code.
//
//	go run ./verify/imports
package main

import (
	"fmt"
	"os"
)

// picture is the file that it writes.
const picture = "docs/packages.svg"

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "imports: unexpected argument %q\n", os.Args[1])
		os.Exit(2)
	}
	g, err := read(".")
	if err == nil {
		err = os.WriteFile(picture, []byte(draw(g)), 0o666)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports:", err)
		os.Exit(1)
	}
}
