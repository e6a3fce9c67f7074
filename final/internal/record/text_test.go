//go:build linux

package record

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type Inner struct{ Path string }

type outer struct {
	Version int
	Inner
	List    []Inner
	Map     map[string]string
	Pointer *Inner
	Missing *Inner
	Raw     []byte
	Time    time.Time
	Address netip.Addr
	Named   named
}

type named string

func texts(text string) *outer {
	return &outer{
		Version: 1, Inner: Inner{text}, List: []Inner{{text}, {"x"}}, Map: map[string]string{text: text}, Pointer: &Inner{text},
		Raw: []byte(text), Time: time.Unix(1, 0).UTC(), Address: netip.MustParseAddr("10.1.2.3"), Named: named(text),
	}
}

func TestStringsSurvive(t *testing.T) {
	for _, text := range []string{
		"", "plain", "世界\n\x00<>&", "\xff\xfe", "/caf\xe9/\xc3", "�", `\ufffd`, "\U0010FF80", "\U0010FFFF\xff", "\xf4\x8f\xbe", "\xed\xa0\x80",
	} {
		value := texts(text)
		data, err := Encode(value)
		require.NoError(t, err)
		var got outer
		require.NoError(t, Parse(data, &got, &got.Version, 1))
		assert.Equal(t, *value, got, "%q", text)
		assert.Equal(t, texts(text), value, "it was not changed")
	}
}

func FuzzStrings(f *testing.F) {
	f.Add("/caf\xe9\U0010FF80")
	f.Fuzz(func(t *testing.T, text string) {
		assert.Equal(t, text, unescapeBytes(escapeBytes(text)))
		data, err := Encode(texts(text))
		require.NoError(t, err)
		var got outer
		require.NoError(t, Parse(data, &got, &got.Version, 1))
		assert.Equal(t, *texts(text), got)
	})
}
