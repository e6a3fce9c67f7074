//go:build linux

package container

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/record"
	"github.com/lixd/mydocker/final/internal/runtime"
)

func TestCreateTakesNames(t *testing.T) {
	s := Open(t.TempDir())
	first := &Container{ID: NewID(), Name: "web"}
	require.NoError(t, s.Create(first))
	second := &Container{ID: NewID(), Name: "web"}
	assert.EqualError(t, s.Create(second), `conflict. The container name "/web" is already in use by container "`+first.ID+`"`)
	assert.NoDirExists(t, second.Dir())
	entries, err := os.ReadDir(place(s.Root).making(""))
	require.NoError(t, err)
	assert.Empty(t, entries)

	// A name whose container was never made, or is gone, is free.
	require.NoError(t, os.Symlink(NewID(), place(s.Root).nameLink("left")))
	require.NoError(t, s.Create(&Container{ID: NewID(), Name: "left"}))

	require.NoError(t, first.Rename("site"))
	require.NoError(t, s.Create(second))
	found, err := s.Find("site")
	require.NoError(t, err)
	assert.Equal(t, first.ID, found.ID)
	assert.ErrorContains(t, second.Rename("site"), "already in use")
}

// TestOneTakesAName has a container with --rm and one without want the same name at once: their
// links are in different directories, so that the kernel does not keep one from taking it.
func TestOneTakesAName(t *testing.T) {
	s := Open(t.TempDir())
	s.Run = t.TempDir()
	var both []*Container
	for _, p := range s.places() {
		c := &Container{ID: NewID(), store: s, place: p}
		require.NoError(t, os.MkdirAll(p.making(c.ID), 0o700))
		lock, err := lockDir(p.making(c.ID), 0) // or it is taken for one whose maker was killed
		require.NoError(t, err)
		defer lock.Close()
		both = append(both, c)
	}
	for range 300 {
		taken := make(chan error)
		for _, c := range both {
			go func() { taken <- s.linkName(c, "same") }()
		}
		require.NotEqual(t, <-taken == nil, <-taken == nil)
		for _, c := range both {
			c.Name = "same"
			require.NoError(t, s.dropName(c))
		}
	}
}

func TestContainersWithRmEndWithTheMachine(t *testing.T) {
	s := Open(t.TempDir())
	s.Run = t.TempDir()
	passing := &Container{ID: NewID(), Name: "web", Config: Config{AutoRemove: true}}
	require.NoError(t, s.Create(passing))
	lasting := &Container{ID: NewID(), Name: "web"}
	assert.ErrorContains(t, s.Create(lasting), "already in use")
	lasting.Name = "site"
	require.NoError(t, s.Create(lasting))
	assert.ErrorContains(t, passing.Rename("site"), "already in use")
	for _, c := range []*Container{passing, lasting} {
		for _, given := range []string{c.ID, c.ShortID(), c.Name} {
			found, err := s.Find(given)
			require.NoError(t, err, given)
			assert.Equal(t, c.ID, found.ID, given)
		}
		assert.DirExists(t, c.Upper())
	}
	all, err := s.List()
	require.NoError(t, err)
	require.Len(t, all, 2)

	require.NoError(t, os.RemoveAll(s.Run))
	all, err = s.List()
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, s.Create(&Container{ID: NewID(), Name: "web", Config: Config{AutoRemove: true}}))
	assert.NoDirExists(t, passing.Upper())
	assert.DirExists(t, lasting.Upper())
}

func TestCreateWhileOthersLook(t *testing.T) {
	s := Open(t.TempDir())
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 200 {
			assert.NoError(t, s.Create(&Container{ID: NewID()}))
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		entries, _ := os.ReadDir(place(s.Root).making("")) // there is none at first
		for _, entry := range entries {
			isLocked(place(s.Root).making(entry.Name()))
		}
	}
}

func TestNamesAreMadeUp(t *testing.T) {
	s := Open(t.TempDir())
	for _, mood := range moods {
		for _, surname := range surnames { // all of them are taken
			require.NoError(t, s.Create(&Container{ID: NewID(), Name: mood + "_" + surname}))
		}
	}
	c := &Container{ID: NewID()}
	require.NoError(t, s.Create(c))
	assert.Regexp(t, "^[a-z]+_[a-z]+_"+c.ShortID()+"$", c.Name)
}

func TestFind(t *testing.T) {
	s := Open(t.TempDir())
	for id, name := range map[string]string{"abc1": "web", "abc2": "abc1x", "def": "abc2"} {
		require.NoError(t, s.Create(&Container{ID: id, Name: name}))
	}
	for given, want := range map[string]string{"abc1": "abc1", "web": "abc1", "/web": "abc1", "de": "def", "abc1x": "abc2", "abc2": "abc2"} {
		c, err := s.Find(given)
		require.NoError(t, err, given)
		assert.Equal(t, want, c.ID, given)
	}
	for given, want := range map[string]string{
		"":       `invalid name or ID supplied: ""`,
		"abc":    "multiple IDs found with provided prefix: abc",
		"nobody": "no such container: nobody",
		"../web": "no such container: ../web",
	} {
		_, err := s.Find(given)
		assert.EqualError(t, err, want)
	}
}

