package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/scanner"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// A mutant is one change of the source.
type mutant struct {
	id       int
	pkg      string // its import path
	file     string // from the root of the module, with slashes
	line     int
	within   string // the function or method, as step.run; of several variables, the first
	operator string
	text     string // of the line, trimmed, without a comment
	races    bool   // only the race detector can be expected to notice it
}

func (m *mutant) String() string { return fmt.Sprintf("%s:%d %s", m.file, m.line, m.operator) }

// The operators.
const (
	opRemove   = "remove"   // a statement is removed: a call, an assignment, a send, a block
	opSwap     = "swap"     // two statements whose order others can see are exchanged
	opLock     = "lock"     // a function does not lock, and does not unlock
	opDefer    = "defer"    // a deferred call is removed
	opNegate   = "negate"   // a condition is negated
	opLogic    = "logic"    // && becomes ||, or the other way round
	opBound    = "bound"    // < becomes <=, > becomes >=, or the other way round
	opEqual    = "equal"    // == becomes !=, or the other way round
	opArith    = "arith"    // + becomes -, or the other way round
	opConstant = "constant" // 0 becomes 1, or false true, or the other way round
	opHalf     = "half"     // a duration is halved
	opDouble   = "double"   // a duration is doubled
	opReturn   = "return"   // a function returns zero values at once
	opGo       = "go"       // a function is called, not started
	opStore    = "store"    // an atomic store is removed
	opClose    = "close"    // the close of a channel is removed
	opCase     = "case"     // a case of a select is removed
	opJump     = "jump"     // a break or continue is removed
)

// A rewriter writes all mutants of a file into its source. Each is switched on
// by its number when the program runs. Everything stays on its line, so
// positions in messages and stacks are those of the source.
type rewriter struct {
	fset  *token.FileSet
	info  *types.Info
	pkg   *types.Package
	file  string
	src   []byte
	lines []string
	first int // the number of the first mutant

	within string // the current function

	found   []*mutant
	edits   []edit
	imports map[string]string   // name by path
	last    map[ast.Stmt]bool   // statements without which a function lacks a return
	locks   map[ast.Stmt]string // the condition of the mutant that leaves it out
	noConst map[ast.Expr]bool   // expressions that must not change
}

// An edit replaces size bytes at an offset.
type edit struct {
	at, size int
	text     string
	closing  bool
}

const call = "toggle_.On(%d)"

// rewrite returns the source with the mutants in it, or nil for a file without
// any.
func (r *rewriter) rewrite(f *ast.File) []byte {
	r.lines = strings.Split(string(r.withoutComments(f)), "\n")
	r.imports = make(map[string]string)
	for _, spec := range f.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		name := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		r.imports[path] = name
	}
	r.last = make(map[ast.Stmt]bool)
	r.locks = make(map[ast.Stmt]string)
	r.noConst = make(map[ast.Expr]bool)
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			r.within = funcName(d)
			if d.Body != nil {
				r.function(d.Type, d.Body)
				r.inspect(d.Body)
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				r.within = d.Specs[0].(*ast.ValueSpec).Names[0].Name
				r.inspect(d)
			}
		}
	}
	if len(r.found) == 0 {
		return nil
	}
	r.edits = append(r.edits, edit{at: r.offset(f.Name.End()),
		text: `; import toggle_ "github.com/gracefulgo/graceful/verify/mutation/toggle"`})
	return r.apply()
}

// funcName returns the name of a function, or the name of a method with that of
// its type.
func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	for {
		switch of := t.(type) {
		case *ast.StarExpr:
			t = of.X
		case *ast.IndexExpr:
			t = of.X
		case *ast.Ident:
			return of.Name + "." + d.Name.Name
		default:
			return d.Name.Name
		}
	}
}

// withoutComments returns the source with blanks in place of comments, so
// that a new comment does not make another mutant.
func (r *rewriter) withoutComments(f *ast.File) []byte {
	src := slices.Clone(r.src)
	for _, group := range f.Comments {
		for i := r.offset(group.Pos()); i < r.offset(group.End()); i++ {
			if src[i] != '\n' {
				src[i] = ' '
			}
		}
	}
	return src
}

