package main

var version = "devel"

func main() { println("api", version) }
