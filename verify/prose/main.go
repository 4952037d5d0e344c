// Command prose measures the comments of all Go files and the Markdown pages of
// a folder: their width, phrases that have plainer words, and how often the
// words "what" and "who" stand for a noun. It prints each finding with its file
// and line, and a table of the folders.
//
//	go run ./verify/prose                 # from the root: the repository
//	go run ./verify/prose quit README.md  # these alone
//	go run ./verify/prose -words quit     # each "what" and "who" as well
//
// The exit status is 1 if there is a finding, or if the words are too frequent.
//
// Lines of comments are 80 columns wide at most, lines of code 100, with a tab
// of 4 columns. Lines within a raw string and the expected output of an Example
// may be wider, and so may a line that cannot be broken. A paragraph of a page
// is one line, or its lines are 100 columns wide at most. Tables and code are
// not measured. A page that a command writes is measured like any other, and
// the finding names the command: the text is changed there.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	limits := defaults
	flag.IntVar(&limits.Comment, "comment", limits.Comment, "`columns` of a comment's line")
	flag.IntVar(&limits.Code, "code", limits.Code, "`columns` of a line of code")
	flag.IntVar(&limits.Page, "page", limits.Page, "`columns` of a line of Markdown")
	flag.IntVar(&limits.Tab, "tab", limits.Tab, "`columns` of a tab")
	flag.Float64Var(&limits.Rate, "rate", limits.Rate,
		`how often "what" and "who" may stand in 1,000 words`)
	words := flag.Bool("words", false, `print each "what" and "who" too`)
	table := flag.Bool("table", true, "print the table of the folders")
	flag.Parse()

	paths := flag.Args()
	if len(paths) == 0 {
		paths = []string{"."}
	}
	r := newResult(limits)
	for _, path := range paths {
		if err := r.measure(path); err != nil {
			fmt.Fprintln(os.Stderr, "prose:", err)
			os.Exit(2)
		}
	}
	r.sort()
	for _, f := range r.findings {
		if !f.word || *words {
			fmt.Println(f)
		}
	}
	if *table {
		fmt.Print(r.table())
	}
	if problems := r.problems(); len(problems) > 0 {
		if last := problems[len(problems)-1]; last.line == 0 {
			fmt.Println(last)
		}
		fmt.Println("findings:", len(problems))
		os.Exit(1)
	}
}
