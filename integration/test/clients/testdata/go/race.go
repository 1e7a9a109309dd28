package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/AzureAD/microsoft-authentication-extensions-for-go/cache/accessor/file"
)

// race is race.py, in MSAL's extension for Go.
func race(args []string) error {
	cache, err := file.New(args[1])
	if err != nil {
		return err
	}
	ctx := context.Background()
	if args[0] == "save" {
		over := make(chan struct{})
		go func() { io.Copy(io.Discard, os.Stdin); close(over) }()
		for n := 1; ; n++ {
			if err := cache.Write(ctx, saved(n)); err != nil {
				return err
			}
			select {
			case <-over:
				return nil
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var empty, halves, versions, last int
	for range count {
		b, err := cache.Read(ctx)
		if err != nil {
			return err
		}
		number, _, _ := bytes.Cut(b, []byte(":"))
		n, err := strconv.Atoi(string(number))
		switch {
		case len(b) == 0:
			empty++
		case err != nil || !bytes.Equal(b, saved(n)):
			halves++
		case n != last:
			versions, last = versions+1, n
		}
	}
	fmt.Println(empty, halves, versions)
	return nil
}

func saved(n int) []byte {
	return fmt.Appendf(nil, "%d:%s:%d", n, bytes.Repeat([]byte("x"), 500+n*7919%60000), n)
}
