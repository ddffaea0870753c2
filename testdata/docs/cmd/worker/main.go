package main

var version = "devel"

func main() { println("worker", version) }