// apply makes the edits. At one place, closing text comes before opening text.
// Closing text of the innermost node comes first, opening text of the
// outermost.
func (r *rewriter) apply() []byte {
	order := make([]int, len(r.edits))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := r.edits[i], r.edits[j]
		switch {
		case a.at != b.at:
			return a.at - b.at
		case a.closing != b.closing:
			if a.closing {
				return -1
			}
			return 1
		case a.closing:
			return j - i
		}
		return i - j
	})
	var buf bytes.Buffer
	done := 0
	for _, i := range order {
		e := r.edits[i]
		buf.Write(r.src[done:e.at])
		buf.WriteString(e.text)
		done = e.at + e.size
	}
	buf.Write(r.src[done:])
	return buf.Bytes()
}

func (r *rewriter) offset(p token.Pos) int { return r.fset.Position(p).Offset }

// text returns the source of n.
func (r *rewriter) text(n ast.Node) string {
	return string(r.src[r.offset(n.Pos()):r.offset(n.End())])
}

// oneLine returns the source of n on one line.
func (r *rewriter) oneLine(n ast.Node) string { return oneLine(r.text(n)) }

func oneLine(src string) string {
	var s scanner.Scanner
	fset := token.NewFileSet()
	s.Init(fset.AddFile("", -1, len(src)), []byte(src), nil, 0)
	var words []string
	for {
		_, tok, lit := s.Scan()
		switch {
		case tok == token.EOF:
			if n := len(words); n > 0 && words[n-1] == ";" { // inserted at the end
				words = words[:n-1]
			}
			return strings.Join(words, " ")
		case tok == token.SEMICOLON:
			words = append(words, ";")
		case lit != "":
			words = append(words, lit)
		default:
			words = append(words, tok.String())
		}
	}
}

// add adds a mutant at n, and returns the condition for it.
func (r *rewriter) add(n ast.Node, operator string) (*mutant, string) {
	m := &mutant{id: r.first + len(r.found), pkg: r.pkg.Path(), file: r.file,
		line: r.fset.Position(n.Pos()).Line, within: r.within, operator: operator}
	m.text = strings.TrimSpace(r.lines[m.line-1])
	r.found = append(r.found, m)
	return m, fmt.Sprintf(call, m.id)
}

// wrap puts n between two texts.
func (r *rewriter) wrap(n ast.Node, before, after string) {
	r.edits = append(r.edits, edit{at: r.offset(n.Pos()), text: before},
		edit{at: r.offset(n.End()), text: after, closing: true})
}

// inspect finds the mutants in and below n.
func (r *rewriter) inspect(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			r.function(n.Type, n.Body)
		case *ast.GenDecl:
			return n.Tok == token.VAR
		case *ast.BlockStmt:
			if len(n.List) > 0 && !isClause(n.List[0]) {
				r.list(n.List)
			}
		case *ast.CaseClause:
			if len(n.List) > 0 && r.isBool(n.List[0]) {
				for _, e := range n.List {
					r.condition(e)
				}
			}
			r.list(n.Body)
		case *ast.CommClause:
			r.comm(n)
			r.list(n.Body)
		case *ast.IfStmt:
			r.condition(n.Cond)
		case *ast.ForStmt:
			if n.Cond != nil {
				r.condition(n.Cond)
			}
		case *ast.ArrayType:
			return false
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					r.noConst[kv.Key] = true
				}
			}
		case *ast.ReturnStmt:
			r.besideError(n)
		case ast.Expr:
			return r.expr(n)
		}
		return true
	})
}

// besideError keeps the constants that are returned beside an error, since
// callers ignore them.
func (r *rewriter) besideError(ret *ast.ReturnStmt) {
	n := len(ret.Results)
	if n < 2 {
		return
	}
	if id, ok := ret.Results[n-1].(*ast.Ident); !ok || id.Name != "err" {
		return
	}
	for _, e := range ret.Results[:n-1] {
		r.noConst[e] = true
	}
}

// isClause reports whether s is a clause in the body of a switch or a select,
// and so not a statement of its own.
func isClause(s ast.Stmt) bool {
	switch s.(type) {
	case *ast.CaseClause, *ast.CommClause:
		return true
	}
	return false
}

func (r *rewriter) isBool(e ast.Expr) bool {
	t := r.info.TypeOf(e)
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsBoolean != 0
}

// condition adds the negation of e, unless that is the mutant of its operator.
func (r *rewriter) condition(e ast.Expr) {
	if b, ok := ast.Unparen(e).(*ast.BinaryExpr); ok && (b.Op == token.EQL || b.Op == token.NEQ) {
		return
	}
	if r.info.Types[e].Value != nil {
		return
	}
	_, on := r.add(e, opNegate)
	r.wrap(e, "((", ") != "+on+")")
}

