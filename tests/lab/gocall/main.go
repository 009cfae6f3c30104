// Command gocall posts three times to URL over the Unix socket SOCKET, by Go's own HTTP client, and prints the answers.
package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	socket, url := os.Args[1], os.Args[2]
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	for range 3 {
		response, err := client.Post(url, "text/plain", strings.NewReader("amount=1"))
		if err != nil {
			panic(err)
		}
		io.Copy(os.Stdout, response.Body)
		response.Body.Close()
	}
}
