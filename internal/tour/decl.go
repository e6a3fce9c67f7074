package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/printer"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// goFile is a Go file while it is taken apart.
type goFile struct {
	name     string
	fset     *token.FileSet
	comments []*ast.CommentGroup // those that no declaration has taken yet
	items    []item
}

// splitGo takes a Go file apart into its declarations, and what is left as its header.
func splitGo(name, source string) ([]item, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &goFile{name: name, fset: fset, comments: file.Comments}
	for _, decl := range file.Decls {
		if err := f.split(decl); err != nil {
			return nil, fmt.Errorf("printing %s: %w", name, err)
		}
	}
	clause := "package " + file.Name.Name
	f.add(clause, joinComments(f.comments)+clause)
	return f.items, nil
}

// split adds the items of a declaration: one for each name that a group declares. The
// group's own comment belongs to the first.
func (f *goFile) split(decl ast.Decl) error {
	if fn, ok := decl.(*ast.FuncDecl); ok {
		text, err := f.take(fn, fn.Doc)
		f.add(funcName(fn), text)
		return err
	}
	group, ok := decl.(*ast.GenDecl)
	if !ok || group.Tok == token.IMPORT {
		return nil
	}
	for i, spec := range group.Specs {
		var names []*ast.Ident
		var docs []*ast.CommentGroup
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			names, docs = append(names, spec.Name), append(docs, spec.Doc)
		case *ast.ValueSpec:
			names, docs = spec.Names, append(docs, spec.Doc)
		}
		if i == 0 {
			docs = append(docs, group.Doc)
		}
		text, err := f.take(spec, docs...)
		if err != nil {
			return err
		}
		for _, name := range names {
			f.add(group.Tok.String()+" "+name.Name, text)
		}
	}
	return nil
}

// funcName is a function's name, with the receiver's type as in "func (overlay) mount". That
// a receiver becomes a pointer is a change of the method and not another method.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return "func " + fn.Name.Name
	}
	receiver := strings.TrimPrefix(types.ExprString(fn.Recv.List[0].Type), "*")
	receiver, _, _ = strings.Cut(receiver, "[")
	return "func (" + receiver + ") " + fn.Name.Name
}

// add adds an item. What a file may declare several times, as init and _, is one.
func (f *goFile) add(name, text string) {
	same := func(it item) bool { return it.name == name }
	if i := slices.IndexFunc(f.items, same); i >= 0 {
		f.items[i].text += "\n" + text
		return
	}
	f.items = append(f.items, newItem(f.name, name, text))
}

// take returns the text of a declaration as gofmt has it if it stands alone, so that its
// neighbours in a group have no say in its blanks, and with the comments above, in and
// right behind it. These are taken out of the file's.
func (f *goFile) take(node ast.Node, docs ...*ast.CommentGroup) (string, error) {
	var above, behind, left []*ast.CommentGroup
	inside := []*ast.CommentGroup{} // nil would have the printer add comments of its own accord
	lastLine := f.fset.Position(node.End()).Line
	for _, comment := range f.comments {
		switch {
		case slices.Contains(docs, comment):
			above = append(above, comment)
		case comment.Pos() < node.Pos() || f.fset.Position(comment.Pos()).Line > lastLine:
			left = append(left, comment)
		case comment.Pos() < node.End():
			inside = append(inside, comment)
		default:
			behind = append(behind, comment)
		}
	}
	f.comments = left
	var text bytes.Buffer
	err := format.Node(&text, f.fset, &printer.CommentedNode{Node: node, Comments: inside})
	return joinComments(above) + text.String() + "\n" + joinComments(behind), err
}

func joinComments(groups []*ast.CommentGroup) string {
	var text strings.Builder
	for _, group := range groups {
		for _, comment := range group.List {
			fmt.Fprintln(&text, comment.Text)
		}
	}
	return text.String()
}
