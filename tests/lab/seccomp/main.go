// Prints a seccomp profile as a container's runtime gets it: the published one of Docker and containerd, or the one in a file of
// the same form, with what it makes of this machine's architecture and kernel and of a container without any capability.
// Judges nothing.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	if err := printProfile(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(1)
	}
}

func printProfile(files []string) error {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	var profile *specs.LinuxSeccomp
	var err error
	switch len(files) {
	case 0:
		profile, err = seccomp.GetDefaultProfile(spec)
	case 1:
		var text []byte
		if text, err = os.ReadFile(files[0]); err == nil {
			profile, err = seccomp.LoadProfile(string(text), spec)
		}
	default:
		err = fmt.Errorf("one file, or none for the default profile")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(profile)
}