func TestUpdateLosesNothing(t *testing.T) {
	s := Open(t.TempDir())
	c := &Container{ID: NewID(), Name: "web"}
	require.NoError(t, s.Create(c))
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			mine := *c
			assert.NoError(t, mine.update(record.ReplaceFile, func(c *Container) { c.Status++ }))
		})
	}
	wait.Wait()
	now, err := s.Find("web")
	require.NoError(t, err)
	assert.Equal(t, 20, now.Status)
}

func TestState(t *testing.T) {
	start, err := runtime.StartTime(os.Getpid())
	require.NoError(t, err)
	then := time.Now()
	store := Open(t.TempDir())
	for want, c := range map[string]*Container{
		Created:  {},
		Running:  {Started: then, attended: true},
		Exited:   {Started: then, Finished: then, attended: true},
		Dead:     {Started: then, PID: os.Getpid(), PIDStart: start + 1},
		Removing: {Started: then, Finished: then, Removing: true},
	} {
		c.store = store
		assert.Equal(t, want, c.State())
	}
	before := &Container{Started: then, PID: os.Getpid(), PIDStart: start, Boot: "another"}
	assert.Equal(t, Dead, before.State())
}

func TestDamagedRecords(t *testing.T) {
	s := Open(t.TempDir())
	good := &Container{ID: NewID(), Name: "good"}
	require.NoError(t, s.Create(good))
	for name, content := range map[string]string{"broken": "{", "other": `{"Version": 1, "ID": "good"}`, "new": `{"ID": "new", "Version": 99}`, "gone": ""} {
		dir := place(s.Root).container(name + "-id")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Symlink(name+"-id", place(s.Root).nameLink(name)))
		if name != "gone" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile), []byte(content), 0o600))
		}
	}
	all, err := s.List()
	require.NoError(t, err)
	require.Len(t, all, 5)
	for name, reason := range map[string]string{
		"broken": "unexpected end of JSON input", "other": `it is about another, "good"`, "gone": "it is missing",
		"new": "it is of version 99, and this program knows 1",
	} {
		c, err := s.Find(name)
		require.EqualError(t, err, "reading the record of container "+name+"-id: "+reason+` ("mydocker rm -f `+name+`-id" removes it)`)
		assert.Equal(t, Dead, c.State())
		assert.Equal(t, err, c.Remove(false, false))
		require.NoError(t, c.Remove(true, false))
	}
	entries, err := os.ReadDir(place(s.Root).nameLink(""))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoError(t, good.Remove(false, false))
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"": unix.SIGTERM, "HUP": unix.SIGHUP, "SIGUSR1": unix.SIGUSR1, "kill": unix.SIGKILL, "15": unix.SIGTERM, "CLD": unix.SIGCHLD, "SIGIOT": unix.SIGABRT, "poll": unix.SIGIO,
		"RTMIN": 34, "SIGRTMIN+3": 37, "rtmax-1": 63, "SIGRTMAX": 64, "64": 64,
	} {
		got, err := ParseSignal(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"NONE", "0", "-1", "65", "9x", "SIG", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN3", "RTMIN+", "RT"} {
		_, err := ParseSignal(text)
		assert.EqualError(t, err, "invalid signal: "+text)
	}
}

func TestMergeEnv(t *testing.T) {
	assert.Equal(t, []string{"PATH=/bin", "A=2", "B=3", "C="}, MergeEnv([]string{"A=1", "B=1", "PATH=/bin"}, []string{"A=2", "C=", "B=3"})[:4])
}

