package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tree makes a repository of files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		write(t, root, name, text)
	}
	return root
}

// write writes a file. If it is Go, it need not say that it is in package main.
func write(t *testing.T, root, name, text string) {
	t.Helper()
	if filepath.Ext(name) == ".go" && !strings.Contains(text, "package ") {
		text = "package main\n\n" + text + "\n"
	}
	file := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(data)
}

func tour(root string, args ...string) error {
	return newApp(root).Run(context.Background(), append([]string{"tour"}, args...))
}

// locked returns the lines of the lock for files, without those for their headers.
func locked(t *testing.T, files map[string]string) []string {
	t.Helper()
	root := tree(t, files)
	require.NoError(t, tour(root, "lock"))
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(read(t, root, lockFile), lockHeader)) {
		if !strings.Contains(line, "\tpackage ") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// three is a tour of three stages in which run changes in the second and help never.
func three() map[string]string {
	return map[string]string{
		"ch01-run/run.go":     "func run() {}\n\n// help helps.\nfunc help() {}",
		"ch02-pipe/run.go":    "func run() { pipe() }\n\n// help helps.\nfunc help() {}",
		"ch03-cgroups/run.go": "func run() { pipe() }\n\n// help helps.\nfunc help() {}",
	}
}

func TestLock(t *testing.T) {
	assert.Equal(t, []string{
		"run.go\tfunc help\tch01",
		"run.go\tfunc run\tch01 ch02",
	}, locked(t, three()))
}

func TestForwardedEditLeavesTheLockAsItIs(t *testing.T) {
	root := tree(t, three())
	require.NoError(t, tour(root, "lock"))
	for name, text := range three() {
		write(t, root, name, strings.ReplaceAll(text, "help helps", "help helps a lot"))
	}
	assert.NoError(t, tour(root, "lock", "--check"))
}

func TestForgottenForwardIsNamed(t *testing.T) {
	root := tree(t, three())
	require.NoError(t, tour(root, "lock"))
	for name, text := range three() {
		if name != "ch03-cgroups/run.go" {
			write(t, root, name, strings.ReplaceAll(text, "help helps", "help helps a lot"))
		}
	}
	assert.EqualError(t, tour(root, "lock", "--check"), "stages.lock is out of date: "+
		"func help (run.go) changes in ch01 ch03, the lock says ch01; "+
		"if that is meant, run: make lock; if not, a change was not carried forward: make forward")
	require.NoError(t, tour(root, "lock"), "it may be meant")
	assert.NoError(t, tour(root, "lock", "--check"))
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	root := tree(t, three())
	require.NoError(t, tour(root, "lock"))
	write(t, root, "ch03-cgroups/cgroup.go", "type cgroup int")
	write(t, root, lockFile, read(t, root, lockFile)+"old.go\tfunc old\tch01\n")

	err := tour(root, "lock", "--check")
	assert.ErrorContains(t, err, "type cgroup (cgroup.go) changes in ch03, the lock does not have it")
	assert.ErrorContains(t, err, "package main (cgroup.go) changes in ch03, the lock does not have it")
	assert.ErrorContains(t, err, "func old (old.go) is in the lock, but in no stage")
	assert.Len(t, strings.Split(err.Error(), "\n"), 3)

	require.NoError(t, tour(root, "lock"))
	write(t, root, lockFile, read(t, root, lockFile)+"\n")
	assert.ErrorContains(t, tour(root, "lock", "--check"), "not as tour writes it")
	require.NoError(t, os.Remove(filepath.Join(root, lockFile)))
	assert.ErrorIs(t, tour(root, "lock", "--check"), os.ErrNotExist)
}

func TestTextMustNotReturn(t *testing.T) {
	for name, test := range map[string]struct {
		texts []string
		want  string
	}{
		"to an earlier form":    {[]string{"func f() { a() }", "func f() { b() }", "func f() { a() }"}, "func f (f.go) is in ch03 again what it was in ch01, and in ch02 it is not"},
		"after it was gone":     {[]string{"func f() { a() }", "", "", "func f() { a() }"}, "func f (f.go) is in ch04 again what it was in ch01, and in ch03 it is not"},
		"as something else":     {[]string{"func f() { a() }", "", "func f() { b() }"}, ""},
		"in other declarations": {[]string{"func f() {}", "func g() {}", "func h() {}"}, ""},
		"in no one's comment":   {[]string{"// one\n\nvar a int", "// two\n\nvar a int", "// one\n\nvar a int"}, "package main (f.go) is in ch03 again what it was in ch01, and in ch02 it is not"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for i, text := range test.texts {
				write(t, root, fmt.Sprintf("ch%02d-x/go.mod", i+1), "go 1.26\n")
				if text != "" {
					write(t, root, fmt.Sprintf("ch%02d-x/f.go", i+1), text)
				}
			}
			err := tour(root, "lock")
			if test.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, test.want)
			assert.NoFileExists(t, filepath.Join(root, lockFile))
			write(t, root, lockFile, "")
			assert.ErrorContains(t, tour(root, "lock", "--check"), test.want)
		})
	}
}

