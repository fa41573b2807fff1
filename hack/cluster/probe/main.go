// Command probe is all that the pods of tests need, in one static file: the pause container of each pod, a web server,
// and small things to do inside a pod.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `probe pause                     hold a pod's namespaces until SIGTERM
probe serve ADDRESS TEXT        answer TEXT to each HTTP request
probe get URL [SECONDS]         print what URL answers, asking until it does, 30 seconds at most
probe write FILE TEXT           write TEXT into FILE
probe read FILE                 print FILE
probe eat MEBIBYTES             fill memory, then hold it until SIGTERM
probe exit CODE                 end with CODE`

func main() {
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "pause")
	}
	arguments := append(os.Args[2:], "", "", "")
	if err := run(os.Args[1], arguments); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, arguments []string) error {
	switch command {
	case "pause":
		signal.Ignore(syscall.SIGCHLD) // whose parent has ended is this one's child, and leaves no zombie
		waitForEnd()
		return nil
	case "serve":
		return serve(arguments[0], arguments[1])
	case "get":
		seconds, err := strconv.Atoi(arguments[1])
		if err != nil {
			seconds = 30
		}
		return get(arguments[0], time.Duration(seconds)*time.Second)
	case "write":
		if err := os.MkdirAll(filepath.Dir(arguments[0]), 0o777); err != nil {
			return err
		}
		return os.WriteFile(arguments[0], []byte(arguments[1]), 0o666)
	case "read":
		text, err := os.ReadFile(arguments[0])
		fmt.Print(string(text))
		return err
	case "eat":
		return eat(arguments[0])
	case "exit":
		code, err := strconv.Atoi(arguments[0])
		if err == nil {
			os.Exit(code)
		}
		return err
	}
	return fmt.Errorf("%s", usage)
}

func waitForEnd() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}

func serve(address, text string) error {
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, text)
	})}
	go func() {
		waitForEnd()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func get(url string, patience time.Duration) error {
	client := &http.Client{Timeout: 2 * time.Second}
	deadline := time.Now().Add(patience)
	for {
		answer, err := client.Get(url)
		if err == nil {
			defer answer.Body.Close()
			_, err = io.Copy(os.Stdout, answer.Body)
			return err
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func eat(mebibytes string) error {
	count, err := strconv.Atoi(mebibytes)
	if err != nil {
		return err
	}
	var held strings.Builder
	for range count {
		held.Write([]byte(strings.Repeat("x", 1<<20)))
	}
	waitForEnd()
	fmt.Println(held.Len())
	return nil
}
