"""Runs the program of a NixOS test on the machine that this runs on: as much of NixOS's own driver as nix/test.nix uses.

Usage: driver.py PROGRAM
"""

import contextlib
import subprocess
import sys
import time

PATIENCE_S = 120
RETRY_S = 0.2  # NixOS's own driver tries again too, each second


class Machine:
    def execute(self, command):
        # As NixOS's driver has it.
        done = subprocess.run(
            ["bash", "-c", f"set -eo pipefail; {command}"], capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr * (done.returncode != 0)

    def succeed(self, command):
        status, output = self.execute(command)
        assert status == 0, f"{command} failed ({status}): {output}"
        return output

    def fail(self, command):
        status, output = self.execute(command)
        assert status != 0, f"{command} succeeded: {output}"
        return output

    def wait_until_succeeds(self, command):
        until = time.monotonic() + PATIENCE_S
        while True:
            status, output = self.execute(command)
            if status == 0:
                return output
            assert time.monotonic() < until, f"{command} does not come to succeed: {output}"
            time.sleep(RETRY_S)

    def wait_for_unit(self, unit):
        self.wait_until_succeeds(f"systemctl is-active {unit}")


@contextlib.contextmanager
def subtest(name):
    print(f"subtest: {name}", flush=True)
    yield


exec(compile(sys.argv[1], "nix/test.nix", "exec"), {"machine": Machine(), "subtest": subtest})