func TestWhatTheLockTellsApart(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"what is gone and back": {
			map[string]string{
				"ch01-a/x.go": "var x = 1", "ch01-a/y.go": "var y = 1",
				"ch02-b/y.go": "var y = 1",
				"ch03-c/x.go": "var x = 2",
			},
			[]string{"x.go\tvar x\tch01 -ch02 ch03", "y.go\tvar y\tch01 -ch03"},
		},
		"methods, by the type and not by the pointer": {
			map[string]string{
				"ch01-a/x.go": "func (o overlay) remove() {}\nfunc (c cgroup) remove() {}\nfunc (s set[T]) add() {}",
				"ch02-b/x.go": "func (o *overlay) remove() {}\nfunc (c cgroup) remove() {}\nfunc (s *set[T]) add() {}",
			},
			[]string{"x.go\tfunc (cgroup) remove\tch01", "x.go\tfunc (overlay) remove\tch01 ch02", "x.go\tfunc (set) add\tch01 ch02"},
		},
		"the names of a group, whatever their neighbours do to the blanks": {
			map[string]string{
				"ch01-a/x.go": "const (\n\ta = 1 // one\n\tb = 2\n)\ntype t int\nvar x, y = f()",
				"ch02-b/x.go": "const (\n\ta      = 1 // one\n\tlonger = 3\n\tb      = 4\n)\ntype (\n\tt int\n)\nvar x, y = f()",
			},
			[]string{"x.go\tconst a\tch01", "x.go\tconst b\tch01 ch02", "x.go\tconst longer\tch02", "x.go\ttype t\tch01", "x.go\tvar x\tch01", "x.go\tvar y\tch01"},
		},
		"comments above, in and behind": {
			map[string]string{
				"ch01-a/x.go": "// group\nconst (\n\ta = 1\n\tb = 2 // b\n)\n// f\nfunc f() {}\nfunc g() {} // g\nfunc h() {\n\t// h\n}\nfunc i() {}",
				"ch02-b/x.go": "// Group\nconst (\n\ta = 1\n\tb = 2 // B\n)\n// F\nfunc f() {}\nfunc g() {} // G\nfunc h() {\n\t// H\n}\nfunc i() {}",
			},
			[]string{"x.go\tconst a\tch01 ch02", "x.go\tconst b\tch01 ch02", "x.go\tfunc f\tch01 ch02", "x.go\tfunc g\tch01 ch02", "x.go\tfunc h\tch01 ch02", "x.go\tfunc i\tch01"},
		},
		"twins, from the first stage on": {
			map[string]string{
				"ch01-a/main.go":       "func main() {}",
				"ch02-b/main.go":       "func main() {}",
				"ch02-b/main_other.go": "//go:build !linux\n\npackage main\n\nfunc main() { fail() }",
				"ch03-c/main.go":       "func main() { run() }",
				"ch03-c/main_other.go": "//go:build !linux\n\npackage main\n\nfunc main() { fail() }",
			},
			[]string{"main.go\tfunc main\tch01 ch03", "main_other.go\tfunc main\tch02"},
		},
		"what one file has twice, together": {
			map[string]string{
				"ch01-a/x.go": "var _ = 1\nvar _ = 2\nfunc init() {}\nfunc init() { a() }",
				"ch02-b/x.go": "var _ = 1\nvar _ = 2\nfunc init() {}\nfunc init() { b() }",
			},
			[]string{"x.go\tfunc init\tch01 ch02", "x.go\tvar _\tch01"},
		},
		"but not where a declaration is": {
			map[string]string{
				"ch01-a/x.go": "import \"os\"\nfunc f() {}\nfunc g() {}",
				"ch02-b/x.go": "func f() {}",
				"ch02-b/y.go": "import \"fmt\"\nfunc g() {}",
			},
			[]string{"x.go\tfunc f\tch01", "y.go\tfunc g\tch01"},
		},
		"packages": {
			map[string]string{
				"ch01-a/x.go":            "func open() {}",
				"ch02-b/x.go":            "func open() {}",
				"ch02-b/internal/a/x.go": "package a\n\nfunc open() {}",
			},
			[]string{"internal/a/x.go\tfunc open\tch02", "x.go\tfunc open\tch01"},
		},
		"other files": {
			map[string]string{
				"ch01-a/go.mod": "module mydocker/ch01-a\n", "ch01-a/README.md": "one", "ch01-a/testdata/x.txtar": "one", "ch01-a/nft": "", "ch01-a/.x.swp": "one",
				"ch02-b/go.mod": "module mydocker/ch02-b\n", "ch02-b/README.md": "two", "ch02-b/testdata/x.txtar": "two", "ch02-b/nft": "x",
				"final/go.mod": "module mydocker/final\n", "final/README.md": "three", "final/nft": "final",
			},
			[]string{"go.mod\tfile\tch01", "nft\tfile\tch01 ch02"},
		},
		"tests as well": {
			map[string]string{"ch01-a/x_test.go": "func TestX() {}", "ch02-b/x_test.go": "func TestX() { x() }"},
			[]string{"x_test.go\tfunc TestX\tch01 ch02"},
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, locked(t, test.files)) })
	}
}

