"""Runs tests of CPython's own suite and prints the outcome of each on a line of its own."""

import sys
import unittest

from test import support

# Nothing that leaves the machine, and nothing that needs a lot of it.
support.use_resources = ["cpu", "subprocess"]
support.verbose = 0


class Outcomes(unittest.TestResult):
    def say(self, outcome, test):
        sys.stdout.write(f"OUTCOME {outcome} {test.id()}\n")
        sys.stdout.flush()

    def addSuccess(self, test):
        self.say("ok", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say("FAIL", test)
        sys.stdout.write(self.failures[-1][1] + "\n")

    def addError(self, test, error):
        super().addError(test, error)
        self.say("ERROR", test)
        sys.stdout.write(self.errors[-1][1] + "\n")

    def addSkip(self, test, reason):
        self.say("skipped", test)

    def addExpectedFailure(self, test, error):
        self.say("expected-failure", test)

    def addUnexpectedSuccess(self, test):
        self.say("unexpected-success", test)


def main():
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite()
    for name in sys.argv[1:]:
        try:
            suite.addTest(loader.loadTestsFromName(name))
        except unittest.SkipTest as reason:
            print(f"OUTCOME skipped {name}")
    without_vsock(suite).run(Outcomes())
    print("ALL DONE", flush=True)


def without_vsock(suite):
    """In a virtual machine the tests of AF_VSOCK wait for a peer that never comes."""
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(without_vsock(test))
        elif "VSOCK" not in type(test).__name__:
            kept.addTest(test)
    return kept


if __name__ == "__main__":
    main()
