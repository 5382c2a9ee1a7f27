"""Imports under random failures, from a seed, and a check of every user after each of them.

`python -m chaos` plays rounds. In each, one import runs in one or more processes while faults are
injected at moments spread over its life; then things may recover, and the whole database is
compared with what the source holds. The seed and a round's number make the same plan again; how
the processes' work interleaves with it is the machine's, so a failure may take a few tries.
"""
