// Package recipes has parts to copy, one in each file. Each part is correct
// even in the last second of a program. The comment of a recipe states its
// purpose, the rule that makes it correct, and the outcome if its time runs
// out. docs/recipes.md shows the essential lines of each. The tests run them
// all.
//
// In all recipes q is the event of the program, quit.GetQuitEvent(), unless the
// comment says that it may be another one.
package recipes
