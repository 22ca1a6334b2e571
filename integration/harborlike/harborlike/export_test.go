package main

// Execute is execute, for the tests.
var Execute = execute