// expr adds the mutants of an expression, and reports whether to look at its
// parts.
func (r *rewriter) expr(e ast.Expr) bool {
	tv := r.info.Types[e]
	if tv.IsType() {
		return false
	}
	if tv.Value != nil {
		r.constant(e, tv)
		return false
	}
	b, ok := e.(*ast.BinaryExpr)
	if !ok {
		return true
	}
	x, y := r.oneLine(b.X), r.oneLine(b.Y)
	switch b.Op {
	case token.LAND:
		_, on := r.add(e, opLogic)
		r.wrap(e, fmt.Sprintf("(%s && ((%s) || (%s)) || !%s && (", on, x, y, on), "))")
	case token.LOR:
		_, on := r.add(e, opLogic)
		r.wrap(e, fmt.Sprintf("(%s && (%s) && (%s) || !%s && (", on, x, y, on), "))")
	case token.LSS, token.GTR:
		_, on := r.add(e, opBound)
		r.wrap(e, "(", fmt.Sprintf(" || %s && (%s) == (%s))", on, x, y))
	case token.LEQ, token.GEQ:
		_, on := r.add(e, opBound)
		r.wrap(e, "(", fmt.Sprintf(" && !(%s && (%s) == (%s)))", on, x, y))
	case token.EQL, token.NEQ:
		_, on := r.add(e, opEqual)
		r.wrap(e, "((", ") != "+on+")")
	case token.ADD, token.SUB:
		basic, ok := tv.Type.Underlying().(*types.Basic)
		if !ok || basic.Info()&types.IsNumeric == 0 {
			return true
		}
		m, _ := r.add(e, opArith)
		name := "Sum"
		if b.Op == token.SUB {
			name = "Difference"
		}
		r.wrap(e, fmt.Sprintf("toggle_.%s(%d, ", name, m.id), ")")
		r.edits = append(r.edits, edit{at: r.offset(b.OpPos), size: 1, text: ","})
	}
	return true
}

// constant adds the mutants of a constant expression: of 0, 1, false, true and
// durations.
func (r *rewriter) constant(e ast.Expr, tv types.TypeAndValue) {
	if r.noConst[e] {
		return
	}
	name := r.typeName(tv.Type)
	if name == "" {
		return
	}
	alt := func(operator, other string) {
		m, _ := r.add(e, operator)
		r.wrap(e, fmt.Sprintf("toggle_.Alt[%s](%d, ", name, m.id), ", "+other+")")
	}
	if tv.Value.Kind() == constant.Bool {
		alt(opConstant, fmt.Sprint(!constant.BoolVal(tv.Value)))
		return
	}
	if tv.Value.Kind() != constant.Int {
		return
	}
	n, exact := constant.Int64Val(tv.Value)
	switch {
	case !exact:
	case n == 0:
		alt(opConstant, "1")
	case n == 1:
		alt(opConstant, "0")
	case types.TypeString(tv.Type, nil) == "time.Duration":
		alt(opHalf, fmt.Sprint(n/2))
		if n < 1<<62 && n > -1<<62 {
			alt(opDouble, fmt.Sprint(n*2))
		}
	}
}

// typeName returns the name of t in the file, or "" if it has none.
func (r *rewriter) typeName(t types.Type) string {
	switch t := t.(type) {
	case *types.Basic:
		if t.Info()&types.IsUntyped != 0 {
			return ""
		}
		return t.Name()
	case *types.Named:
		switch p := t.Obj().Pkg(); {
		case p == r.pkg:
			return t.Obj().Name()
		case p != nil && r.imports[p.Path()] != "":
			return r.imports[p.Path()] + "." + t.Obj().Name()
		}
	}
	return ""
}

// function adds the mutants of a function as a whole.
func (r *rewriter) function(t *ast.FuncType, body *ast.BlockStmt) {
	r.markLast(body.List)
	r.pairs(body)
	results := 0
	var zeros []string
	named := false
	if t.Results != nil {
		for _, f := range t.Results.List {
			named = named || len(f.Names) > 0
			for range max(len(f.Names), 1) {
				zeros = append(zeros, "*new("+r.oneLine(f.Type)+")")
				results++
			}
		}
	}
	switch {
	case len(body.List) == 0:
		return
	case results == 0 && len(body.List) == 1: // like the removal of the statement
		if _, ok := body.List[0].(*ast.DeferStmt); ok {
			return
		}
		if removable(body.List[0]) != "" {
			return
		}
	case len(body.List) == 1:
		if ret, ok := body.List[0].(*ast.ReturnStmt); ok && r.allZero(ret) {
			return
		}
	}
	if named {
		zeros = nil
	}
	_, on := r.add(body.List[0], opReturn)
	r.edits = append(r.edits, edit{at: r.offset(body.Lbrace) + 1,
		text: fmt.Sprintf(" if %s { return %s }; ", on, strings.Join(zeros, ", "))})
}

