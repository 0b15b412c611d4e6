// A web server and its client in one: prints what it saw. Go makes its system calls itself.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	var group sync.WaitGroup
	same := make([]bool, 20)
	for n := range same {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			body := make([]byte, n*10000)
			rand.Read(body)
			answer, err := http.Post("http://"+listener.Addr().String(), "application/octet-stream", bytes.NewReader(body))
			check(err)
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			check(err)
			same[n] = bytes.Equal(body, got)
		}(n)
	}
	group.Wait()
	fmt.Println(same)
	fmt.Println("go done")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