// withReadmes adds READMEs that wait for their tables.
func withReadmes(files map[string]string, stages ...string) map[string]string {
	files = maps.Clone(files)
	for _, stage := range stages {
		files[stage+"/README.md"] = "# Title\n\n<!-- changes -->\n<!-- /changes -->\n\nText.\n"
		files[stage+"/README.zh-CN.md"] = "# 标题\n\n<!-- changes -->\n| old |\n<!-- /changes -->"
	}
	return files
}

func TestTable(t *testing.T) {
	root := tree(t, withReadmes(map[string]string{
		"ch01-a/go.mod":      "go 1.25",
		"ch01-a/old.go":      "func old() {}",
		"ch01-a/run.go":      "const name = 1\nfunc run() {}\nfunc stay() {}",
		"ch01-a/rules":       "one",
		"ch02-b/cgroup.go":   "type cgroup int\nfunc (c *cgroup) remove() {}",
		"ch02-b/go.mod":      "go 1.26",
		"ch02-b/moved.go":    "func stay() {}\nfunc come() {}",
		"ch02-b/run.go":      "func run() { more() }\nvar more = 1",
		"ch02-b/run_test.go": "func TestRun() {}",
		"ch02-b/rules":       "two",
		"ch02-b/more":        "new",
	}, "ch01-a", "ch02-b"))
	require.NoError(t, tour(root, "table"))

	assert.Equal(t, "# Title\n\n<!-- changes -->\n"+`
| File | New | Changed | Gone |
| --- | --- | --- | --- |
| `+"`old.go` | new file: `func old`"+` |  |  |
| `+"`rules` | new file: `rules`"+` |  |  |
| `+"`run.go` | new file: `const name`, `func run`, `func stay`"+` |  |  |

<!-- /changes -->

Text.
`, read(t, root, "ch01-a/README.md"))

	rows := []string{
		"| `cgroup.go` | new file: `type cgroup`, `func (cgroup) remove` |  |  |",
		"| `more` | new file: `more` |  |  |",
		"| `moved.go` | `func come` |  |  |",
		"| `old.go` |  |  | `func old` |",
		"| `rules` |  | `rules` |  |",
		"| `run.go` | `var more` | `func run` | `const name` |",
	}
	assert.Contains(t, read(t, root, "ch02-b/README.md"), "| --- |\n"+strings.Join(rows, "\n")+"\n\n<!-- /changes -->")

	chinese := strings.ReplaceAll(strings.Join(rows, "\n"), "new file: ", "新文件：")
	assert.Equal(t, "# 标题\n\n<!-- changes -->\n\n| 文件 | 新增 | 修改 | 删除 |\n| --- | --- | --- | --- |\n"+chinese+"\n\n<!-- /changes -->",
		read(t, root, "ch02-b/README.zh-CN.md"))
}