// allZero reports whether all results are written as zero values.
func (r *rewriter) allZero(ret *ast.ReturnStmt) bool {
	for _, e := range ret.Results {
		switch text := r.text(e); {
		case text == "nil" || text == "false" || text == "0" || text == `""`:
		default:
			if lit, ok := e.(*ast.CompositeLit); !ok || len(lit.Elts) > 0 {
				return false
			}
		}
	}
	return true
}

// markLast marks the statements without which a function with the given body
// would lack a return.
func (r *rewriter) markLast(list []ast.Stmt) {
	if len(list) == 0 {
		return
	}
	last := list[len(list)-1]
	if !terminates(last) {
		return
	}
	r.last[last] = true
	switch s := last.(type) {
	case *ast.BlockStmt:
		r.markLast(s.List)
	case *ast.LabeledStmt:
		r.last[s.Stmt] = true
	case *ast.IfStmt:
		r.markLast(s.Body.List)
		r.markLast([]ast.Stmt{s.Else})
	case *ast.SwitchStmt:
		r.markClauses(s.Body)
	case *ast.TypeSwitchStmt:
		r.markClauses(s.Body)
	case *ast.SelectStmt:
		r.markClauses(s.Body)
	}
}

func (r *rewriter) markClauses(body *ast.BlockStmt) {
	for _, c := range body.List {
		switch c := c.(type) {
		case *ast.CaseClause:
			r.markLast(c.Body)
		case *ast.CommClause:
			r.markLast(c.Body)
		}
	}
}

// terminates reports whether s may be a terminating statement. It may report
// true for one that is not: then some mutants are left out.
func terminates(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.ReturnStmt, *ast.SelectStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.BlockStmt:
		return true
	case *ast.ExprStmt:
		c, ok := s.X.(*ast.CallExpr)
		if !ok {
			return false
		}
		id, ok := c.Fun.(*ast.Ident)
		return ok && id.Name == "panic"
	case *ast.LabeledStmt:
		return terminates(s.Stmt)
	case *ast.IfStmt:
		return s.Else != nil
	case *ast.ForStmt:
		return s.Cond == nil
	}
	return false
}

// pairs adds the mutants of a function that omit a lock.
func (r *rewriter) pairs(body *ast.BlockStmt) {
	type pair struct{ lock, unlock []ast.Stmt }
	byName := make(map[string]*pair)
	var names []string
	ast.Inspect(body, func(n ast.Node) bool {
		s, ok := n.(ast.Stmt)
		if !ok {
			_, inner := n.(*ast.FuncLit)
			return !inner
		}
		name, method := lockCall(s)
		if name == "" {
			return true
		}
		p := byName[name]
		if p == nil {
			p = new(pair)
			byName[name] = p
			names = append(names, name)
		}
		if strings.HasSuffix(method, "Unlock") {
			p.unlock = append(p.unlock, s)
		} else {
			p.lock = append(p.lock, s)
		}
		return true
	})
	for _, name := range names {
		p := byName[name]
		if len(p.lock) == 0 || len(p.unlock) == 0 {
			continue
		}
		m, on := r.add(p.lock[0], opLock)
		m.races = true
		for _, s := range append(p.lock, p.unlock...) {
			r.locks[s] = on
		}
	}
}

