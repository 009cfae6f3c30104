// Holds the namespaces of a pod, or of the lab's whole node: it waits, reaps who is left to it, and ends when told to.
// As process 1 of a pid namespace its end is the end of all others there.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The kernel reaps the children of who ignores their end.
	signal.Ignore(syscall.SIGCHLD)
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	<-told
}
