package main

var version = "devel"

func main() { println("app", version) }