// lockCall returns the lock, as it is written, and the method, if s locks or
// unlocks one.
func lockCall(s ast.Stmt) (name, method string) {
	var c *ast.CallExpr
	switch s := s.(type) {
	case *ast.ExprStmt:
		c, _ = s.X.(*ast.CallExpr)
	case *ast.DeferStmt:
		c = s.Call
	}
	if c == nil {
		return "", ""
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	switch sel.Sel.Name {
	case "Lock", "Unlock", "RLock", "RUnlock":
		return types.ExprString(sel.X), sel.Sel.Name
	}
	return "", ""
}

// removable returns the operator by which s is removed, or "".
func removable(s ast.Stmt) string {
	if lock, _ := lockCall(s); lock != "" {
		return ""
	}
	switch s := s.(type) {
	case *ast.ExprStmt:
		c, ok := s.X.(*ast.CallExpr)
		if !ok {
			return opRemove
		}
		switch f := c.Fun.(type) {
		case *ast.Ident:
			switch f.Name {
			case "close":
				return opClose
			case "panic":
				return ""
			}
		case *ast.SelectorExpr:
			switch f.Sel.Name {
			case "Store":
				return opStore
			case "Helper": // of testing; it only changes the reported line of a failure
				return ""
			}
		}
		return opRemove
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE || len(s.Lhs) == 1 && types.ExprString(s.Lhs[0]) == "_" {
			return ""
		}
		return opRemove
	case *ast.DeferStmt:
		if f := types.ExprString(s.Call.Fun); f == "cancel" || strings.HasSuffix(f, ".Stop") {
			return "" // frees early something that is freed anyway
		}
		return opDefer
	case *ast.BranchStmt:
		if s.Tok == token.BREAK || s.Tok == token.CONTINUE {
			return opJump
		}
	case *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt,
		*ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt, *ast.ReturnStmt:
		return opRemove
	}
	return ""
}

// list adds the mutants of statements that follow each other.
func (r *rewriter) list(list []ast.Stmt) {
	r.swaps(list)
	for _, s := range list {
		if on := r.locks[s]; on != "" {
			r.wrap(s, "if !"+on+" { ", " }")
		}
		if operator := removable(s); operator != "" && !r.last[s] {
			_, on := r.add(s, operator)
			r.wrap(s, "if !"+on+" { ", " }")
		}
		switch s := s.(type) {
		case *ast.GoStmt:
			_, on := r.add(s, opGo)
			r.wrap(s, "if "+on+" { "+r.oneLine(s.Call)+" } else { ", " }")
		case *ast.AssignStmt:
			other := map[token.Token]string{token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+="}[s.Tok]
			b, ok := r.info.TypeOf(s.Lhs[0]).(*types.Basic)
			if !ok && r.info.TypeOf(s.Lhs[0]) != nil {
				b, ok = r.info.TypeOf(s.Lhs[0]).Underlying().(*types.Basic)
			}
			if other != "" && ok && b.Info()&types.IsNumeric != 0 {
				_, on := r.add(s, opArith)
				r.wrap(s, fmt.Sprintf("if %s { %s %s %s } else { ",
					on, r.oneLine(s.Lhs[0]), other, r.oneLine(s.Rhs[0])), " }")
			}
		case *ast.IncDecStmt:
			other := "--"
			if s.Tok == token.DEC {
				other = "++"
			}
			_, on := r.add(s, opArith)
			r.wrap(s, fmt.Sprintf("if %s { %s%s } else { ", on, r.oneLine(s.X), other), " }")
		case *ast.SelectStmt:
			r.withoutDefault(s)
		}
	}
}

// withoutDefault adds the mutant of a select that lacks its default.
func (r *rewriter) withoutDefault(s *ast.SelectStmt) {
	if r.last[s] || len(s.Body.List) < 2 {
		return
	}
	for _, c := range s.Body.List {
		c := c.(*ast.CommClause)
		if c.Comm != nil {
			continue
		}
		before := string(r.src[r.offset(s.Pos()):r.offset(c.Pos())])
		behind := string(r.src[r.offset(c.End()):r.offset(s.End())])
		_, on := r.add(c, opCase)
		r.wrap(s, fmt.Sprintf("if %s { %s } else { ", on, oneLine(before+"\n"+behind)), " }")
	}
}

// comm adds the mutant of a select that lacks the case c.
func (r *rewriter) comm(c *ast.CommClause) {
	var channel ast.Expr
	find := func(e ast.Expr) {
		if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok && u.Op == token.ARROW {
			channel = u.X
		}
	}
	switch s := c.Comm.(type) {
	case *ast.SendStmt:
		channel = s.Chan
	case *ast.ExprStmt:
		find(s.X)
	case *ast.AssignStmt:
		find(s.Rhs[0])
	}
	if channel == nil {
		return
	}
	m, _ := r.add(c, opCase)
	r.wrap(channel, fmt.Sprintf("toggle_.Never(%d, ", m.id), ")")
}

// swaps adds the mutants in which two statements of list are exchanged.
func (r *rewriter) swaps(list []ast.Stmt) {
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && r.movable(list[j]) {
			j++
		}
		if j > i+1 {
			r.swapsOf(list[i:j])
		}
		i = j + 1
	}
}

// swapsOf adds the mutants in which two neighbours are exchanged.
func (r *rewriter) swapsOf(list []ast.Stmt) {
	var before strings.Builder
	for i := range list[:len(list)-1] {
		if !ordered(list[i], list[i+1]) || independent(list[i], list[i+1]) {
			continue
		}
		_, unlock := lockCall(list[i])
		_, unlockNext := lockCall(list[i+1])
		m, on := r.add(list[i], opSwap)
		m.races = unlock != "" || unlockNext != ""
		var all []string
		for k := range list {
			switch k {
			case i:
				k = i + 1
			case i + 1:
				k = i
			}
			all = append(all, r.oneLine(list[k]))
		}
		fmt.Fprintf(&before, "if %s { %s } else ", on, strings.Join(all, "; "))
	}
	if before.Len() == 0 {
		return
	}
	r.edits = append(r.edits, edit{at: r.offset(list[0].Pos()), text: before.String() + "{ "},
		edit{at: r.offset(list[len(list)-1].End()), text: " }", closing: true})
}

// movable reports whether s can be moved: it declares nothing, does not jump,
// does not lock, and is short.
func (r *rewriter) movable(s ast.Stmt) bool {
	const longest = 12 // lines
	if r.last[s] || r.fset.Position(s.End()).Line-r.fset.Position(s.Pos()).Line >= longest {
		return false
	}
	if _, method := lockCall(s); method != "" {
		_, deferred := s.(*ast.DeferStmt)
		return !deferred && strings.HasSuffix(method, "Unlock")
	}
	switch s := s.(type) {
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt:
		return removable(s) != ""
	case *ast.AssignStmt:
		return s.Tok != token.DEFINE
	case *ast.IfStmt, *ast.RangeStmt:
		moves := true
		ast.Inspect(s, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.ReturnStmt, *ast.BranchStmt, *ast.LabeledStmt:
				moves = false
			}
			return moves
		})
		return moves
	}
	return false
}

