//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "mydocker: containers are made of Linux namespaces; run it on Linux (see the Vagrantfile)")
	os.Exit(125)
}