func TestTableCheck(t *testing.T) {
	root := tree(t, withReadmes(three(), "ch01-run", "ch02-pipe", "ch03-cgroups"))
	require.NoError(t, tour(root, "table"))
	require.NoError(t, tour(root, "table", "--check"))
	before := read(t, root, "ch03-cgroups/README.md")

	write(t, root, "ch03-cgroups/cgroup.go", "type cgroup int")
	err := tour(root, "table", "--check")
	assert.ErrorContains(t, err, "ch03-cgroups/README.md is out of date")
	assert.ErrorContains(t, err, "ch03-cgroups/README.zh-CN.md is out of date")
	assert.NotContains(t, err.Error(), "ch02")
	assert.Equal(t, before, read(t, root, "ch03-cgroups/README.md"))
}

func TestTableNeedsItsPlace(t *testing.T) {
	root := tree(t, withReadmes(three(), "ch01-run", "ch02-pipe", "ch03-cgroups"))
	write(t, root, "ch01-run/README.md", "# Title\n")
	write(t, root, "ch02-pipe/README.zh-CN.md", "<!-- /changes -->\n<!-- changes -->\n")
	require.NoError(t, os.Remove(filepath.Join(root, "ch03-cgroups/README.md")))

	for _, args := range [][]string{{"table"}, {"table", "--check"}} {
		err := tour(root, args...)
		assert.ErrorContains(t, err, "ch01-run/README.md has no lines <!-- changes --> and <!-- /changes --> for the table")
		assert.ErrorContains(t, err, "ch02-pipe/README.zh-CN.md has no lines")
		assert.ErrorContains(t, err, "ch03-cgroups/README.md")
	}
	assert.Contains(t, read(t, root, "ch03-cgroups/README.zh-CN.md"), "文件", "one bad README does not keep the others from their tables")
}

func TestCheckTellsEverything(t *testing.T) {
	root := tree(t, withReadmes(three(), "ch01-run", "ch02-pipe", "ch03-cgroups"))
	require.NoError(t, tour(root, "lock"))
	require.NoError(t, tour(root, "table"))
	require.NoError(t, tour(root, "check"))

	write(t, root, "ch03-cgroups/run.go", strings.Replace(three()["ch03-cgroups/run.go"], "helps", "fails", 1))
	write(t, root, "ch01-run/README.md", "# Title\n")
	err := tour(root, "check")
	assert.ErrorContains(t, err, "func help (run.go) changes in ch01 ch03")
	assert.ErrorContains(t, err, "ch01-run/README.md has no lines")
	assert.ErrorContains(t, err, "ch03-cgroups/README.md is out of date")
}

func TestCommandLine(t *testing.T) {
	root := tree(t, three())
	assert.EqualError(t, tour(root, "look"), `unknown command "look" (see tour --help)`)
	assert.EqualError(t, tour(root, "lock", "check"), "lock takes no arguments")
	assert.ErrorContains(t, tour(root, "check", "--lock"), "flag provided but not defined")
	assert.EqualError(t, tour(t.TempDir(), "lock"), "no stages here (run tour in the repository's root)")

	write(t, root, "ch02-pipe/run.go", "<<<<<<< ours")
	assert.ErrorContains(t, tour(root, "lock"), "reading ch02-pipe: run.go:3:1: ")
}