// ordered reports whether others can see the order of a and b: if one is a step
// that other goroutines see, or both are calls.
func ordered(a, b ast.Stmt) bool {
	isCall := func(s ast.Stmt) bool {
		_, ok := s.(*ast.ExprStmt)
		return ok
	}
	return seen(a) || seen(b) || isCall(a) && isCall(b)
}

// seen reports whether s is a step that other goroutines see: a send, a close,
// an unlock, an atomic store or the start of a goroutine. A defer counts too,
// since it affects later steps.
func seen(s ast.Stmt) bool {
	switch s.(type) {
	case *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt:
		return true
	}
	_, method := lockCall(s)
	operator := removable(s)
	return method != "" || operator == opStore || operator == opClose
}

// independent reports whether a and b are plain assignments, neither of which
// uses variables that the other sets, so that their order cannot matter.
func independent(a, b ast.Stmt) bool {
	setA, useA, plainA := names(a)
	setB, useB, plainB := names(b)
	if !plainA || !plainB {
		return false
	}
	for x := range setA {
		if useB[x] || setB[x] {
			return false
		}
	}
	for x := range setB {
		if useA[x] {
			return false
		}
	}
	return true
}

// names returns the variables that the statement sets and uses, and whether it
// is an assignment without a call.
func names(s ast.Stmt) (set, use map[string]bool, plain bool) {
	set, use, plain = make(map[string]bool), make(map[string]bool), true
	var lhs, rhs []ast.Expr
	switch s := s.(type) {
	case *ast.AssignStmt:
		lhs, rhs = s.Lhs, s.Rhs
		if s.Tok != token.ASSIGN {
			rhs = append(slices.Clone(rhs), lhs...)
		}
	case *ast.IncDecStmt:
		lhs = []ast.Expr{s.X}
	default:
		return nil, nil, false
	}
	for _, e := range lhs {
		set[types.ExprString(e)] = true
		if x, ok := e.(*ast.SelectorExpr); ok {
			use[types.ExprString(x.X)] = true
		} else if _, ok := e.(*ast.Ident); !ok {
			plain = false
		}
	}
	for _, e := range rhs {
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr, *ast.FuncLit:
				plain = false
			case *ast.UnaryExpr:
				plain = plain && n.Op != token.ARROW
			case *ast.Ident, *ast.SelectorExpr:
				use[types.ExprString(n.(ast.Expr))] = true
			}
			return true
		})
	}
	return set, use, plain
}
