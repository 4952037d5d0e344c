// Package recipes is there to be copied from: a file a recipe, each of which
// is right in the last second too. The comment of a recipe says what it is for,
// which rule makes it right, and what happens when its time runs out.
// docs/recipes.md shows the essential lines of each. The tests run them all.
//
// In all of them q is the event of the program, quit.GetQuitEvent(), unless the
// comment says that it may be one of its own.
package recipes
