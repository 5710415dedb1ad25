"""The server under test: is it there, is it ours, is it idle."""
