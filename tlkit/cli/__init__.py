"""The command line: parse, make a spec, call, print; no logic of its own."""