func TestFindUser(t *testing.T) {
	s := Open(t.TempDir())
	layer := filepath.Join(s.Root, "layer", "etc")
	require.NoError(t, os.MkdirAll(layer, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(layer, "passwd"), []byte("root:x:0:0::/root:\nann:x:1000:1001::/home/ann:/bin/sh\nodd:x:no\n77:x:78:78::/:\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(layer, "group"), []byte("staff:x:50:ann,bob\nann:x:1001:\n"), 0o600))
	c := &Container{ID: NewID(), Config: Config{Layers: []string{"layer"}}}
	require.NoError(t, s.Create(c))

	for text, want := range map[string]runtime.User{
		"":          {Groups: []uint32{0}},
		"ann":       {UID: 1000, GID: 1001, Groups: []uint32{50, 1001}},
		"ann:":      {UID: 1000, GID: 1001, Groups: []uint32{50, 1001}},
		"1000":      {UID: 1000, GID: 1001, Groups: []uint32{50, 1001}},
		"ann:staff": {UID: 1000, GID: 50, Groups: []uint32{50}},
		"7":         {UID: 7, Groups: []uint32{0}},
		"7:8":       {UID: 7, GID: 8, Groups: []uint32{8}},
		"77":        {UID: 77, Groups: []uint32{0}}, // an ID, not the name of 78
	} {
		user, _, err := c.FindUser(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, user, text)
	}
	_, home, err := c.FindUser("ann")
	require.NoError(t, err)
	assert.Equal(t, "/home/ann", home)
	for text, want := range map[string]string{
		"nobody":     "unable to find user nobody: no matching entries in passwd file",
		"odd":        "unable to find user odd: no matching entries in passwd file",
		"ann:nobody": "unable to find group nobody: no matching entries in group file",
	} {
		_, _, err := c.FindUser(text)
		assert.EqualError(t, err, want)
	}
}

// TestFindUserWhereOverlayfsWould checks that users are looked up in all layers together, and that
// nothing of the host's is opened.
func TestFindUserWhereOverlayfsWould(t *testing.T) {
	const entry = "ann:x:1000:0::/:\n"
	s, host := Open(t.TempDir()), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(host, "passwd"), []byte(entry), 0o600))
	tests := map[string]struct {
		layers map[string]func(layer string) error // by the name, the topmost first
		found  bool
	}{
		"in the lower layer":            {map[string]func(string) error{"1": etc(""), "2": etc(entry)}, true},
		"behind an opaque directory":    {map[string]func(string) error{"1": opaque("etc"), "2": etc(entry)}, false},
		"behind a whiteout":             {map[string]func(string) error{"1": whiteout("etc/passwd"), "2": etc(entry)}, false},
		"behind a whiteout of etc":      {map[string]func(string) error{"1": whiteout("etc"), "2": etc(entry)}, false},
		"through an absolute link":      {map[string]func(string) error{"1": link("/store/passwd", "etc/passwd"), "2": file("store/passwd", entry)}, true},
		"through a link of etc":         {map[string]func(string) error{"1": link("/store", "etc"), "2": file("store/passwd", entry)}, true},
		"through a link of a layer":     {map[string]func(string) error{"1": etc(""), "2": link("../../../../store/passwd", "etc/passwd"), "3": file("store/passwd", entry)}, true},
		"through a link below the file": {map[string]func(string) error{"1": file("store/passwd", "bob:x:1:1::/:\n"), "2": link("/store/passwd", "etc/passwd"), "3": file("store/passwd", entry)}, false},
		"on the host":                   {map[string]func(string) error{"1": link(host, "etc")}, false},
		"a pipe":                        {map[string]func(string) error{"1": pipe("etc/passwd")}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := &Container{ID: NewID()}
			for _, layer := range slices.Sorted(maps.Keys(test.layers)) {
				layer, prepare := filepath.Join("layers", c.ID, layer), test.layers[layer]
				require.NoError(t, os.MkdirAll(filepath.Join(s.Root, layer, "etc"), 0o755))
				require.NoError(t, prepare(filepath.Join(s.Root, layer)))
				c.Config.Layers = append(c.Config.Layers, layer)
			}
			require.NoError(t, s.Create(c))
			_, _, err := c.FindUser("ann")
			assert.Equal(t, test.found, err == nil, "%v", err)
		})
	}
}

func file(name, content string) func(string) error {
	return func(layer string) error {
		path := filepath.Join(layer, name)
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600))
	}
}

func etc(passwd string) func(string) error {
	if passwd == "" {
		return func(string) error { return nil }
	}
	return file("etc/passwd", passwd)
}

func link(to, name string) func(string) error {
	return func(layer string) error {
		path := filepath.Join(layer, name)
		return errors.Join(os.RemoveAll(path), os.Symlink(to, path))
	}
}

func whiteout(name string) func(string) error {
	return func(layer string) error {
		path := filepath.Join(layer, name)
		return errors.Join(os.RemoveAll(path), unix.Mknod(path, unix.S_IFCHR, 0))
	}
}

func opaque(name string) func(string) error {
	return func(layer string) error {
		return unix.Setxattr(filepath.Join(layer, name), "trusted.overlay.opaque", []byte("y"), 0)
	}
}

func pipe(name string) func(string) error {
	return func(layer string) error { return unix.Mkfifo(filepath.Join(layer, name), 0o600) }
}

func TestReadEntries(t *testing.T) {
	members := strings.Repeat("somebody,", 20_000)
	text := "a:x:1:" + members + "ann\nb:x:2:" + members + "\r\n\nc:x:3: ann \n" + strings.Repeat("d", 1<<20) + "\ne:x:5:ann:" + strings.Repeat(":", 100) + "\nf:x:6:ann"
	var got []string
	for entry, isMember := range readEntries(strings.NewReader(text), "ann") {
		assert.LessOrEqual(t, len(entry), maxColumns)
		if isMember {
			got = append(got, entry[0]+entry[2])
		}
	}
	assert.Equal(t, []string{"a1", "c3", "e5", "f6"}, got)
}
