//go:build linux

package record

import (
	"bytes"
	"reflect"
	"strings"
	"unicode/utf8"
)

// JSON's strings must be UTF-8, and paths, arguments, host names and labels need not be. A byte that
// is not part of UTF-8 becomes one of the last 128 code points, U+10FF80 to U+10FFFF, which are for
// private use, and so does each byte of a text that has one of these. So all strings in a record
// survive byte for byte, whatever type they have.

const firstByte = 0x10FF00 // plus a byte from 0x80 on

func isByte(r rune) bool { return r >= firstByte+utf8.RuneSelf }

// mayHaveBytes reports whether JSON that was made without escapeBytes may need it, or has been made
// with it.
func mayHaveBytes(data []byte) bool {
	return bytes.Contains(data, []byte(`\ufffd`)) || // what package json writes for such a byte
		bytes.Contains(data, []byte("\xf4\x8f\xbe")) || bytes.Contains(data, []byte("\xf4\x8f\xbf"))
}

func escapeBytes(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if size == 1 && r == utf8.RuneError || isByte(r) {
			for _, b := range []byte(text[:size]) {
				out.WriteRune(firstByte + rune(b))
			}
		} else {
			out.WriteString(text[:size])
		}
		text = text[size:]
	}
	return out.String()
}

func unescapeBytes(text string) string {
	var out strings.Builder
	for _, r := range text {
		if isByte(r) {
			out.WriteByte(byte(r))
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// mapStrings returns a copy of a value with f applied to all strings in it.
func mapStrings(v reflect.Value, f func(string) string) reflect.Value {
	switch v.Kind() {
	case reflect.String:
		return reflect.ValueOf(f(v.String())).Convert(v.Type())
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		mapped := reflect.New(v.Type().Elem())
		mapped.Elem().Set(mapStrings(v.Elem(), f))
		return mapped
	case reflect.Slice:
		if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
			return v
		}
		mapped := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			mapped.Index(i).Set(mapStrings(v.Index(i), f))
		}
		return mapped
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		mapped := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			mapped.SetMapIndex(mapStrings(key, f), mapStrings(value, f))
		}
		return mapped
	case reflect.Struct:
		mapped := reflect.New(v.Type()).Elem()
		mapped.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				mapped.Field(i).Set(mapStrings(v.Field(i), f))
			}
		}
		return mapped
	default:
		return v
	}
}
