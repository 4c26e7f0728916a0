// A small S3-compatible server for tests: in memory, one bucket, signatures verified. Prints the address it listens on.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

func main() {
	backend := s3mem.New()
	if err := backend.CreateBucket(context.Background(), os.Getenv("S3_BUCKET")); err != nil {
		panic(err)
	}
	keys := map[string]string{os.Getenv("S3_KEY"): os.Getenv("S3_SECRET")}
	server := gofakes3.New(backend, gofakes3.WithV4Auth(keys))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().String())
	panic(http.Serve(listener, server.Server()))
}
