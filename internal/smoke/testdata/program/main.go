// A program that does what the tests of package smoke ask for.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

func main() {
	what := strings.Join(os.Args[1:], " ")
	switch what {
	case "", "version":
		fmt.Println("program", runtime.GOARCH, "v1.2.3")
	case "exit":
		fmt.Println("leaving with 3")
		os.Exit(3)
	case "panic":
		panic("in main")
	case "hang":
		fmt.Println("hanging")
		time.Sleep(time.Hour)
	case "spam":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	case "bomb":
		for {
			_ = exec.Command("/proc/self/exe", "hang").Start()
		}
	case "children": // leaves one behind
		cmd := exec.Command("/proc/self/exe", "hang")
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	case "serve":
		l, err := net.Listen("tcp", "localhost:8080") // by /etc/hosts
		if err != nil {
			panic(err)
		}
		_, _ = l.Accept()
	case "where":
		host, _ := os.Hostname()
		wd, _ := os.Getwd()
		_, secret := os.Lstat("/work")
		_, home := os.Lstat("/root")
		_, null := os.ReadFile("/dev/null")
		wrote := os.WriteFile("/tmp/x", []byte("x"), 0o600)
		_, dial := net.DialTimeout("tcp", "192.0.2.1:80", time.Second)
		fmt.Printf("uid=%d gid=%d host=%s dir=%s env=%v\n", os.Getuid(), os.Getgid(), host, wd, os.Environ())
		fmt.Printf("outside=%v home=%v null=%v tmp=%v network=%v\n", secret, home, null, wrote, dial != nil)
		links, _ := net.Interfaces()
		processes, _ := os.ReadDir("/proc")
		n := 0
		for _, p := range processes {
			if p.Name()[0] >= '0' && p.Name()[0] <= '9' {
				n++
			}
		}
		fmt.Printf("interfaces=%d processes=%d\n", len(links), n)
	}
}
